package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/lb"
)

// fiveThousand is a record as large as they get: every address of a large cluster announced by one node.
func fiveThousand(v6 bool) record {
	r := record{stamp: stamp{1, 1}, Member: many(5000, 300)}
	r.Node = "node-1"
	for i := range r.Claims {
		if a := r.Claims[i].Addr.As4(); v6 {
			r.Claims[i].Addr = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: a[2], 15: a[3]})
		}
	}
	return r
}

func TestRecordsAreCompact(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		r := fiveThousand(v6)
		if n := len(encode(r)); n > 100_000 {
			t.Errorf("5,000 claims (IPv6: %t) take %d bytes", v6, n)
		}
		moved := r
		moved.version, moved.Claims = 2, slices.Clone(r.Claims)
		moved.Claims[7].Epoch++
		if n := len(encode(moved.since(r))); n > 100 {
			t.Errorf("one claim of 5,000 (IPv6: %t) takes %d bytes", v6, n)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	r := fiveThousand(false)
	for b.Loop() {
		encode(r)
	}
	b.ReportMetric(float64(len(encode(r))), "bytes")
}

func BenchmarkDecode(b *testing.B) {
	wire := encode(fiveThousand(false))
	for b.Loop() {
		if _, err := decode(wire); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDifference(b *testing.B) {
	old := fiveThousand(false)
	r := old
	r.version, r.Claims = 2, slices.Clone(old.Claims)
	r.Claims[7].Epoch++
	for b.Loop() {
		d, err := decode(encode(r.since(old)))
		if err != nil {
			b.Fatal(err)
		}
		if _, ok := d[0].on(old); !ok {
			b.Fatal("not applied")
		}
	}
}

// BenchmarkReachTen measures on real sockets how long a change takes to all of ten members, each with 500 claims.
func BenchmarkReachTen(b *testing.B) {
	const n = 10
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	changed := make(chan struct{}, 1)
	var all []*Gossip
	var peers []netip.AddrPort
	done := make(chan error, n)
	for i := range n {
		peers = append(peers, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 77, byte(1 + i)}), 17947))
	}
	for i := range n {
		g, err := New(Options{Node: lb.NodeName(fmt.Sprintf("node-%d", i)), Bind: peers[i], Keys: []keyring.Key{testKey(7)}, Log: slog.New(slog.DiscardHandler),
			Changed: func() {
				select {
				case changed <- struct{}{}:
				default:
				}
			}, Peers: func(context.Context) ([]netip.AddrPort, error) { return peers, nil }})
		if err != nil {
			b.Fatal(err)
		}
		g.SetSelf(many(500, 1))
		all = append(all, g)
		go func() { done <- g.Run(ctx) }()
	}
	everywhere := func(ok func(lb.Member) bool) {
		for slices.ContainsFunc(all[1:], func(g *Gossip) bool {
			members := g.Members()
			return len(members) != n || !ok(members[0])
		}) {
			select {
			case <-changed:
			case <-time.After(time.Millisecond):
			}
		}
	}
	everywhere(func(m lb.Member) bool { return len(m.Claims) == 500 })
	epoch := uint64(1)
	for b.Loop() {
		epoch++
		m := many(500, 1)
		m.Claims[0].Epoch, m.Suspects = epoch, []lb.NodeName{"node-3"}
		all[0].SetSelf(m)
		everywhere(func(m lb.Member) bool { return m.Claims[0].Epoch == epoch })
	}
	cancel()
	for range n {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}
