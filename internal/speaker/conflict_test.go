package speaker

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

var strange = lb.MAC{2, 0, 0, 0, 0, 0x66}

func TestJudgeStranger(t *testing.T) {
	now := time.Unix(1000, 0)
	tests := []struct {
		name       string
		blocks     bool
		ago        time.Duration
		unknown    bool
		announced  bool
		gone, tell bool
	}{
		{name: "countered a moment ago", announced: true},
		{name: "countered, silent", announced: true, ago: quiet, gone: true, tell: true},
		{name: "countered, and the address is elsewhere now", ago: quiet, gone: true},
		{name: "has it", blocks: true},
		{name: "had it", blocks: true, announced: true, gone: true, tell: true},
		{name: "has it, for others to find out", blocks: true, ago: quiet, gone: true},
		{name: "no Service has the address any more", blocks: true, unknown: true, gone: true},
	}
	for _, tt := range tests {
		x := stranger{mac: strange, blocks: tt.blocks, seen: now.Add(-tt.ago)}
		if gone, tell := x.judge(announce.Decision{Announce: tt.announced}, !tt.unknown, now); gone != tt.gone || tell != tt.tell {
			t.Errorf("%s: gone %t, tell %t", tt.name, gone, tell)
		}
	}
}

// TestAStrangerThatHasTheAddress is about a conflict from the first probe to its end. The fake announcer has no probes of its
// own: it does not reach what is taken.
func TestAStrangerThatHasTheAddress(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.nodes["n1"]
		take := func(mac ...lb.MAC) {
			w.mu.Lock()
			n.taken = map[netip.Addr]lb.MAC{}
			for _, m := range mac {
				n.taken[vip2] = m
			}
			n.events = nil
			w.mu.Unlock()
			if len(mac) > 0 {
				n.Conflict(vip2, "eth0", mac[0])
			}
			n.Trigger()
			pass(100 * time.Millisecond)
		}
		take(strange)
		w.change(func(f *kube.Facts) {
			f.Services = append([]lb.Service{service(dns, vip2)}, f.Services...)
			f.Endpoints.Set(dns, []lb.Endpoint{endpoint("n1")})
		})
		pass(100 * time.Millisecond)
		take(strange) // at the next attempt
		d := n.status.Load().Decisions[1]
		if d.VIP != vip2 || d.Announce || d.Reason != lb.AddressConflict || !strings.Contains(d.Message, "02:00:00:00:00:66") {
			t.Errorf("decided %s", d)
		}
		if len(n.member.Claims) != 1 || n.status.Load().Strangers[vip2] != strange {
			t.Errorf("claims %v, strangers %v", n.member.Claims, n.status.Load().Strangers)
		}
		take(strange)
		if len(n.events) != 0 {
			t.Errorf("told twice: %q", n.events)
		}
		take()
		want := []string{
			"default/dns false AddressConflictOver: 192.0.2.201 is no longer used by 02:00:00:00:00:66; n1 announces it",
			"default/dns false Announcing: n1 announces 192.0.2.201 on eth0",
		}
		slices.Sort(n.events)
		if d := cmp.Diff(want, n.events); d != "" || len(n.status.Load().Strangers) != 0 {
			t.Errorf("strangers %v, events after it has left (-want +got):\n%s", n.status.Load().Strangers, d)
		}
		take(lb.MAC{2, 0, 0, 0, 0, 7})
		before := len(n.events)
		w.mu.Lock()
		n.links[0].MAC = lb.MAC{2, 0, 0, 0, 0, 7} // it was a speaker that nobody knew yet; any will do
		w.mu.Unlock()
		n.linksChanged.Store(true)
		n.Trigger()
		pass(100 * time.Millisecond)
		if st := n.status.Load(); len(st.Strangers) != 0 || len(n.events) != before {
			t.Errorf("a speaker is still a stranger: %v, events %q", st.Strangers, n.events)
		}
		synctest.Wait()
	})
}

