package unnumbered

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/announce/bgp"
)

type fake struct{ want bgp.State }

func (f *fake) Set(s bgp.State)               { f.want = s }
func (f *fake) Report() bgp.Report            { return bgp.Report{} }
func (f *fake) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func TestPeersGetTheirAddresses(t *testing.T) {
	f := &fake{}
	r := New(f, slog.New(slog.DiscardHandler))
	one, two, now := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::2"), time.Unix(100, 0)
	numbered := bgp.Peer{Name: "a", Addr: netip.MustParseAddr("192.0.2.2")}
	bare := bgp.Peer{Name: "b", Interface: "eth1"}
	r.Set(bgp.State{Peers: []bgp.Peer{numbered, bare}})
	want := func(step, addr string) {
		t.Helper()
		got := ""
		if f.want.Peers[1].Addr.IsValid() {
			got = f.want.Peers[1].Addr.String()
		}
		if got != addr || f.want.Peers[0].Addr != numbered.Addr {
			t.Errorf("%s: peers are at %v and %q, want %q", step, f.want.Peers[0].Addr, got, addr)
		}
	}
	want("nobody was heard", "")
	r.heard("eth0", two, now)
	want("somebody on another interface", "")
	r.heard("eth1", one, now)
	want("the first", "fe80::1%eth1")
	r.heard("eth1", two, now.Add(forget-1))
	want("another one, while the first is there", "fe80::1%eth1")
	r.heard("eth1", one, now.Add(forget))
	r.heard("eth1", two, now.Add(2*forget-1))
	want("the first was heard since", "fe80::1%eth1")
	r.heard("eth1", two, now.Add(2*forget))
	want("the first is silent", "fe80::2%eth1")
	r.Set(bgp.State{Peers: []bgp.Peer{numbered}})
	r.Set(bgp.State{Peers: []bgp.Peer{numbered, bare}})
	want("wanted anew", "")
}

func TestWhoAdvertises(t *testing.T) {
	ll := netip.MustParseAddr("fe80::1")
	good := advertise([]byte{2, 0, 0, 0, 0, 1})
	for _, c := range []struct {
		name   string
		packet []byte
		from   netip.Addr
		hops   int
		want   bool
	}{
		{"good", good, ll, 255, true},
		{"forwarded", good, ll, 254, false},
		{"from a global address", good, netip.MustParseAddr("2001:db8::1"), 255, false},
		{"a solicitation", solicit(nil), ll, 255, false},
		{"short", good[:15], ll, 255, false},
		{"empty", nil, ll, 255, false},
	} {
		if got, ok := advertiser(c.packet, c.from, c.hops); ok != c.want || ok && got != ll {
			t.Errorf("%s: %v, %t", c.name, got, ok)
		}
	}
	if good[6] != 0 || good[7] != 0 {
		t.Error("the advertisement makes us a default router")
	}
}

func FuzzAdvertiser(f *testing.F) {
	f.Add(advertise(nil), 255)
	f.Fuzz(func(t *testing.T, packet []byte, hops int) {
		if _, ok := advertiser(packet, netip.MustParseAddr("fe80::1"), hops); ok && (hops != 255 || len(packet) < 16) {
			t.Errorf("%x with hop limit %d is accepted", packet, hops)
		}
	})
}
