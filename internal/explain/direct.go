package explain

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/internal/view"
	"github.com/fairlead-lb/fairlead/lb"
)

// direct says how direct server return is done at the address: the first tier, on every node, chooses an endpoint, and the second one, on the
// endpoint's node, takes what is tunnelled to it. False is that nobody asks for it.
func (f *Facts) direct(s lb.Service, addr netip.Addr) (Step, bool) {
	var first, second, third []string
	var refused lb.Refusal
	for _, node := range f.answered() {
		dp := f.Speakers[node].Datapath
		for _, srv := range dp.Servers {
			if srv.Service != s.Key.String() || !listensAt(srv, addr) {
				continue
			}
			switch line := f.tier(s, srv); {
			case srv.Tunnelled:
				second = append(second, fmt.Sprintf("tier 2, %s: %s", node, line))
			case srv.Direct:
				first = append(first, fmt.Sprintf("tier 1, %s: %s", node, line))
			}
		}
		for _, out := range dp.LeftOut {
			if out.Service == s.Key.String() && out.Reason == lb.DSRUnavailable {
				third = append(third, fmt.Sprintf("%s: %s", node, out.Message))
				if refused.OK() {
					refused = lb.Refusal{Reason: out.Reason, Message: fmt.Sprintf("on %s, %s", node, out.Message)}
				}
			}
		}
	}
	evidence := slices.Concat(first, second, f.tunnels(s), third)
	switch {
	case !refused.OK():
		return no(directReturn, refused, evidence...), true
	case len(first) > 0:
		return yes(directReturn, evidence...), true
	}
	return Step{}, false
}

// tier says where a server of direct server return leads.
func (f *Facts) tier(s lb.Service, srv view.Server) string {
	at := map[netip.AddrPort]lb.NodeName{}
	for _, e := range f.Kube.Endpoints.Of(s.Key) {
		at[e.Addr] = e.Node
	}
	here, conns := 0, 0
	var tunnelled []string
	to := map[lb.NodeName]int{}
	for _, d := range srv.Destinations {
		conns += d.Conns
		if d.Method == string(datapath.Tunnel) {
			to[at[d.Addr]]++
		} else {
			here++
		}
	}
	for _, node := range slices.Sorted(maps.Keys(to)) {
		tunnelled = append(tunnelled, fmt.Sprintf("%d to %s", to[node], node))
	}
	listener, _, _ := strings.Cut(srv.Listener, " ")
	if srv.Tunnelled {
		return fmt.Sprintf("what other nodes tunnel for %s goes to %d pods here", listener, here)
	}
	return fmt.Sprintf("%s chooses by %s, %d pods here, and through tunnels %s; %d connections", listener, srv.Scheduler, here, orNone(tunnelled), conns)
}

// tunnels returns a line for each way between nodes that is not known to let packets through, of those that matter to the Service.
func (f *Facts) tunnels(s lb.Service) (out []string) {
	with := map[lb.NodeName]bool{}
	for _, e := range f.Kube.Endpoints.Of(s.Key) {
		with[e.Node] = true
	}
	for _, node := range f.answered() {
		dp := f.Speakers[node].Datapath
		told := map[lb.NodeName]bool{}
		for _, n := range dp.NoTunnel {
			told[n.Node] = true
			if with[n.Node] || n.Node == node {
				out = append(out, fmt.Sprintf("tunnel %s to %s: %s: %s", node, n.Node, n.Reason, n.Message))
			}
		}
		for _, way := range dp.Tunnels {
			switch {
			case !with[way.Node] || told[way.Node] || way.ToPod != "":
			case way.ToHost == "":
				out = append(out, fmt.Sprintf("tunnel %s to %s (%s): no answer yet", node, way.Node, way.Host))
			default:
				out = append(out, fmt.Sprintf("tunnel %s to %s (%s): its datapath takes nothing yet, or no pod has answered yet", node, way.Node, way.Host))
			}
		}
	}
	return out
}
