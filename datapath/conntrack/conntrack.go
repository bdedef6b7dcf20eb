package conntrack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// Flows is the conntrack table of the calling thread's network namespace.
type Flows struct{}

// Forget deletes, among the flows to listeners that differ between have and want, the UDP ones whose endpoint takes no new flows in
// want, and those that nobody translates where want has a new listener. A listener that want does not have loses all its UDP flows;
// one without any usable endpoint keeps them, since there is no better place. Of a listener for everybody and one for the inside, which
// have one address, the endpoints of both will do: a flow does not say whose it is. Node ports are at the NodeAddrs of want. The table is
// read only if there is such a listener, once per IP family.
func (Flows) Forget(_ context.Context, have, want datapath.State) error {
	rules := changed(have, want)
	families := map[netlink.InetFamily]bool{}
	for l := range rules.listeners {
		families[familyOf(l.Addr.Addr())] = true
	}
	var errs []error
	for family := range families {
		// A dump is interrupted when the table changes under it; what was seen of it has been handled, the rest needs another look.
		var err error
		for range 3 {
			if _, err = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, rules); !errors.Is(err, netlink.ErrDumpInterrupted) {
				break
			}
		}
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			errs = append(errs, fmt.Errorf("deleting conntrack entries: %w", err))
		}
	}
	return errors.Join(errs...)
}

// rules says for each listener that needs a look which endpoints its flows may have. The listeners are all for everybody.
type rules struct {
	listeners map[datapath.Listener]rule
	nodes     map[netip.Addr]bool // where node ports are
}

type rule struct {
	any  bool                    // every endpoint is fine, only untranslated flows are not
	open map[netip.AddrPort]bool // where new flows may go
}

func newRules(listeners map[datapath.Listener]rule, nodes []netip.Addr) rules {
	r := rules{listeners, make(map[netip.Addr]bool, len(nodes))}
	for _, a := range nodes {
		r.nodes[a] = true
	}
	return r
}

func changed(have, want datapath.State) rules {
	out := newRules(differing(have.Servers, want.Servers), want.NodeAddrs)
	wanted := map[datapath.Listener]bool{}
	for _, v := range want.Servers {
		key := v.Listener.ForEverybody()
		r, look := out.listeners[key]
		if wanted[key] = true; !look {
			continue
		}
		for _, d := range v.Destinations {
			if d.Weight > 0 {
				r.open[d.Addr] = true
			}
		}
	}
	maps.DeleteFunc(out.listeners, func(l datapath.Listener, r rule) bool { return len(r.open) == 0 && (r.any || wanted[l]) })
	return out
}

// differing returns the listeners that need a look, their endpoints still to be filled in.
func differing(h, w []*datapath.VirtualServer) map[datapath.Listener]rule {
	out := map[datapath.Listener]rule{}
	note := func(l datapath.Listener, any bool) {
		r, had := out[l.ForEverybody()]
		out[l.ForEverybody()] = rule{any && (!had || r.any), map[netip.AddrPort]bool{}}
	}
	for len(h) > 0 || len(w) > 0 {
		order := 0
		switch {
		case len(h) == 0:
			order = 1
		case len(w) == 0:
			order = -1
		default:
			order = h[0].Listener.Compare(w[0].Listener)
		}
		switch {
		case order > 0:
			note(w[0].Listener, w[0].Protocol != lb.UDP)
		case order < 0 && h[0].Protocol == lb.UDP, order == 0 && w[0].Protocol == lb.UDP && !h[0].Equal(w[0]):
			note(h[0].Listener, false)
		}
		if order <= 0 {
			h = h[1:]
		}
		if order >= 0 {
			w = w[1:]
		}
	}
	return out
}

// MatchConntrackFlow reports whether the flow is to be deleted; the netlink library calls it.
func (r rules) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	listener, endpoint, rule, ours := r.find(f)
	if rule.any {
		return endpoint == listener.Addr
	}
	return ours && !rule.open[endpoint]
}

// find returns the listener that a flow is to, a node port's without the node's address, and who answers it; ours is false if there is no
// rule for the listener.
func (r rules) find(f *netlink.ConntrackFlow) (l datapath.Listener, endpoint netip.AddrPort, found rule, ours bool) {
	protocol, known := lb.ProtocolOf(f.Forward.Protocol)
	to, ok1 := netip.AddrFromSlice(f.Forward.DstIP)
	from, ok2 := netip.AddrFromSlice(f.Reverse.SrcIP)
	if !known || !ok1 || !ok2 {
		return l, endpoint, rule{}, false
	}
	to = to.Unmap()
	l = datapath.Listener{Addr: netip.AddrPortFrom(to, f.Forward.DstPort), Protocol: protocol}
	endpoint = netip.AddrPortFrom(from.Unmap(), f.Reverse.SrcPort)
	if found, ours = r.listeners[l]; ours || !r.nodes[to] {
		return l, endpoint, found, ours
	}
	anywhere := netip.IPv6Unspecified()
	if to.Is4() {
		anywhere = netip.IPv4Unspecified()
	}
	l.Addr = netip.AddrPortFrom(anywhere, f.Forward.DstPort)
	found, ours = r.listeners[l]
	return l, endpoint, found, ours
}
