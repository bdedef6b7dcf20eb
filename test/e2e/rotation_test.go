//go:build e2e

package e2e

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/election/gossip"
	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/lb"
	"github.com/fairlead-lb/fairlead/test/cluster"
)

// strangerEnv makes this test's program a member of the gossip instead: address and port to bind, the key in hexadecimal, and
// the speakers' addresses and ports, with spaces between. Its output is the number of members that it sees.
const strangerEnv = "FAIRLEAD_E2E_STRANGER"

const strangerStays = 5 * time.Second

func runStranger(args string) error {
	f := strings.Fields(args)
	secret, err := hex.DecodeString(f[1])
	if err != nil {
		return err
	}
	key, err := keyring.New(secret)
	if err != nil {
		return err
	}
	var peers []netip.AddrPort
	for _, s := range f[2:] {
		peers = append(peers, netip.MustParseAddrPort(s))
	}
	g, err := gossip.New(gossip.Options{Node: "stranger", Bind: netip.MustParseAddrPort(f[0]), Keys: []keyring.Key{key}, Log: slog.New(slog.DiscardHandler),
		Changed: func() {}, Peers: func(context.Context) ([]netip.AddrPort, error) { return peers, nil }})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), strangerStays*cluster.Slow())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	most := 0
	for ctx.Err() == nil {
		most = max(most, len(g.Members()))
		time.Sleep(100 * time.Millisecond)
	}
	fmt.Print(most)
	return <-done
}

// stranger runs a member with that key on the client and returns how many members it saw, itself included.
func stranger(t *testing.T, key []byte) string {
	t.Helper()
	args := []string{"192.0.2.100:7947", hex.EncodeToString(key)}
	for _, p := range speakers(t) {
		args = append(args, p.Status.PodIP+":7947")
	}
	exe, err := os.Executable()
	must(t, err)
	out, err := lab.Exec(t.Context(), "client", "env", strangerEnv+"="+strings.Join(args, " "), exe)
	must(t, err)
	return out
}

// membersSeen returns what each node's speaker says about who is a member.
func membersSeen(t *testing.T, node string) []string {
	t.Helper()
	out, err := lab.Exec(t.Context(), node, "curl", "-fsS", "http://127.0.0.1:9381/debug/decisions")
	must(t, err)
	var v struct{ Members []struct{ Node lb.NodeName } }
	must(t, json.Unmarshal([]byte(out), &v))
	var names []string
	for _, m := range v.Members {
		names = append(names, string(m.Node))
	}
	return names
}

func gossipSecret(t *testing.T) *corev1.Secret {
	t.Helper()
	var s corev1.Secret
	must(t, lab.Client.Get(t.Context(), client.ObjectKey{Namespace: "fairlead-system", Name: "fairlead-gossip"}, &s))
	return &s
}

// A rotation from end to end: no connection fails, nobody drops out, and afterwards the old key opens nothing.
func TestKeyRotationLosesNothing(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "192.0.2.165/32")
	deployment(t, ns, "web", 3)
	target := address(t, service(t, ns, "web"))
	answers(t, target)
	old := gossipSecret(t).Data[keyring.EntryKey]

	wait := meanwhile(t, target, 10*time.Millisecond, 0)
	start := time.Now()
	_, err := lab.Fairlab(t.Context(), "kubectl", "-n", "fairlead-system", "annotate", "secret", "fairlead-gossip", "fairlead.dev/rotate=true")
	must(t, err)
	seen := ""
	eventually(t, 3*time.Minute, func() error {
		for _, n := range nodes {
			if got := membersSeen(t, n); !slices.Equal(got, nodes) {
				t.Errorf("%s after %s: members are %v", n, time.Since(start).Round(time.Second), got)
			}
		}
		if got := strings.Join(slices.Sorted(maps.Keys(gossipSecret(t).Data)), " "); got != seen {
			t.Logf("after %s the Secret holds: %s", time.Since(start).Round(time.Second), got)
			seen = got
		}
		if seen != "key" || string(gossipSecret(t).Data[keyring.EntryKey]) == string(old) {
			return fmt.Errorf("the Secret holds %s", seen)
		}
		return nil
	})
	eventually(t, time.Minute, func() error {
		for node, metrics := range onEveryNode(t, "curl", "-fsS", "http://127.0.0.1:9381/metrics") {
			if !strings.Contains(metrics, "fairlead_gossip_keys 1\n") {
				return fmt.Errorf("%s still holds the old key", node)
			}
		}
		return nil
	})
	outlived(t, wait())
	if got := stranger(t, old); got != "1" && got != "0" {
		t.Errorf("with the old key a stranger sees %s members", got)
	}
	if got, want := stranger(t, gossipSecret(t).Data[keyring.EntryKey]), fmt.Sprint(len(nodes)+1); got != want {
		t.Errorf("with the current key one sees %s members, want %s: the check above proves nothing", got, want)
	}
}
