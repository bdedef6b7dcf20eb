package conntrack

import (
	"maps"
	"net/netip"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// rules says for each listener that needs a look which endpoints its flows may have. The listeners are all for everybody. Of UDP every
// other flow is forgotten; of the other protocols the endpoints do not matter, only those that nobody translates are.
type rules struct {
	listeners map[datapath.Listener]endpoints
	nodes     map[netip.Addr]bool // where node ports are
}

// endpoints are those where new flows may go.
type endpoints map[netip.AddrPort]bool

func newRules(listeners map[datapath.Listener]endpoints, nodes []netip.Addr) rules {
	r := rules{listeners, make(map[netip.Addr]bool, len(nodes))}
	for _, a := range nodes {
		r.nodes[a] = true
	}
	return r
}

// after returns what is to be done after a change from have to want: what the change asks for, and at all other listeners what was left
// to do before.
func (r rules) after(have, want datapath.State) rules {
	out := newRules(differing(have.Servers, want.Servers), want.NodeAddrs)
	for l, open := range r.listeners {
		if _, differs := out.listeners[l]; !differs {
			out.listeners[l] = open
		}
	}
	wanted := map[datapath.Listener]bool{}
	for _, v := range want.Servers {
		key := v.Listener.ForEverybody()
		open, look := out.listeners[key]
		if wanted[key] = true; !look {
			continue
		}
		for _, d := range v.Destinations {
			if d.Weight > 0 {
				open[d.Addr] = true
			}
		}
	}
	maps.DeleteFunc(out.listeners, func(l datapath.Listener, open endpoints) bool {
		return len(open) == 0 && (l.Protocol != lb.UDP || wanted[l])
	})
	return out
}

// differing returns the listeners that are new, gone, or of UDP and not the same, their endpoints still to be filled in.
func differing(have, want []*datapath.VirtualServer) map[datapath.Listener]endpoints {
	out := map[datapath.Listener]endpoints{}
	for h, w := range datapath.Pairs(have, want) {
		switch {
		case w == nil && (h.Protocol == lb.UDP || h.Listener == h.ForEverybody()):
			out[h.Listener.ForEverybody()] = endpoints{}
		case w == nil: // its connections go on
		case h == nil, w.Protocol == lb.UDP && !h.Equal(w):
			out[w.Listener.ForEverybody()] = endpoints{}
		}
	}
	return out
}

// forgets reports whether an entry is to be deleted.
func (r rules) forgets(e entry) bool {
	l, open, ours := r.find(e)
	if l.Protocol != lb.UDP {
		return ours && e.from == l.Addr
	}
	return ours && !open[e.from]
}

// find returns the listener that a flow is to, a node port's without the node's address, and where its new flows may go; ours is false if
// there is no rule for the listener.
func (r rules) find(e entry) (l datapath.Listener, open endpoints, ours bool) {
	l = datapath.Listener{Addr: e.to, Protocol: e.protocol}
	if open, ours = r.listeners[l]; ours || !r.nodes[e.to.Addr()] {
		return l, open, ours
	}
	anywhere := netip.IPv6Unspecified()
	if e.to.Addr().Is4() {
		anywhere = netip.IPv4Unspecified()
	}
	l.Addr = netip.AddrPortFrom(anywhere, e.to.Port())
	open, ours = r.listeners[l]
	return l, open, ours
}
