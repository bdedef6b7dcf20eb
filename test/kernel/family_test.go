//go:build kernel

package kernel

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// family is the test bed in IPv4 or IPv6.
type family struct {
	name                        string
	node, client, stray, bridge string // bridge: the node's address towards its pods
	vip, vip2                   string
	podRange                    string
	pods                        map[string]string
}

var families = []family{
	{name: "IPv4", node: nodeAddr, client: clientAddr, stray: strayAddr, bridge: "10.244.1.1", vip: vip, vip2: vip2, podRange: "10.244.1.0/24", pods: pods},
	{name: "IPv6", node: "fd00:2::11", client: "fd00:2::100", stray: "fd00:2::101", bridge: "fd00:1:1::1", vip: "fd00:ff::200", vip2: "fd00:ff::201",
		podRange: "fd00:1:1::/64", pods: map[string]string{"pod-a": "fd00:1:1::2", "pod-b": "fd00:1:1::3", "far": "fd00:1:2::2"}},
}

// forEach runs body for every engine in both families.
func forEach(t *testing.T, body func(t *testing.T, b *bed, f family)) {
	t.Helper()
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			forEachEngine(t, func(t *testing.T, b *bed) { body(t, b, f) })
		})
	}
}

// to is where a client dials.
func to(addr, port string) string { return net.JoinHostPort(addr, port) }

// anywhere is the address that stands for all of the node's.
func (f family) anywhere() string {
	if f.name == "IPv6" {
		return "::"
	}
	return "0.0.0.0"
}

// server is a virtual server on TCP that forwards to port 8080 of pods; edit changes it.
func (f family) server(addr, port string, edit func(*datapath.VirtualServer), names ...string) datapath.VirtualServer {
	v := datapath.VirtualServer{
		Listener: datapath.Listener{Addr: netip.MustParseAddrPort(to(addr, port)), Protocol: lb.TCP},
		Service:  lb.ServiceKey{Namespace: "shop", Name: "web"}, Port: "http", Scheduler: datapath.RoundRobin, Verdict: datapath.Forward,
	}
	for _, name := range names {
		v.Destinations = append(v.Destinations, datapath.Destination{Addr: netip.MustParseAddrPort(to(f.pods[name], "8080")), Weight: 1, Method: datapath.NAT})
	}
	if edit != nil {
		edit(&v)
	}
	slices.SortFunc(v.Destinations, func(a, b datapath.Destination) int { return a.Addr.Compare(b.Addr) })
	return v
}

// state puts servers together: every address that is none of the node's is a VIP, pods are told by their addresses.
func (f family) state(servers ...datapath.VirtualServer) datapath.State {
	node := netip.MustParseAddr(f.node)
	s := datapath.State{NodeAddrs: []netip.Addr{node}, Pods: datapath.Detector{Sources: []netip.Prefix{netip.MustParsePrefix(f.podRange)}}}
	for _, v := range servers {
		s.Servers = append(s.Servers, &v)
		if a := v.Addr.Addr(); !v.NodePort() && a != node {
			s.VIPs = append(s.VIPs, a)
		}
	}
	slices.SortFunc(s.Servers, func(a, b *datapath.VirtualServer) int { return a.Listener.Compare(b.Listener) })
	slices.SortFunc(s.VIPs, netip.Addr.Compare)
	s.VIPs = slices.Compact(s.VIPs)
	return s
}

// hold brings the kernel to a state, and fails the test unless all of it is there.
func (b *bed) hold(t *testing.T, s datapath.State) {
	t.Helper()
	b.now = b.now.Add(time.Second)
	reached, err := b.Sync(context.Background(), s, b.now)
	if err != nil {
		t.Fatalf("syncing: %v", err)
	}
	for _, a := range s.VIPs {
		if !reached.Programmed()[a] {
			t.Fatalf("%s is not programmed; reached:\n%s", a, reached)
		}
	}
}

// udp makes a server one on UDP.
func udp(v *datapath.VirtualServer) { v.Protocol = lb.UDP }

// masquerade sets whose connections are masqueraded.
func masquerade(c datapath.Clients) func(*datapath.VirtualServer) {
	return func(v *datapath.VirtualServer) { v.Masquerade = c }
}

// both applies edits one after the other.
func both(edits ...func(*datapath.VirtualServer)) func(*datapath.VirtualServer) {
	return func(v *datapath.VirtualServer) {
		for _, edit := range edits {
			edit(v)
		}
	}
}

func forInside(v *datapath.VirtualServer) { v.Inside = true }

func silentVerdict(v *datapath.VirtualServer) { v.Verdict = datapath.Drop }
