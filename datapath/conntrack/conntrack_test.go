package conntrack

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// state has one server at 192.0.2.200:53 with the given endpoints; a leading "-" means weight 0.
func state(p lb.Protocol, endpoints ...string) datapath.State {
	v := datapath.VirtualServer{Listener: datapath.Listener{Addr: netip.MustParseAddrPort("192.0.2.200:53"), Protocol: p}}
	for _, e := range endpoints {
		d := datapath.Destination{Weight: 1}
		if e[0] == '-' {
			e, d.Weight = e[1:], 0
		}
		d.Addr = netip.MustParseAddrPort(e)
		v.Destinations = append(v.Destinations, d)
	}
	return datapath.State{Servers: []datapath.VirtualServer{v}}
}

// flow is a client's flow to a VIP that is answered by an endpoint.
func flow(proto uint8, vip, endpoint string) *netlink.ConntrackFlow {
	to, from := netip.MustParseAddrPort(vip), netip.MustParseAddrPort(endpoint)
	return &netlink.ConntrackFlow{
		Forward: netlink.IPTuple{Protocol: proto, DstIP: net.IP(to.Addr().AsSlice()), DstPort: to.Port()},
		Reverse: netlink.IPTuple{Protocol: proto, SrcIP: net.IP(from.Addr().AsSlice()), SrcPort: from.Port()},
	}
}

func TestS59WhichFlowsAreForgotten(t *testing.T) {
	const vip, a, b = "192.0.2.200:53", "10.0.0.1:53", "10.0.0.2:53"
	for name, tc := range map[string]struct {
		have, want datapath.State
		flow       *netlink.ConntrackFlow
		forget     bool
	}{
		"endpoint replaced":                     {state(lb.UDP, a), state(lb.UDP, b), flow(unix.IPPROTO_UDP, vip, a), true},
		"endpoint still there":                  {state(lb.UDP, a), state(lb.UDP, a, b), flow(unix.IPPROTO_UDP, vip, a), false},
		"endpoint takes no new flows":           {state(lb.UDP, a), state(lb.UDP, "-"+a, b), flow(unix.IPPROTO_UDP, vip, a), true},
		"no endpoint is left":                   {state(lb.UDP, a), state(lb.UDP), flow(unix.IPPROTO_UDP, vip, a), false},
		"S60 first endpoint, flow without NAT":  {state(lb.UDP), state(lb.UDP, a), flow(unix.IPPROTO_UDP, vip, vip), true},
		"restart: have is not known":            {datapath.State{}, state(lb.UDP, b), flow(unix.IPPROTO_UDP, vip, a), true},
		"S70 the Service is gone":               {state(lb.UDP, a), datapath.State{}, flow(unix.IPPROTO_UDP, vip, a), true},
		"nothing changed":                       {state(lb.UDP, a), state(lb.UDP, a), flow(unix.IPPROTO_UDP, vip, b), false},
		"TCP connections go on":                 {state(lb.TCP, a), state(lb.TCP, b), flow(unix.IPPROTO_TCP, vip, a), false},
		"TCP, restart":                          {datapath.State{}, state(lb.TCP, b), flow(unix.IPPROTO_TCP, vip, a), false},
		"TCP, begun before the VIP was served":  {datapath.State{}, state(lb.TCP, b), flow(unix.IPPROTO_TCP, vip, vip), true},
		"a TCP flow to the UDP port's number":   {state(lb.UDP, a), state(lb.UDP, b), flow(unix.IPPROTO_TCP, vip, a), false},
		"somebody else's address":               {state(lb.UDP, a), state(lb.UDP, b), flow(unix.IPPROTO_UDP, "192.0.2.9:53", a), false},
		"another port of the VIP":               {state(lb.UDP, a), state(lb.UDP, b), flow(unix.IPPROTO_UDP, "192.0.2.200:54", a), false},
		"same endpoint address, another number": {state(lb.UDP, a), state(lb.UDP, "10.0.0.1:54"), flow(unix.IPPROTO_UDP, vip, a), true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := changed(tc.have, tc.want).MatchConntrackFlow(tc.flow); got != tc.forget {
				t.Errorf("forget = %v, want %v", got, tc.forget)
			}
		})
	}
}
