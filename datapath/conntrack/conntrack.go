package conntrack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// Flows is the conntrack table of the calling thread's network namespace.
type Flows struct{}

// Forget deletes, among the flows to listeners that differ between have and want, the UDP ones whose endpoint takes no new flows in
// want, and those that nobody translates where want has a new listener. A listener that want does not have loses all its UDP flows;
// one without any usable endpoint keeps them, since there is no better place. The table is read only if there is such a listener,
// once per IP family.
func (Flows) Forget(_ context.Context, have, want datapath.State) error {
	rules := changed(have, want)
	families := map[netlink.InetFamily]bool{}
	for l := range rules {
		if l.Addr.Addr().Is4() {
			families[unix.AF_INET] = true
		} else {
			families[unix.AF_INET6] = true
		}
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

// rules says for each listener that needs a look which endpoints its flows may have.
type rules map[datapath.Listener]rule

type rule struct {
	any  bool                    // every endpoint is fine, only untranslated flows are not
	open map[netip.AddrPort]bool // where new flows may go
}

func changed(have, want datapath.State) rules {
	out := rules{}
	for _, w := range want.Servers {
		h, known := have.Server(w.Listener)
		if known && (w.Protocol != lb.UDP || h.Equal(w)) {
			continue
		}
		open := map[netip.AddrPort]bool{}
		for _, d := range w.Destinations {
			if d.Weight > 0 {
				open[d.Addr] = true
			}
		}
		if len(open) > 0 {
			out[w.Listener] = rule{any: w.Protocol != lb.UDP, open: open}
		}
	}
	for _, h := range have.Servers {
		if _, ok := want.Server(h.Listener); h.Protocol == lb.UDP && !ok {
			out[h.Listener] = rule{}
		}
	}
	return out
}

// MatchConntrackFlow reports whether the flow is to be deleted; the netlink library calls it.
func (r rules) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	protocol, known := map[uint8]lb.Protocol{unix.IPPROTO_TCP: lb.TCP, unix.IPPROTO_UDP: lb.UDP, unix.IPPROTO_SCTP: lb.SCTP}[f.Forward.Protocol]
	to, ok1 := netip.AddrFromSlice(f.Forward.DstIP)
	from, ok2 := netip.AddrFromSlice(f.Reverse.SrcIP)
	if !known || !ok1 || !ok2 {
		return false
	}
	listener := datapath.Listener{Addr: netip.AddrPortFrom(to.Unmap(), f.Forward.DstPort), Protocol: protocol}
	endpoint := netip.AddrPortFrom(from.Unmap(), f.Reverse.SrcPort)
	rule, ours := r[listener]
	if rule.any {
		return endpoint == listener.Addr
	}
	return ours && !rule.open[endpoint]
}
