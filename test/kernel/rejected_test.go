//go:build kernel

package kernel

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// TestAServiceThatTheKernelRefusesStopsNoOther: one Service's source ranges overlap, which Desired never asks for and nftables does not
// take; with IPVS another one has an endpoint that IPVS does not take. The rest of the state is in force, also after changes and
// restarts; the refused Service is named, nobody reaches the node at its address, and it is served as soon as it is as it should be.
func TestAServiceThatTheKernelRefusesStopsNoOther(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		l, err := net.Listen("tcp", ":80") // a daemon of the node
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		all, name := masquerade(datapath.Everybody), b.Name()
		bad := map[string]func(*datapath.VirtualServer){"overlapping ranges": func(v *datapath.VirtualServer) {
			a := netip.MustParseAddr(f.client)
			v.SourceRanges = []netip.Prefix{netip.PrefixFrom(a, 16).Masked(), netip.PrefixFrom(a, 24).Masked()}
		}}
		if name == "ipvs" {
			bad["an endpoint that is a multicast group"] = func(v *datapath.VirtualServer) {
				group := map[string]string{"IPv4": "224.1.1.5:8080", "IPv6": "[ff0e::5]:8080"}[f.name]
				v.Destinations = append(v.Destinations, datapath.Destination{Addr: netip.MustParseAddrPort(group), Weight: 1, Method: datapath.NAT})
			}
		}
		for what, spoil := range bad {
			rival := func(edit func(*datapath.VirtualServer)) datapath.VirtualServer {
				return f.server(f.vip2, "80", both(all, edit, func(v *datapath.VirtualServer) { v.Service.Name = "rival" }), "pod-b")
			}
			good := func(pod string) datapath.VirtualServer { return f.server(f.vip, "80", all, pod) }
			b.lacks(t, what, f, f.state(good("pod-a"), rival(spoil)))
			b.lacks(t, what+", the other changes", f, f.state(good("far"), rival(spoil)))
			b.restart(t, name)
			b.lacks(t, what+", after a restart", f, f.state(good("pod-a"), rival(spoil)))
			b.hold(t, f.state(good("pod-a"), rival(func(*datapath.VirtualServer) {})))
			sees(t, "client", "tcp", to(f.vip2, "80"), []string{"pod-b"}, nil)
		}
	})
}

// lacks leads to a state of which the kernel takes the server at the first VIP, and not the one at the second.
func (b *bed) lacks(t *testing.T, what string, f family, s datapath.State) {
	t.Helper()
	b.now = b.now.Add(time.Second)
	reached, err := b.Sync(context.Background(), s, b.now)
	if err == nil || !reached.Has(netip.MustParseAddr(f.vip)) || reached.Has(netip.MustParseAddr(f.vip2)) {
		t.Fatalf("%s: error %v, reached VIPs %v, partial %v", what, err, reached.VIPs, reached.Partial)
	}
	rival := lb.ServiceKey{Namespace: "shop", Name: "rival"}
	if n := len(reached.Refused); n != 1 || reached.Refused[0].Service != rival || reached.Refused[0].Reason != lb.KernelRefuses {
		t.Errorf("%s: refused %v", what, reached.Refused)
	}
	good, bad := s.Servers[0], s.Servers[1]
	for range 2 {
		if a := mustAsk(t, "client", "tcp", to(f.vip, "80")); good.Destinations[0].Addr.String() != to(f.pods[a.pod], "8080") {
			t.Errorf("%s: %s answered for the other Service", what, a.pod)
		}
	}
	if len(bad.SourceRanges) == 0 {
		return // the endpoints that the kernel took are served
	}
	if a, err := ask("client", "tcp", "", to(f.vip2, "80"), patience); !refused(err) {
		t.Errorf("%s: at the address of the refused Service: %v, %v; want a refusal", what, a, err)
	}
}
