package datapath_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/datapath/datapathtest"
	"github.com/fairlead-lb/fairlead/lb"
)

func dsr(s *lb.Service) { s.Forwarding = lb.DSR }

// nodes are the names of the nodes of a tier.
var nodes = []lb.NodeName{"n1", "n2", "n3"}

// tier is what a node knows of a cluster of three; node n7's address is 192.0.2.17, its pods are 10.0.7.0/24.
func tier(self lb.NodeName, svc lb.Service, eps ...lb.Endpoint) lb.Snapshot {
	s := snapshot(svc, eps...)
	s.Self, s.Forwarding.Pods.NodeCIDRs, s.Nodes = self, true, map[lb.NodeName]lb.Node{}
	for i, name := range nodes {
		b := byte(i + 1)
		s.Nodes[name] = lb.Node{Name: name, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, 10 + b})},
			PodCIDRs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, b, 0}), 24)}}
	}
	return s
}

// ten are the endpoints of ten pods, all over the tier.
func ten() []lb.Endpoint {
	var out []lb.Endpoint
	for i := range 10 {
		out = append(out, ep(fmt.Sprintf("10.0.%d.%d:8080", i%3+1, i+1), string(nodes[i%3]), "rs"))
	}
	return out
}

// kernels are those of all nodes of a tier.
func kernels(t *testing.T, svc lb.Service, eps ...lb.Endpoint) map[lb.NodeName]*datapathtest.Kernel {
	t.Helper()
	out := map[lb.NodeName]*datapathtest.Kernel{}
	for _, name := range nodes {
		out[name] = kernelOf(t, tier(name, svc, eps...))
	}
	return out
}

// travel sends a packet to the node that receives, and on through the tunnel if it must; it returns where it ends.
func travel(all map[lb.NodeName]*datapathtest.Kernel, receives lb.NodeName, p datapathtest.Packet) string {
	fate := all[receives].Send(p)
	if !fate.Tunnel {
		return fate.String()
	}
	p.Outer.From = tier(receives, lb.Service{}).Nodes[receives].Addrs[0]
	p.Outer.To = fate.Dest.Addr()
	return all[nodes[fate.Dest.Addr().As4()[2]-1]].Send(p).String()
}

// somebody is one of very many clients.
func somebody(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(100 + i%7), byte(i)}), uint16(20000+i*7))
}

// TestDirectWhereverItIsReceived: each connection ends at the same pod, whichever node receives its packets, and the pod sees the client.
func TestDirectWhereverItIsReceived(t *testing.T) {
	for name, edit := range map[string]func(*lb.Service){"Cluster": dsr, "Local": allOf(dsr, local),
		"source ranges": allOf(dsr, func(s *lb.Service) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("198.51.0.0/16")} })} {
		all := kernels(t, web(edit), ten()...)
		reached := map[string]int{}
		for i := range 1000 {
			p := datapathtest.Packet{From: somebody(i), To: netip.MustParseAddrPort(vip + ":80"), Protocol: lb.TCP}
			first := travel(all, "n1", p)
			reached[first]++
			for _, n := range nodes[1:] {
				if got := travel(all, n, p); got != first {
					t.Fatalf("%s: %s ends at %s by n1, at %s by %s", name, p.From, first, got, n)
				}
			}
		}
		for _, e := range ten() {
			if n := reached[e.Addr.String()]; n < 60 || n > 140 {
				t.Errorf("%s: %d of 1000 connections end at %s: %v", name, n, e.Addr, reached)
			}
		}
	}
}

func allOf(a, b func(*lb.Service)) func(*lb.Service) { return func(s *lb.Service) { a(s); b(s) } }

// TestDirectInsideIsPlain: pods and the node itself are answered through their node.
func TestDirectInsideIsPlain(t *testing.T) {
	two := []lb.Endpoint{ep("10.0.1.1:8080", "n1", "rs"), ep("10.0.2.1:8080", "n2", "rs")}
	try(t, kernelOf(t, tier("n1", web(dsr), two...)), "pod "+vip+":80 = 10.0.1.1:8080 masqueraded", "pod "+vip+":80 = 10.0.2.1:8080 masqueraded",
		"host "+vip+":80 = 10.0.1.1:8080 masqueraded", "client "+vip+":22 = REJECT")
	try(t, kernelOf(t, tier("n3", web(allOf(dsr, local)), two...)), "client "+vip+":80 = DROP", "10.0.3.77 "+vip+":80 = 10.0.1.1:8080")
	try(t, kernelOf(t, tier("n1", web(dsr), ep("10.0.2.1:8080", "n2", ""))), "client "+vip+":80 = REJECT", "pod "+vip+":80 = REJECT")
}

