package conntrack

import (
	"maps"
	"net/netip"
	"testing"

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
	return datapath.State{Servers: []*datapath.VirtualServer{&v}}
}

// at moves the server of a state to another address.
func at(addr string, s datapath.State) datapath.State {
	s.Servers[0].Addr = netip.MustParseAddrPort(addr)
	s.NodeAddrs = []netip.Addr{netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("2001:db8::11")}
	return s
}

func inside(s datapath.State) datapath.State {
	s.Servers[0].Inside = true
	return s
}

// both is a listener for everybody and its other for the inside.
func both(everybody, inside datapath.State) datapath.State {
	everybody.Servers = append(everybody.Servers, inside.Servers...)
	return everybody
}

// flow is a client's flow to a VIP that is answered by an endpoint.
func flow(p lb.Protocol, vip, endpoint string) entry {
	return entry{protocol: p, to: netip.MustParseAddrPort(vip), from: netip.MustParseAddrPort(endpoint)}
}

func TestS59WhichFlowsAreForgotten(t *testing.T) {
	const vip, a, b = "192.0.2.200:53", "10.0.0.1:53", "10.0.0.2:53"
	for name, tc := range map[string]struct {
		have, want datapath.State
		flow       entry
		forget     bool
	}{
		"endpoint replaced":                                           {state(lb.UDP, a), state(lb.UDP, b), flow(lb.UDP, vip, a), true},
		"endpoint still there":                                        {state(lb.UDP, a), state(lb.UDP, a, b), flow(lb.UDP, vip, a), false},
		"endpoint takes no new flows":                                 {state(lb.UDP, a), state(lb.UDP, "-"+a, b), flow(lb.UDP, vip, a), true},
		"no endpoint is left":                                         {state(lb.UDP, a), state(lb.UDP), flow(lb.UDP, vip, a), false},
		"S60 first endpoint, flow without NAT":                        {state(lb.UDP), state(lb.UDP, a), flow(lb.UDP, vip, vip), true},
		"restart: have is not known":                                  {datapath.State{}, state(lb.UDP, b), flow(lb.UDP, vip, a), true},
		"S70 the Service is gone":                                     {state(lb.UDP, a), datapath.State{}, flow(lb.UDP, vip, a), true},
		"nothing changed":                                             {state(lb.UDP, a), state(lb.UDP, a), flow(lb.UDP, vip, b), false},
		"TCP connections go on":                                       {state(lb.TCP, a), state(lb.TCP, b), flow(lb.TCP, vip, a), false},
		"TCP, restart":                                                {datapath.State{}, state(lb.TCP, b), flow(lb.TCP, vip, a), false},
		"TCP, begun before the VIP was served":                        {datapath.State{}, state(lb.TCP, b), flow(lb.TCP, vip, vip), true},
		"SCTP, begun before the VIP was served":                       {datapath.State{}, state(lb.SCTP, b), flow(lb.SCTP, vip, vip), true},
		"a TCP flow to the UDP port's number":                         {state(lb.UDP, a), state(lb.UDP, b), flow(lb.TCP, vip, a), false},
		"somebody else's address":                                     {state(lb.UDP, a), state(lb.UDP, b), flow(lb.UDP, "192.0.2.9:53", a), false},
		"another port of the VIP":                                     {state(lb.UDP, a), state(lb.UDP, b), flow(lb.UDP, "192.0.2.200:54", a), false},
		"same endpoint address, another number":                       {state(lb.UDP, a), state(lb.UDP, "10.0.0.1:54"), flow(lb.UDP, vip, a), true},
		"a node port":                                                 {at("0.0.0.0:30053", state(lb.UDP, a)), at("0.0.0.0:30053", state(lb.UDP, b)), flow(lb.UDP, "192.0.2.11:30053", a), true},
		"a node port of IPv6":                                         {at("[::]:30053", state(lb.UDP, "[fd00::1]:53")), at("[::]:30053", state(lb.UDP, "[fd00::2]:53")), flow(lb.UDP, "[2001:db8::11]:30053", "[fd00::1]:53"), true},
		"a node port, endpoint still there":                           {at("0.0.0.0:30053", state(lb.UDP, a)), at("0.0.0.0:30053", state(lb.UDP, a, b)), flow(lb.UDP, "192.0.2.11:30053", a), false},
		"a node port's number elsewhere":                              {at("0.0.0.0:30053", state(lb.UDP, a)), at("0.0.0.0:30053", state(lb.UDP, b)), flow(lb.UDP, "203.0.113.5:30053", "203.0.113.5:30053"), false},
		"for everybody and for the inside: an endpoint of the inside": {both(state(lb.UDP, a), inside(state(lb.UDP, a, b))), both(state(lb.UDP), inside(state(lb.UDP, b))), flow(lb.UDP, vip, b), false},
		"for everybody and for the inside: an endpoint of neither":    {both(state(lb.UDP, a), inside(state(lb.UDP, a, b))), both(state(lb.UDP), inside(state(lb.UDP, b))), flow(lb.UDP, vip, a), true},
		"the inside alone changes":                                    {both(state(lb.UDP, a), inside(state(lb.UDP, a))), both(state(lb.UDP, a), inside(state(lb.UDP, b))), flow(lb.UDP, vip, a), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (rules{}).after(tc.have, tc.want).forgets(tc.flow); got != tc.forget {
				t.Errorf("forget = %v, want %v", got, tc.forget)
			}
		})
	}
}

// TestOpen counts what goes to an endpoint, not what is over or was never translated.
func TestOpen(t *testing.T) {
	const vip, a, b = "192.0.2.200:53", "10.0.0.1:53", "10.0.0.2:53"
	tcp := func(state uint8, vip, endpoint string) entry {
		f := flow(lb.TCP, vip, endpoint)
		f.state = state
		return f
	}
	const timeWait = 7
	nodePort := at("0.0.0.0:30053", state(lb.TCP, a))
	for name, tc := range map[string]struct {
		s     datapath.State
		flows []entry
		want  map[string]int
	}{
		"established":      {state(lb.TCP, a, b), []entry{tcp(tcpEstablished, vip, a), tcp(tcpEstablished, vip, a), tcp(timeWait, vip, b)}, map[string]int{a: 2}},
		"state not told":   {state(lb.TCP, a), []entry{tcp(0, vip, a)}, map[string]int{a: 1}},
		"UDP":              {state(lb.UDP, a), []entry{flow(lb.UDP, vip, a)}, map[string]int{a: 1}},
		"not translated":   {state(lb.TCP, a), []entry{tcp(tcpEstablished, vip, vip)}, map[string]int{}},
		"of nobody's port": {state(lb.TCP, a), []entry{tcp(tcpEstablished, "192.0.2.200:54", a)}, map[string]int{}},
		"at a node port":   {nodePort, []entry{tcp(tcpEstablished, "192.0.2.11:30053", a)}, map[string]int{a: 1}},
		"another's node":   {nodePort, []entry{tcp(tcpEstablished, "192.0.2.12:30053", a)}, map[string]int{}},
	} {
		o := newTally(tc.s)
		for _, f := range tc.flows {
			o.add(f)
		}
		got := map[string]int{}
		for c, n := range o.open {
			got[c.Destination.String()] += n
		}
		if !maps.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
