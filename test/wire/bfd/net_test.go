//go:build wire

package bfd

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/bfd"
	"github.com/fairlead-lb/fairlead/bfd/udp"
	"github.com/fairlead-lb/fairlead/test/bed"
	"github.com/fairlead-lb/fairlead/test/router"
)

const ms = time.Millisecond

// patience is the bound of whatever should take well under a second.
const patience = 20 * time.Second

// The addresses: we, the peer on our link, and the peer behind a router.
var (
	us4, us6     = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	near4, near6 = netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")
	far4, far6   = netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("2001:db8:1::2")
)

// host is a network namespace with an eth0.
type host struct {
	*router.Host
	t *testing.T
}

func newHost(t *testing.T) *host {
	t.Helper()
	return &host{router.NewHost(t), t}
}

// cable connects two namespaces, nil = ours, by devices of the given names; the first half of the addresses is a's.
func cable(t *testing.T, a *host, adev string, b *host, bdev string, addrs ...string) {
	t.Helper()
	var first *router.Host
	if a != nil {
		first = a.Host
	}
	half := len(addrs) / 2
	router.Cable(t, first, adev, addrs[:half], b.Host, bdev, addrs[half:])
}

// link is a peer's namespace on the other end of our cable v0.
func link(t *testing.T) *host {
	t.Helper()
	h := newHost(t)
	cable(t, nil, "v0", h, "eth0", us4.String()+"/24", us6.String()+"/64", near4.String()+"/24", near6.String()+"/64")
	return h
}

// routed is a peer's namespace behind a router.
func routed(t *testing.T) *host {
	t.Helper()
	r, h := newHost(t), newHost(t)
	cable(t, nil, "v0", r, "in", us4.String()+"/24", us6.String()+"/64", "192.0.2.254/24", "2001:db8::fe/64")
	cable(t, r, "out", h, "eth0", "198.51.100.254/24", "2001:db8:1::fe/64", far4.String()+"/24", far6.String()+"/64")
	r.Within(func() error { return bed.Set("ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1") })
	must(t, "ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.254")
	must(t, "ip", "route", "add", "2001:db8:1::/64", "via", "2001:db8::fe")
	h.Run("ip", "route", "add", "default", "via", "198.51.100.254")
	h.Run("ip", "route", "add", "default", "via", "2001:db8:1::fe")
	return h
}

// cut pulls or plugs our end of the cable without a loss of carrier's being told to the sockets: nothing gets through.
func cut(t *testing.T, h *host, off bool) {
	t.Helper()
	h.Cut("eth0", off)
}

// group is a Group of ours in this process, and what it has reported.
type group struct {
	*udp.Group
	t    *testing.T
	stop func()
	mu   sync.Mutex
	list []change
}

type change struct {
	udp.Peer
	bfd.Event
}

func start(t *testing.T, o udp.Options, want map[udp.Peer]udp.Config) *group {
	t.Helper()
	g := &group{t: t}
	o.Name, o.Registerer, o.Log = "test", prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	o.Changed = func(p udp.Peer, e bfd.Event) { g.mu.Lock(); defer g.mu.Unlock(); g.list = append(g.list, change{p, e}) }
	var err error
	g.Group, err = udp.New(o)
	check(t, err)
	check(t, g.Set(want))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	g.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(g.stop)
	return g
}

// next waits for a change to a state after a time and returns it.
func (g *group) next(p udp.Peer, to bfd.State, after time.Time) bfd.Event {
	g.t.Helper()
	var found bfd.Event
	until(g.t, fmt.Sprintf("%s going %s; %+v", p, to, g.Sessions()[p]), func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, c := range g.list {
			if c.Peer == p && c.To == to && c.At.After(after) {
				found = c.Event
				return true
			}
		}
		return false
	})
	return found
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * ms) {
		if time.Now().After(end) {
			t.Fatalf("after %s not: %s", patience, what)
		}
	}
}

// short is a new directory with a short path: unix sockets go there.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "bfd")
	check(t, err)
	check(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	check(t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

func must(t *testing.T, args ...string) {
	t.Helper()
	check(t, run(args...))
}

func run(args ...string) error {
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("running %v: %w: %s", args, err, out)
	}
	return nil
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