// TestDirectTunnelIsNoWayIn: nobody but nodes, and to nothing but what a Service exposes, by the pod that was chosen.
func TestDirectTunnelIsNoWayIn(t *testing.T) {
	only := func(s *lb.Service) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} }
	k := kernelOf(t, tier("n1", web(allOf(dsr, only)), ep("10.0.1.1:8080", "n1", "rs"), ep("10.0.1.2:8080", "n1", "st"), ep("10.0.2.1:8080", "n2", "rs")))
	for _, c := range []struct{ from, to, outerFrom, outerTo, want string }{
		{"198.51.100.9", vip + ":80", "192.0.2.12", "10.0.1.1", "10.0.1.1:8080"},
		{"198.51.100.9", vip + ":80", "192.0.2.13", "10.0.1.2", "10.0.1.2:8080"}, // it drains, but another node has a connection to it
		{"198.51.100.9", vip + ":80", "192.0.2.11", "10.0.1.1", "DROP"},          // its own address
		{"198.51.100.9", vip + ":80", "192.0.2.99", "10.0.1.1", "DROP"},
		{"198.51.100.9", vip + ":80", "10.0.2.1", "10.0.1.1", "DROP"},
		{"203.0.113.9", vip + ":80", "192.0.2.12", "10.0.1.1", "DROP"},
		{"198.51.100.9", vip + ":8080", "192.0.2.12", "10.0.1.1", "DROP"},
		{"198.51.100.9", "10.0.1.1:22", "192.0.2.12", "10.0.1.1", "DROP"},
		{"198.51.100.9", vip + ":80", "192.0.2.12", "10.0.1.9", "NOT OURS"},
		{"198.51.100.9", vip + ":80", "192.0.2.12", "10.0.2.1", "NOT OURS"},
	} {
		p := datapathtest.Packet{From: netip.AddrPortFrom(netip.MustParseAddr(c.from), 4000), To: netip.MustParseAddrPort(c.to), Protocol: lb.TCP}
		p.Outer.From, p.Outer.To = netip.MustParseAddr(c.outerFrom), netip.MustParseAddr(c.outerTo)
		if got := k.Send(p).String(); got != c.want {
			t.Errorf("%s -> %s in %s -> %s: %s, want %s; the kernel holds\n%s", c.from, c.to, c.outerFrom, c.outerTo, got, c.want, k.State())
		}
	}
}

// TestDirectAffinity: all connections of a client, by whichever node, and after other clients of other Services have come and gone.
func TestDirectAffinity(t *testing.T) {
	all := kernels(t, web(allOf(dsr, func(s *lb.Service) { s.SessionAffinity = time.Hour })), ten()...)
	reached := map[string]bool{}
	for i := range 100 {
		var ends []string
		for j := range 10 {
			p := datapathtest.Packet{From: netip.AddrPortFrom(somebody(i).Addr(), uint16(3000+j)), To: netip.MustParseAddrPort(vip + ":80"), Protocol: lb.TCP}
			ends = append(ends, travel(all, nodes[j%3], p))
		}
		if slices.Sort(ends); ends[0] != ends[9] {
			t.Fatalf("%s ends at %v", somebody(i).Addr(), slices.Compact(ends))
		}
		reached[ends[0]] = true
	}
	if len(reached) != 10 {
		t.Errorf("100 clients reach %d of 10 endpoints", len(reached))
	}
}

