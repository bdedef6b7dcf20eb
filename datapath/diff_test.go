package datapath_test

import (
	stdcmp "cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/datapath/datapathtest"
	"github.com/fairlead-lb/fairlead/lb"
)

func steps(ops []datapath.Op) string {
	var b strings.Builder
	b.WriteByte('\n')
	for _, o := range ops {
		fmt.Fprintln(&b, o)
	}
	return b.String()
}

func TestDiffOrder(t *testing.T) {
	have := datapath.Desired(snapshot(web(), ep("10.0.1.1:8080", "n1", "rs"), ep("10.0.1.2:8080", "n1", "rs")))
	want := datapath.Desired(snapshot(web(func(s *lb.Service) {
		s.Ingress[0].Addr = netip.MustParseAddr("192.0.2.201")
	}), ep("10.0.1.1:8080", "n1", "rs")))
	for name, tc := range map[string]struct {
		have, want datapath.State
		steps      string
	}{
		"from nothing": {datapath.State{}, have, `
vip up 192.0.2.200
add server 192.0.2.200:80/TCP shop/web rr forward masquerade
add destination 192.0.2.200:80/TCP -> 10.0.1.1:8080 weight=1
add destination 192.0.2.200:80/TCP -> 10.0.1.2:8080 weight=1
`},
		"another address": {have, want, `
vip up 192.0.2.201
add server 192.0.2.201:80/TCP shop/web rr forward masquerade
add destination 192.0.2.201:80/TCP -> 10.0.1.1:8080 weight=1
delete server 192.0.2.200:80/TCP
vip down 192.0.2.200
`},
		"S76 S38 a server is edited in place": {have, datapath.Desired(snapshot(web(func(s *lb.Service) { s.SessionAffinity = time.Hour }),
			ep("10.0.1.1:8080", "n1", "rs"), ep("10.0.1.3:8080", "n1", "rs"))), `
edit server 192.0.2.200:80/TCP shop/web rr forward masquerade affinity=1h0m0s
add destination 192.0.2.200:80/TCP -> 10.0.1.3:8080 weight=1
edit destination 192.0.2.200:80/TCP -> 10.0.1.2:8080 weight=0
`},
		"nothing to do": {have, have, "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(tc.steps, steps(datapath.Diff(tc.have, tc.want, t0))); d != "" {
				t.Errorf("steps (-want +got):\n%s", d)
			}
		})
	}
}

