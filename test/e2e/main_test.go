//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/test/cluster"
)

var (
	lab   *cluster.Lab
	nodes []string // node-1, node-2, ...
)

// noLab as the lab's name says that every test that runs makes its own.
const noLab = "none"

func engine() string { return cmp.Or(os.Getenv("FAIRLEAD_E2E_ENGINE"), "nft") }

func TestMain(m *testing.M) {
	if args := os.Getenv(strangerEnv); args != "" {
		if err := runStranger(args); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
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
	count, err := strconv.Atoi(cmp.Or(os.Getenv("FAIRLEAD_E2E_NODES"), "3"))
	if err != nil || count < 2 {
		return fmt.Errorf("FAIRLEAD_E2E_NODES is %q, want 2 or more", os.Getenv("FAIRLEAD_E2E_NODES"))
	}
	for i := range count {
		nodes = append(nodes, fmt.Sprintf("node-%d", i+1))
	}
	bin, err := filepath.Abs(filepath.Join("..", "..", "bin"))
	if err != nil {
		return err
	}
	name := cmp.Or(os.Getenv("FAIRLEAD_E2E_LAB"), "e2e")
	if lab = (&cluster.Lab{Name: name, Bin: bin}); name == noLab {
		return nil
	}
	start := time.Now()
	if err := lab.Down(ctx); err != nil {
		return err
	}
	proxy := cmp.Or(os.Getenv("FAIRLEAD_E2E_KUBE_PROXY"), "nftables")
	router := cmp.Or(os.Getenv("FAIRLEAD_E2E_ROUTER"), "frr")
	if lab, err = cluster.Start(ctx, bin, name, "--nodes", strconv.Itoa(count), "--kube-proxy", proxy, "--router", router); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "lab up with %d nodes after %.0f s\n", count, time.Since(start).Seconds())
	err = install(ctx)
	fmt.Fprintf(os.Stderr, "fairlead installed after %.0f s\n", time.Since(start).Seconds())
	return err
}

// install installs Fairlead, or upgrades it, with further values of the chart (key=value). Keys of the gossip rotate as fast as they may,
// once somebody asks for it.
func install(ctx context.Context, values ...string) error {
	// On a slow machine the speakers get slower clocks as well: there a healthy one may need long to answer a probe.
	interval, timeout := 200*time.Millisecond*cluster.Slow(), 80*time.Millisecond*cluster.Slow()
	_, err := lab.Fairlab(ctx, "install", "--timeout", (5 * time.Minute * cluster.Slow()).String(), "--set", strings.Join(append([]string{
		"datapath.engine=" + engine(),
		fmt.Sprintf("gossip.probeInterval=%s,gossip.probeTimeout=%s", interval, timeout),
		fmt.Sprintf("gossip.keyInstallWait=%s,gossip.keyRetireWait=%s", keyring.MinWait, keyring.MinWait),
		fmt.Sprintf("heartbeat.interval=%s", 50*time.Millisecond*cluster.Slow()),
	}, values...), ","))
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