// TestDirectOrder: a node that has come to know the endpoints one by one, in whatever order, chooses as one that has known all from the start.
func TestDirectOrder(t *testing.T) {
	fresh := kernelOf(t, tier("n1", web(dsr), ten()...))
	moved := 0
	for range 20 {
		var k datapathtest.Kernel
		var known []lb.Endpoint
		for _, i := range rand.Perm(10) {
			known = append(known, ten()[i])
			want := datapath.Desired(tier("n1", web(dsr), known...))
			for _, op := range datapath.Diff(k.State(), want, t0) {
				if op.Verb == datapath.MoveDestination {
					moved++
				}
			}
			if _, err := k.Sync(context.Background(), want, t0); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 1000 {
			p := datapathtest.Packet{From: somebody(i), To: netip.MustParseAddrPort(vip + ":80"), Protocol: lb.TCP}
			if a, b := fresh.Send(p), k.Send(p); a != b {
				t.Fatalf("client %s: %s on a fresh node, %s where the endpoints came in the order %v", p.From, a, b, known)
			}
		}
	}
	if moved == 0 {
		t.Error("no endpoint was out of order: the test proves nothing")
	}
}

// TestDirectRemoval: while an endpoint drains nobody else's choice changes, on a node that comes to know of it only then either; when it is
// gone hardly any does.
func TestDirectRemoval(t *testing.T) {
	const leaving = 3
	choices := func(k *datapathtest.Kernel) (out []string) {
		for i := range 4000 {
			f := k.Send(datapathtest.Packet{From: somebody(i), To: netip.MustParseAddrPort(vip + ":80"), Protocol: lb.TCP})
			out = append(out, f.Dest.String())
		}
		return out
	}
	collateral := func(before, after []string) (n int) {
		for i := range before {
			if before[i] != ten()[leaving].Addr.String() && before[i] != after[i] {
				n++
			}
		}
		return n
	}
	drained := ten()
	drained[leaving] = ep(drained[leaving].Addr.String(), "n1", "st")
	k := kernelOf(t, tier("n1", web(dsr), ten()...))
	before := choices(k)
	sync := func(k *datapathtest.Kernel, now time.Time, eps ...lb.Endpoint) {
		t.Helper()
		if _, err := k.Sync(context.Background(), datapath.Desired(tier("n1", web(dsr), eps...)), now); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		sync(k, t0.Add(time.Duration(i)*time.Hour), drained...)
	}
	if n := collateral(before, choices(k)); n != 0 {
		t.Errorf("%d of 4000 choices changed while an endpoint drained", n)
	}
	if slices.Contains(choices(k), ten()[leaving].Addr.String()) {
		t.Error("the endpoint that drains is chosen")
	}
	late := kernelOf(t, tier("n1", web(dsr), drained...))
	if n := collateral(before, choices(late)); n != 0 {
		t.Errorf("a node that starts meanwhile makes %d of 4000 choices otherwise", n)
	}
	gone := slices.Delete(ten(), leaving, leaving+1)
	sync(k, t0.Add(4*time.Hour), gone...)
	if n := collateral(before, choices(k)); n != 0 {
		t.Errorf("%d of 4000 choices changed before the grace was over", n)
	}
	sync(k, t0.Add(4*time.Hour+datapath.Grace), gone...)
	n := collateral(before, choices(k))
	t.Logf("%d of 4000 choices changed because an endpoint of ten is gone", n)
	if n > 60 {
		t.Errorf("collateral %d of 4000, want 60 at most", n)
	}
	if strings.Contains(k.State().String(), ten()[leaving].Addr.String()) {
		t.Errorf("the endpoint is still there:\n%s", k.State())
	}
}

// TestDirectWishes: the Service's word counts before its pool's, that before the operator's.
func TestDirectWishes(t *testing.T) {
	for _, c := range []struct {
		service, pool, all lb.Method
		want               bool
	}{{"", "", "", false}, {"", "", lb.DSR, true}, {"", lb.NAT, lb.DSR, false}, {"", lb.DSR, lb.NAT, true}, {lb.NAT, lb.DSR, lb.DSR, false}, {lb.DSR, lb.NAT, lb.NAT, true},
		{"what", lb.DSR, lb.NAT, true}} {
		s := tier("n1", web(func(s *lb.Service) { s.Forwarding = c.service }), ten()...)
		at := netip.MustParseAddr(vip)
		s.Forwarding.Method, s.Pools = c.all, []lb.Pool{{Name: "p", Ranges: []lb.Range{{From: at, To: at}}, Forwarding: c.pool}}
		state := datapath.Desired(s)
		if got := slices.ContainsFunc(state.Servers, func(v *datapath.VirtualServer) bool { return v.Direct }); got != c.want || got != (len(state.Peers) == 2) {
			t.Errorf("%+v: direct %v, with peers %v", c, got, state.Peers)
		}
	}
}

// TestDirectRefusals: what cannot be had is served with NAT, on this node as if nobody had asked, and somebody is told why.
func TestDirectRefusals(t *testing.T) {
	cannot := func(node lb.NodeName) func(*lb.Snapshot) {
		return func(s *lb.Snapshot) {
			s.NoTunnel = map[lb.NodeName]lb.Refusal{node: {Message: "its engine is nft: set datapath.engine"}}
		}
	}
	for name, c := range map[string]struct {
		svc    func(*lb.Service)
		edit   func(*lb.Snapshot)
		eps    []lb.Endpoint
		reason lb.Reason
		says   []string
		direct bool
	}{
		"no known word":               {func(s *lb.Service) { s.Forwarding = "DSR" }, nil, ten(), lb.UnknownForwarding, []string{`"DSR"`, "write nat or dsr"}, false},
		"this node":                   {dsr, cannot("n1"), ten(), lb.DSRUnavailable, []string{"annotation fairlead.dev/forwarding asks for dsr", "datapath.engine", "with nat"}, false},
		"a node without":              {dsr, cannot("n3"), ten()[:2], "", nil, true},
		"no detector of pods":         {dsr, func(s *lb.Snapshot) { s.Forwarding.Pods.NodeCIDRs = false }, ten(), lb.DSRUnavailable, []string{"datapath.pods"}, false},
		"no pod":                      {dsr, nil, []lb.Endpoint{ep("203.0.113.77:8080", "", "rs")}, lb.DSRUnavailable, []string{"203.0.113.77:8080 is on no node"}, false},
		"a pod in its node's network": {dsr, nil, []lb.Endpoint{ep("192.0.2.12:8080", "n2", "rs")}, lb.DSRUnavailable, []string{"192.0.2.12:8080", "hostNetwork"}, false},
		"SCTP":                        {allOf(dsr, func(s *lb.Service) { s.Ports[0].Protocol = lb.SCTP }), nil, ten(), lb.DSRNotForSCTP, []string{"SCTP"}, false},
		"another scheduler":           {allOf(dsr, func(s *lb.Service) { s.Scheduler = "wrr" }), nil, ten(), lb.SchedulerIgnored, []string{`"wrr"`, "mh"}, true},
		"the same scheduler":          {allOf(dsr, func(s *lb.Service) { s.Scheduler = "mh" }), nil, ten(), "", nil, true},
	} {
		s := tier("n1", web(c.svc), c.eps...)
		if c.edit != nil {
			c.edit(&s)
		}
		state := datapath.Desired(s)
		said := ""
		for _, r := range state.Refused {
			if said += r.String(); r.Reason != c.reason {
				t.Errorf("%s: %s", name, r)
			}
		}
		for _, word := range c.says {
			if !strings.Contains(said, word) {
				t.Errorf("%s: %q does not say %q", name, said, word)
			}
		}
		if (said == "") != (c.reason == "") {
			t.Errorf("%s: said %q, want %q", name, said, c.reason)
		}
		if got := len(state.Peers) > 0; got != c.direct {
			t.Errorf("%s: direct is %v:\n%s", name, got, state)
		}
		if !c.direct {
			s.Services[0].Forwarding = lb.NAT
			if plain := datapath.Desired(s); !plain.Equal(state) {
				t.Errorf("%s: not as if nobody had asked. Asked:\n%s\nnot asked:\n%s", name, state, plain)
			}
		}
	}
}

// TestDirectOneWay: a node that cannot send through the tunnel to a node with a pod of the Service serves all its clients with NAT, but goes
// on taking what others send.
func TestDirectOneWay(t *testing.T) {
	two := []lb.Endpoint{ep("10.0.1.1:8080", "n1", "rs"), ep("10.0.2.1:8080", "n2", "rs")}
	s := tier("n1", web(dsr), two...)
	s.NoTunnel = map[lb.NodeName]lb.Refusal{"n2": {Message: "packets of IP protocol 4 are not answered"}, "n3": {Message: "it has no pod"}}
	k := kernelOf(t, s)
	try(t, k, "client "+vip+":80 = 10.0.1.1:8080 masqueraded", "client "+vip+":80 = 10.0.2.1:8080 masqueraded", "pod "+vip+":80 = 10.0.1.1:8080 masqueraded")
	p := datapathtest.Packet{From: somebody(1), To: netip.MustParseAddrPort(vip + ":80"), Protocol: lb.TCP}
	p.Outer.From, p.Outer.To = netip.MustParseAddr("192.0.2.13"), netip.MustParseAddr("10.0.1.1")
	if got := k.Send(p).String(); got != "10.0.1.1:8080" {
		t.Errorf("what n3 tunnels ends at %s; the kernel holds\n%s", got, k.State())
	}
	r := datapath.Desired(s).Refused
	if len(r) != 1 || r[0].Reason != lb.DSRUnavailable || !strings.Contains(r[0].Message, "node n2, which has endpoints of it, cannot take part: packets of IP protocol 4") {
		t.Errorf("refused: %v", r)
	}
}

// TestDirectIsWantedFor: the endpoints that nodes shall be able to reach through the tunnel are those that the kernels would take packets for.
func TestDirectIsWantedFor(t *testing.T) {
	six := lb.Ingress{Addr: netip.MustParseAddr("2001:db8::200"), Mode: lb.ModeProxy}
	eps := []lb.Endpoint{ep("10.0.1.1:8080", "n1", "rs"), ep("10.0.2.1:8080", "n2", "st"), ep("[2001:db8:2::1]:8080", "n2", "rs")}
	other := ep("10.0.3.1:8080", "n3", "rs")
	other.PortName = "no port of the Service"
	for name, c := range map[string]struct {
		edit func(*lb.Service)
		want string
		some bool
	}{
		"nobody asks":        {func(*lb.Service) {}, "", false},
		"IPv4":               {dsr, "10.0.1.1:8080 10.0.2.1:8080", true},
		"both families":      {allOf(dsr, func(s *lb.Service) { s.Ingress = append(s.Ingress, six) }), "10.0.1.1:8080 10.0.2.1:8080 [2001:db8:2::1]:8080", true},
		"no address yet":     {allOf(dsr, func(s *lb.Service) { s.Ingress = nil }), "", false},
		"SCTP":               {allOf(dsr, func(s *lb.Service) { s.Ports[0].Protocol = lb.SCTP }), "", true},
		"the node cannot do": {dsr, "10.0.1.1:8080 10.0.2.1:8080", true},
	} {
		s := tier("n1", web(c.edit), append(slices.Clone(eps), other)...)
		if name == "the node cannot do" {
			s.NoTunnel = map[lb.NodeName]lb.Refusal{"n1": {Message: "no module"}}
		}
		var got []string
		some := datapath.WantDirect(s, func(e lb.Endpoint) { got = append(got, e.Addr.String()) })
		if strings.Join(got, " ") != c.want || some != c.some {
			t.Errorf("%s: %v, %t; want %s, %t", name, got, some, c.want, c.some)
		}
	}
}

// TestDirectIsPrinted is the whole of it, of both families of tiers.
func TestDirectIsPrinted(t *testing.T) {
	const want = `vip 192.0.2.200
peer 192.0.2.12
peer 192.0.2.13
pods from 10.0.1.0/24
server 192.0.2.200:80/TCP shop/web mh forward direct
  10.0.1.1:8080 weight=1 nat
  10.0.2.1:8080 weight=1 tunnel
  10.0.3.1:8080 weight=0 tunnel
server 192.0.2.200:80/TCP inside shop/web rr forward masquerade=pods,host
  10.0.1.1:8080 weight=1 nat
  10.0.2.1:8080 weight=1 nat
  10.0.3.1:8080 weight=0 nat
server 192.0.2.200:80/TCP tunnelled shop/web mh forward
  10.0.1.1:8080 weight=1 nat
`
	got := datapath.Desired(tier("n1", web(dsr), ep("10.0.1.1:8080", "n1", "rs"), ep("10.0.2.1:8080", "n2", "rs"), ep("10.0.3.1:8080", "n3", "st"))).String()
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