// TestS65Retirement follows one endpoint out of service.
func TestS65Retirement(t *testing.T) {
	both := snapshot(web(), ep("10.0.1.1:8080", "n1", "rs"), ep("10.0.1.2:8080", "n1", "rs"))
	terminating := snapshot(web(), ep("10.0.1.1:8080", "n1", "rs"), ep("10.0.1.2:8080", "n1", "st"))
	gone := snapshot(web(), ep("10.0.1.1:8080", "n1", "rs"))
	l := datapath.Listener{Addr: netip.MustParseAddrPort(vip + ":80"), Protocol: lb.TCP}
	leaving := netip.MustParseAddrPort("10.0.1.2:8080")

	type step struct {
		after time.Duration
		conns int
		want  lb.Snapshot
		steps string
	}
	const lower, forget = "edit destination 192.0.2.200:80/TCP -> 10.0.1.2:8080 weight=0\n", "delete destination 192.0.2.200:80/TCP -> 10.0.1.2:8080\n"
	for name, script := range map[string][]step{
		"idle: deleted one sync later":            {{0, 0, terminating, lower}, {time.Second, 0, terminating, forget}, {time.Second, 0, terminating, ""}},
		"busy: kept as long as it terminates":     {{0, 2, terminating, lower}, {time.Hour, 2, terminating, ""}, {time.Hour, 0, terminating, forget}},
		"left the slices: kept until the Grace":   {{0, 2, gone, lower}, {59 * time.Second, 2, gone, ""}, {time.Second, 2, gone, forget}},
		"terminating, then gone: Grace from then": {{0, 2, terminating, lower}, {time.Hour, 2, gone, lower}, {time.Minute, 2, gone, forget}},
		"S66 back before deletion": {{0, 2, gone, lower},
			{time.Second, 2, both, "edit destination 192.0.2.200:80/TCP -> 10.0.1.2:8080 weight=1\n"}, {time.Hour, 2, both, ""}, {0, 2, gone, lower}, {59 * time.Second, 2, gone, ""}},
		"in the slices again, still not usable": {{0, 2, gone, lower}, {time.Second, 2, terminating, lower}, {time.Hour, 2, terminating, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			k, now := kernelWith(t, both), t0
			for i, s := range script {
				now = now.Add(s.after)
				k.SetConns(l, leaving, s.conns)
				ops := datapath.Diff(k.State(), datapath.Desired(s.want), now)
				if d := cmp.Diff("\n"+s.steps, steps(ops)); d != "" {
					t.Fatalf("step %d (-want +got):\n%s", i, d)
				}
				if err := k.Apply(ops); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestS9PolicyLocalKeepsConnections: an endpoint of another node gets no new one from outside any more, and keeps those that it has as long as they
// last.
func TestS9PolicyLocalKeepsConnections(t *testing.T) {
	for name, edit := range map[string]func(*lb.Service){
		"external": local,
		"internal": func(s *lb.Service) { s.InternalTrafficPolicy = lb.Local },
	} {
		have := datapath.Desired(full(shop(), here, there))
		found := 0
		for _, op := range datapath.Diff(have, datapath.Desired(full(shop(edit), here, there)), t0) {
			if op.Verb == datapath.DeleteDestination || op.Verb == datapath.EditDestination && !op.Destination.Until.IsZero() {
				t.Errorf("%s: %s, at the latest %s", name, op, op.Destination.Until)
			}
			if op.Verb == datapath.EditDestination && op.Destination.Weight == 0 {
				found++
			}
		}
		if found == 0 {
			t.Errorf("%s: no endpoint lost its weight", name)
		}
	}
}

func TestS61UDPDestinationsLeaveAtOnce(t *testing.T) {
	dns := func(s *lb.Service) { s.Ports = []lb.Port{{Name: "http", Protocol: lb.UDP, Port: 53}} }
	k := kernelWith(t, snapshot(web(dns), ep("10.0.1.1:53", "n1", "rs", udp), ep("10.0.1.2:53", "n1", "rs", udp)))
	k.SetConns(datapath.Listener{Addr: netip.MustParseAddrPort(vip + ":53"), Protocol: lb.UDP}, netip.MustParseAddrPort("10.0.1.2:53"), 5)
	ops := datapath.Diff(k.State(), datapath.Desired(snapshot(web(dns), ep("10.0.1.1:53", "n1", "rs", udp), ep("10.0.1.2:53", "n1", "st", udp))), t0)
	if d := cmp.Diff("\ndelete destination 192.0.2.200:53/UDP -> 10.0.1.2:53\n", steps(ops)); d != "" {
		t.Errorf("steps (-want +got):\n%s", d)
	}
}

// TestProgrammed: an address counts only if everything that was wanted of it was reached.
func TestProgrammed(t *testing.T) {
	s := snapshot(web(func(s *lb.Service) {
		s.Ports = append(s.Ports, lb.Port{Name: "http", Protocol: lb.TCP, Port: 81})
		s.Ingress = append(s.Ingress, lb.Ingress{Addr: netip.MustParseAddr("192.0.2.201"), Mode: lb.ModeProxy})
	}), ep("10.0.1.1:8080", "n1", "rs"))
	broken := errors.New("no memory")
	k := datapathtest.Kernel{Refuse: func(o datapath.Op) error {
		if o.Verb == datapath.AddDestination && o.Server.Addr == netip.MustParseAddrPort(vip+":81") {
			return broken
		}
		return nil
	}}
	reached, err := k.Sync(context.Background(), datapath.Desired(s), t0)
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	want := map[netip.Addr]bool{netip.MustParseAddr("192.0.2.201"): true}
	if d := cmp.Diff(want, reached.Programmed(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("programmed (-want +got):\n%s\nreached:\n%s", d, reached)
	}
}

// randomSnapshot draws Services that collide in addresses, ports and endpoints as often as possible.
func randomSnapshot(r *rand.Rand) lb.Snapshot {
	s := external(lb.Service{})
	s.Services, s.Endpoints = nil, nil
	for i := range r.IntN(4) {
		key := lb.ServiceKey{Namespace: "ns", Name: fmt.Sprint("s", i)}
		protocol := []lb.Protocol{lb.TCP, lb.UDP, lb.SCTP}[r.IntN(3)]
		svc := lb.Service{Key: key, Ports: []lb.Port{{Name: "p", Protocol: protocol, Port: uint16(80 + r.IntN(3))}},
			ExternalTrafficPolicy: []lb.TrafficPolicy{lb.Cluster, lb.Local}[r.IntN(2)],
			SessionAffinity:       time.Duration(r.IntN(2)) * time.Hour,
			Forwarding:            []lb.Method{lb.NAT, lb.DSR}[r.IntN(2)],
			Ingress:               []lb.Ingress{{Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(200 + r.IntN(3))}), Mode: lb.ModeProxy}}}
		if r.IntN(2) == 0 {
			svc.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		}
		for range r.IntN(5) {
			s.Endpoints.Set(key, append(s.Endpoints.Of(key), ep(fmt.Sprintf("10.0.0.%d:80", r.IntN(6)), []string{"n1", "n2"}[r.IntN(2)],
				[]string{"rs", "st", "", "t"}[r.IntN(4)], port("p"), func(e *lb.Endpoint) { e.Protocol = protocol })))
		}
		s.Services = append(s.Services, svc)
	}
	return s
}

// TestShuffle replays random states against one kernel. Every step must be carried out in the order in which Diff gives it, and
// once connections have ended the kernel must equal one that saw only the last state.
func TestShuffle(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var k datapathtest.Kernel
	now := t0
	for round := range 2000 {
		want := datapath.Desired(randomSnapshot(r))
		for _, v := range k.State().Servers {
			for _, d := range v.Destinations {
				k.SetConns(v.Listener, d.Addr, r.IntN(2))
			}
		}
		for range 3 { // lower weights, see idle destinations, delete
			now = now.Add(time.Second)
			ops := datapath.Diff(k.State(), want, now)
			vipsFirst(t, k.State(), ops)
			if err := k.Apply(ops); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		for _, v := range k.State().Servers {
			for _, d := range v.Destinations {
				k.SetConns(v.Listener, d.Addr, 0)
			}
		}
		now = now.Add(datapath.Grace) // for those of Direct servers
		if err := k.Apply(datapath.Diff(k.State(), want, now)); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		var fresh datapathtest.Kernel
		if err := fresh.Apply(datapath.Diff(fresh.State(), want, now)); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if d := cmp.Diff(settled(fresh.State()), settled(k.State())); d != "" {
			t.Fatalf("round %d (-fresh +replayed):\n%s", round, d)
		}
		for _, v := range k.State().Servers {
			if !v.InOrder() {
				t.Fatalf("round %d: out of order: %+v", round, v)
			}
		}
		if ops := datapath.Diff(k.State(), want, now); len(ops) > 0 {
			t.Fatalf("round %d: still something to do:%s", round, steps(ops))
		}
	}
}

// settled prints s without the destinations of Direct servers that have no weight: which of them there are depends on what was before.
func settled(s datapath.State) string {
	for i, v := range s.Servers {
		if v.Direct {
			now := *v
			now.Destinations = slices.DeleteFunc(slices.Clone(v.Destinations), func(d datapath.Destination) bool { return d.Weight == 0 })
			s.Servers[i] = &now
		}
	}
	return s.String()
}

// vipsFirst fails if a server is added before the node takes packets for its address.
func vipsFirst(t *testing.T, have datapath.State, ops []datapath.Op) {
	t.Helper()
	up := map[netip.Addr]bool{}
	for _, a := range have.VIPs {
		up[a] = true
	}
	for _, op := range ops {
		switch {
		case op.Verb == datapath.VIPUp:
			up[op.VIP] = true
		case op.Verb == datapath.AddServer && !up[op.Server.Addr.Addr()]:
			t.Fatalf("%s comes before its VIP:%s", op, steps(ops))
		}
	}
}

// TestListenersAreOrdered: lookups in a State are binary searches.
func TestListenersAreOrdered(t *testing.T) {
	var all []datapath.Listener
	for _, addr := range []string{"0.0.0.0:30080", "192.0.2.200:80", "192.0.2.200:81", "[::]:30080"} {
		for _, protocol := range []lb.Protocol{lb.SCTP, lb.TCP, lb.UDP} {
			l := datapath.Listener{Addr: netip.MustParseAddrPort(addr), Protocol: protocol}
			inside, tunnelled := l, l
			inside.Inside, tunnelled.Tunnelled = true, true
			all = append(all, l, inside, tunnelled)
		}
	}
	for i, a := range all {
		for j, b := range all {
			if got := a.Compare(b); got != stdcmp.Compare(i, j) {
				t.Errorf("%s compared with %s: %d, want %d", a, b, got, stdcmp.Compare(i, j))
			}
		}
	}
	for i, name := range []string{"[::]:30080/UDP", "[::]:30080/UDP inside", "[::]:30080/UDP tunnelled"} {
		if l := all[len(all)-3+i]; !l.NodePort() || l.String() != name || l.ForEverybody() != all[len(all)-3] {
			t.Errorf("%s: node port %v, for everybody %s; want %s", l, l.NodePort(), l.ForEverybody(), name)
		}
	}
}

func TestStateServer(t *testing.T) {
	s := datapath.Desired(snapshot(web(), ep("10.0.1.1:8080", "n1", "rs")))
	l := datapath.Listener{Addr: netip.MustParseAddrPort(vip + ":80"), Protocol: lb.TCP}
	if v, ok := s.Server(l); !ok || v.Listener != l {
		t.Errorf("Server(%s) = %v, %v", l, v, ok)
	}
	l.Protocol = lb.UDP
	if _, ok := s.Server(l); ok {
		t.Errorf("found a server for %s", l)
	}
	if !s.Equal(datapath.State{VIPs: slices.Clone(s.VIPs), Servers: slices.Clone(s.Servers)}) || s.Equal(datapath.State{}) {
		t.Error("Equal is wrong")
	}
}

// TestKeeps: what takes nothing away may be done before anybody has looked at who announces what.
func TestKeeps(t *testing.T) {
	one, two := ep("10.0.1.1:8080", "n1", "rs"), ep("10.0.2.1:8080", "n2", "rs")
	moved := func(s *lb.Service) { s.Ingress[0].Addr = netip.MustParseAddr("192.0.2.201") }
	more := func(s *lb.Service) {
		s.Ingress = append(s.Ingress, lb.Ingress{Addr: netip.MustParseAddr("192.0.2.201"), Mode: lb.ModeProxy})
		s.Ports = append(s.Ports, lb.Port{Name: "http", Protocol: lb.TCP, Port: 81})
	}
	for _, tt := range []struct {
		name          string
		before, after lb.Snapshot
		want          bool
	}{
		{"nothing changes", snapshot(web(), one), snapshot(web(), one), true},
		{"an endpoint comes", snapshot(web(), one), snapshot(web(), one, two), true},
		{"an endpoint is replaced", snapshot(web(), one), snapshot(web(), two), true},
		{"the last endpoint goes", snapshot(web(), one), snapshot(web()), false},
		{"the first endpoint comes", snapshot(web()), snapshot(web(), one), true},
		{"the last endpoint of the node goes", snapshot(web(local), one, two), snapshot(web(local), two), false},
		{"the policy becomes Local, with an endpoint here", snapshot(web(), one, two), snapshot(web(local), one, two), true},
		{"the policy becomes Local, without one", snapshot(web(), two), snapshot(web(local), two), false},
		{"an address and a port come", snapshot(web(), one), snapshot(web(more), one), true},
		{"an address and a port go", snapshot(web(more), one), snapshot(web(), one), false},
		{"an address that refuses goes", snapshot(web()), snapshot(web(moved)), false},
		{"everything goes", snapshot(web(), one), lb.Snapshot{Self: "n1", Forwards: true}, false},
		{"everything comes", lb.Snapshot{Self: "n1", Forwards: true}, snapshot(web(), one), true},
	} {
		if got := datapath.Desired(tt.after).Keeps(datapath.Desired(tt.before)); got != tt.want {
			t.Errorf("%s: keeps %v, want %v", tt.name, got, tt.want)
		}
	}
}
