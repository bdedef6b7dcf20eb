//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/test/cluster"
)

var (
	lab   *cluster.Lab
	nodes = []string{"node-1", "node-2", "node-3"}
)

func engine() string { return cmp.Or(os.Getenv("FAIRLEAD_E2E_ENGINE"), "nft") }

func TestMain(m *testing.M) {
	os.Exit(func() int {
		ctx := context.Background()
		if err := setUp(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "starting the lab:", err)
			return 1
		}
		code := m.Run()
		if err := lab.Down(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the lab:", err)
			return 1
		}
		return code
	}())
}

func setUp(ctx context.Context) error {
	bin, err := filepath.Abs(filepath.Join("..", "..", "bin"))
	if err != nil {
		return err
	}
	const name = "e2e"
	if err := (&cluster.Lab{Name: name, Bin: bin}).Down(ctx); err != nil {
		return err
	}
	proxy := cmp.Or(os.Getenv("FAIRLEAD_E2E_KUBE_PROXY"), "nftables")
	if lab, err = cluster.Start(ctx, bin, name, "--nodes", fmt.Sprint(len(nodes)), "--kube-proxy", proxy); err != nil {
		return err
	}
	_, err = lab.Fairlab(ctx, "install", "--set", "datapath.engine="+engine())
	return err
}

// eventually fails the test unless check returns nil within limit, stretched on slow machines.
func eventually(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	if err := cluster.Until(t.Context(), limit, check); err != nil {
		t.Fatal(err)
	}
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// onEveryNode runs a command on all nodes that are up and returns the outputs by node.
func onEveryNode(t *testing.T, command ...string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, n := range nodes {
		s, err := lab.Exec(t.Context(), n, command...)
		must(t, err)
		out[n] = strings.TrimSpace(s)
	}
	return out
}