func TestRefuseUnreached(t *testing.T) {
	on := []string{"eth0", "eth1"}
	type targets = map[netip.Addr]announce.Target
	tests := []struct {
		name     string
		announce bool
		want     targets
		reached  targets
		taken    map[netip.Addr]lb.MAC
		reason   lb.Reason
	}{
		{name: "reached", announce: true, reached: targets{vip: {}}},
		{name: "not wanted", reason: lb.NotOwner},
		{name: "Probing", announce: true, want: targets{vip: {Probe: true}}, reason: lb.Probing},
		{name: "AddressConflict", announce: true, want: targets{vip: {Probe: true}}, taken: map[netip.Addr]lb.MAC{vip: strange}, reason: lb.AddressConflict},
		{name: "AnnouncementRefused", announce: true, want: targets{vip: {}}, reason: lb.AnnouncementRefused},
	}
	for _, tt := range tests {
		d := announce.Decision{VIP: vip, Announce: tt.announce, Interfaces: on}
		if !tt.announce {
			d.Reason, d.Interfaces = lb.NotOwner, nil
		}
		got := refuseUnreached([]announce.Decision{d}, tt.want, tt.reached, tt.taken)[0]
		if got.Reason != tt.reason || got.Announce != (tt.reason == "") || got.Announce != (len(got.Interfaces) > 0) {
			t.Errorf("%s: %s", tt.name, got)
		}
	}
}

// oneFamily is an Announcer that reaches what it is given.
type oneFamily struct {
	got   map[netip.Addr]announce.Target
	works map[string]bool
	taken map[netip.Addr]lb.MAC
	links []lb.Link
}

func (o *oneFamily) Set(want map[netip.Addr]announce.Target) map[netip.Addr]announce.Target {
	o.got = want
	return want
}
func (o *oneFamily) SetLinks(links []lb.Link)         { o.links = links }
func (o *oneFamily) Working() map[string]bool         { return o.works }
func (o *oneFamily) Conflicts() map[netip.Addr]lb.MAC { return o.taken }

func TestFamilies(t *testing.T) {
	v6 := netip.MustParseAddr("2001:db8::200")
	net4, net6 := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64")
	four := &oneFamily{works: map[string]bool{"eth0": true}, taken: map[netip.Addr]lb.MAC{vip: strange}}
	six := &oneFamily{works: map[string]bool{"eth1": true, "eth2": true}, taken: map[netip.Addr]lb.MAC{v6: strange}}
	addrs := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	prefixes := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	want := map[netip.Addr]announce.Target{vip: {Epoch: 1}, v6: {Epoch: 2}}
	links := []lb.Link{
		{Name: "eth0", Up: true, Prefixes: []netip.Prefix{net4, net6}}, {Name: "eth1", Up: true, Prefixes: []netip.Prefix{net4, net6}},
		{Name: "eth2", Up: true, Prefixes: []netip.Prefix{net4}}, {Name: "eth3", Prefixes: []netip.Prefix{net4}},
	}
	both := families{four, six}
	both.setLinks(links)
	if d := cmp.Diff(want, both.set(want), addrs); d != "" || len(four.got) != 1 || len(six.got) != 1 || len(four.links)+len(six.links) != 8 {
		t.Errorf("v4 got %v, v6 %v, reached (-want +got):\n%s", four.got, six.got, d)
	}
	if d := cmp.Diff(map[netip.Addr]lb.MAC{vip: strange, v6: strange}, both.conflicts(), addrs); d != "" {
		t.Errorf("conflicts (-want +got):\n%s", d)
	}
	working := []lb.Link{{Name: "eth0", Up: true, Prefixes: []netip.Prefix{net4}}, {Name: "eth1", Up: true, Prefixes: []netip.Prefix{net6}}, {Name: "eth2"}, {Name: "eth3"}}
	if d := cmp.Diff(working, both.working(links), prefixes); d != "" {
		t.Errorf("working (-want +got):\n%s", d)
	}
	if got := (families{v4: four}).set(want); len(got) != 1 {
		t.Errorf("without IPv6 %v was reached", got)
	}
}
