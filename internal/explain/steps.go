package explain

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/internal/view"
	"github.com/fairlead-lb/fairlead/lb"
)

// row is what one speaker decided about an address.
type row struct {
	node lb.NodeName
	view.Decision
}

// rows returns what the speakers decided about an address by one way, sorted by node.
func (f *Facts) rows(addr netip.Addr, via announce.Via) []row {
	var out []row
	for _, node := range f.answered() {
		for _, d := range f.Speakers[node].Decisions.Decisions {
			if d.VIP == addr && d.Via == string(via) {
				out = append(out, row{node, d})
			}
		}
	}
	return out
}

func (r row) String() string {
	switch {
	case r.Announce && len(r.Peers) > 0:
		return fmt.Sprintf("%s: tells %s", r.node, strings.Join(r.Peers, ", "))
	case r.Announce:
		return fmt.Sprintf("%s: announces it on %s", r.node, strings.Join(r.Interfaces, ", "))
	case r.Message != "":
		return fmt.Sprintf("%s: %s: %s", r.node, r.Reason, r.Message)
	}
	return fmt.Sprintf("%s: %s", r.node, r.Reason)
}

// elected says which node the speakers have elected.
func (f *Facts) elected(addr netip.Addr) (lb.NodeName, Step) {
	rows, evidence := f.rows(addr, announce.L2), f.silent()
	owners := map[lb.NodeName]bool{}
	var worst lb.Refusal
	for _, r := range rows {
		evidence = append(evidence, r.String())
		if r.Owner != "" {
			owners[r.Owner] = true
		}
		if worst.OK() && !r.Announce && r.Reason != lb.NotOwner {
			worst = lb.Refusal{Reason: r.Reason, Message: r.Message}
		}
	}
	switch {
	case len(f.answered()) == 0 && len(f.Speakers) == 0:
		step := unknown(election, "no speaker runs", evidence...)
		step.Verdict, step.Next = No, fmt.Sprintf("see `kubectl get daemonset -n %s` and its Events", f.Namespace)
		return "", step
	case len(f.answered()) == 0:
		return "", unknown(election, "no speaker has answered", evidence...)
	case len(rows) == 0 && len(f.rows(addr, announce.BGP)) > 0:
		return "", skipped(election, "by BGP every node announces that can; nobody is elected")
	case len(rows) == 0:
		return "", unknown(election, "no speaker knows the address yet", evidence...)
	case len(owners) > 1:
		return "", unknown(election, "the speakers name different owners at the moment; ask again in a second", evidence...)
	case len(owners) == 0:
		step := no(election, worst, append(evidence, f.links()...)...)
		if worst.Reason != lb.NoInterface {
			step.Evidence = evidence
		}
		return "", step
	}
	for owner := range owners {
		return owner, yes(election, append([]string{string(owner) + " was elected"}, evidence...)...)
	}
	panic("explain: unreachable")
}

// members returns the living speakers as the first that has answered knows them.
func (f *Facts) members() []view.Member {
	nodes := f.answered()
	if len(nodes) == 0 {
		return nil
	}
	return f.Speakers[nodes[0]].Decisions.Members
}

// links lists the interfaces of the nodes, as any speaker knows them.
func (f *Facts) links() []string {
	var out []string
	for _, m := range f.members() {
		for _, l := range m.Links {
			state := "up"
			if !l.Up {
				state = "down"
			}
			out = append(out, fmt.Sprintf("%s has %s (%s) with %s", m.Node, l.Name, state, join(l.Prefixes)))
		}
	}
	for _, ad := range f.Kube.L2 {
		if len(ad.Interfaces) > 0 {
			out = append(out, fmt.Sprintf("L2Advertisement %s allows the interfaces %s only", ad.Name, strings.Join(ad.Interfaces, ", ")))
		}
	}
	return out
}

func join[T fmt.Stringer](in []T) string {
	var out []string
	for _, v := range in {
		out = append(out, v.String())
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, ", ")
}

// announced says whether the owner announces at layer 2. It returns the hardware addresses by which it does.
func (f *Facts) announced(addr netip.Addr, owner lb.NodeName) (macs []string, step Step) {
	if owner == "" {
		return nil, skipped(announcement, "no node is elected")
	}
	for _, r := range f.rows(addr, announce.L2) {
		if r.node != owner {
			continue
		}
		if !r.Announce {
			return nil, no(announcement, lb.Refusal{Reason: r.Reason, Message: r.Message})
		}
		for _, m := range f.Speakers[owner].Decisions.Members {
			for _, l := range m.Links {
				if m.Node == owner && slices.Contains(r.Interfaces, l.Name) {
					macs = append(macs, l.MAC)
				}
			}
		}
		step := yes(announcement, fmt.Sprintf("%s announces it on %s, by %s", owner, strings.Join(r.Interfaces, ", "), strings.Join(macs, ", ")))
		step.Message = r.Message
		return macs, step
	}
	return nil, unknown(announcement, fmt.Sprintf("the speaker of %s has not answered", owner), f.silent()...)
}

// told says which nodes tell their routers of the address by BGP, and over sessions that are established. One is enough.
func (f *Facts) told(addr netip.Addr) Step {
	var evidence []string
	var refused, down lb.Refusal
	telling, heard := 0, 0
	for _, r := range f.rows(addr, announce.BGP) {
		evidence = append(evidence, r.String())
		if !r.Announce {
			if refused.OK() {
				refused = lb.Refusal{Reason: r.Reason, Message: r.Message}
			}
			continue
		}
		telling++
		for _, s := range f.sessions(r.node) {
			if !slices.Contains(r.Peers, s.Peer) {
				continue
			}
			evidence = append(evidence, sessionLine(r.node, s))
			if s.State == established {
				heard++
			} else if down.OK() {
				down = lb.Refusal{Reason: lb.Reason(s.Reason), Message: s.Message}
			}
		}
	}
	switch {
	case telling == 0:
		// Without a session nobody is told: what is wrong with it is the cause.
		for _, node := range f.answered() {
			for _, s := range f.sessions(node) {
				evidence = append(evidence, sessionLine(node, s))
				if s.State != established && down.OK() {
					down = lb.Refusal{Reason: lb.Reason(s.Reason), Message: s.Message}
				}
			}
		}
		if !down.OK() && (refused.OK() || refused.Reason == lb.NoSession) {
			refused = down
		}
		return no(toRouters, refused, evidence...)
	case heard == 0:
		return no(toRouters, down, evidence...)
	}
	step := yes(toRouters, evidence...)
	step.Reason, step.Message = down.Reason, down.Message
	return step
}

// established is the state of a BGP session that works (RFC 4271).
const established = "Established"

func (f *Facts) sessions(node lb.NodeName) []v1beta1.BGPSession {
	if bgp := f.Statuses[node].Status.BGP; bgp != nil {
		return bgp.Sessions
	}
	return nil
}

func sessionLine(node lb.NodeName, s v1beta1.BGPSession) string {
	line := fmt.Sprintf("%s: session with %s (%s) is %s", node, s.Peer, s.Address, s.State)
	switch {
	case s.State == established:
		return fmt.Sprintf("%s, %d prefixes sent", line, s.PrefixesSent)
	case s.LastError != "":
		return line + "; it ended with: " + s.LastError
	}
	return line
}

// answering compares who answers with who should.
func (f *Facts) answering(addr netip.Addr, macs []string) Step {
	got, asked := f.Answers[addr]
	switch {
	case !asked:
		return skipped(wire, "nobody was asked; --probe asks, from a machine on the segment")
	case len(got) == 0:
		return Step{Name: wire, Verdict: No, Message: "nobody answers for the address on this segment",
			Next: "ask from a machine of the node's segment; see that no switch filters ARP or neighbour discovery"}
	}
	strangers := slices.DeleteFunc(slices.Clone(got), func(mac string) bool { return slices.Contains(macs, mac) })
	if len(strangers) > 0 {
		return no(wire, lb.Refusal{Reason: lb.AddressConflict, Message: fmt.Sprintf("%s answers, which is not where the address is announced", strings.Join(strangers, ", "))}, "answers: "+strings.Join(got, ", "))
	}
	return yes(wire, strings.Join(got, ", ")+" answers, and nobody else")
}

// forwarded says whether the owner's datapath forwards, or that of any node where nobody is elected.
func (f *Facts) forwarded(s lb.Service, addr netip.Addr, owner lb.NodeName) Step {
	ours := func(node lb.NodeName) bool { return f.Speakers[node].Datapath.Engine != "none" }
	if slices.Contains(s.Ingress, lb.Ingress{Addr: addr, Mode: lb.ModeVIP}) && !slices.ContainsFunc(f.answered(), ours) {
		return skipped(forwarding, "ipMode is VIP: kube-proxy or whoever replaces it forwards")
	}
	var evidence []string
	var worst Step
	able := 0
	for _, node := range f.answered() {
		dp := f.Speakers[node].Datapath
		forwards := slices.Contains(dp.Programmed, addr)
		line := fmt.Sprintf("%s (%s): not programmed", node, dp.Engine)
		if forwards {
			able++
			line = fmt.Sprintf("%s (%s): %s", node, dp.Engine, servers(dp, s.Key, addr))
		}
		evidence = append(evidence, line)
		if forwards || owner != "" && node != owner {
			continue
		}
		if !dp.Ready {
			worst = no(forwarding, lb.Refusal{Reason: lb.DatapathNotReady, Message: strings.TrimSpace(fmt.Sprintf("the datapath of %s does not work: %s", node, dp.Error))})
		} else {
			worst = no(forwarding, lb.Refusal{Reason: lb.NotProgrammed, Message: fmt.Sprintf("the datapath of %s has not programmed the address", node)})
		}
	}
	switch {
	case len(evidence) == 0:
		return unknown(forwarding, "no speaker has answered", f.silent()...)
	case worst.Verdict == No && (owner != "" || able == 0):
		worst.Evidence = evidence
		return worst
	}
	return yes(forwarding, evidence...)
}

// servers says where the ports of the Service at addr go.
func servers(dp view.Datapath, key lb.ServiceKey, addr netip.Addr) string {
	var out []string
	for _, srv := range dp.Servers {
		if srv.Service != key.String() || !listensAt(srv, addr) {
			continue
		}
		live, conns := 0, 0
		for _, d := range srv.Destinations {
			conns += d.Conns
			if d.Weight > 0 {
				live++
			}
		}
		text := fmt.Sprintf("%s to %d pods, %d connections", srv.Listener, live, conns)
		switch {
		case live == 0 && conns > 0:
			text = fmt.Sprintf("%s to nobody: %s, %d connections go on", srv.Listener, srv.Verdict, conns)
		case live == 0:
			text = srv.Listener + " to nobody: " + srv.Verdict
		}
		out = append(out, text)
	}
	if len(out) == 0 {
		return "programmed"
	}
	return strings.Join(out, "; ")
}

// listensAt reports whether srv forwards what comes to addr.
func listensAt(srv view.Server, addr netip.Addr) bool {
	text, _, _ := strings.Cut(srv.Listener, "/")
	at, err := netip.ParseAddrPort(text)
	return err == nil && at.Addr() == addr
}

// backends says which endpoints could take a connection.
func (f *Facts) backends(s lb.Service, owner lb.NodeName) Step {
	all := f.Kube.Endpoints.Of(s.Key)
	var evidence []string
	usable, here := 0, 0
	for _, p := range s.Ports {
		of := lb.OfPort(all, p)
		ready := map[lb.NodeName]int{}
		n := 0
		for _, e := range of {
			if e.Ready {
				ready[e.Node]++
				n++
			}
		}
		usable += len(lb.Usable(of, lb.Cluster, ""))
		here += len(lb.Usable(of, lb.Local, owner))
		var on []string
		for _, node := range slices.Sorted(maps.Keys(ready)) {
			on = append(on, fmt.Sprintf("%d on %s", ready[node], node))
		}
		evidence = append(evidence, strings.TrimSuffix(fmt.Sprintf("port %d/%s: %d of %d endpoints are ready: %s", p.Port, p.Protocol, n, len(of), strings.Join(on, ", ")), ": "))
	}
	switch {
	case usable == 0 && len(all) == 0 && s.Selector != "":
		return no(endpoints, lb.Refusal{Reason: lb.NoEndpoints, Message: fmt.Sprintf("no pod matches the selector %s, or none has an address yet", s.Selector)}, evidence...)
	case usable == 0 && len(all) == 0:
		return no(endpoints, lb.Refusal{Reason: lb.NoEndpoints, Message: "the Service has no selector, and no EndpointSlice names it"}, evidence...)
	case usable == 0:
		return no(endpoints, lb.Refusal{Reason: lb.NoEndpoints, Message: "no endpoint is ready"}, evidence...)
	case s.ExternalTrafficPolicy == lb.Local && owner != "" && here == 0:
		return no(endpoints, lb.Refusal{Reason: lb.NoLocalEndpoint, Message: fmt.Sprintf("externalTrafficPolicy is Local and %s has no ready endpoint", owner)}, evidence...)
	}
	return yes(endpoints, evidence...)
}

// healthy says which nodes a health check of the Service would call healthy.
func (f *Facts) healthy(s lb.Service, owner lb.NodeName) Step {
	if s.HealthCheckNodePort == 0 {
		return skipped(health, "externalTrafficPolicy is Cluster: nobody has to ask which node has pods")
	}
	var with, without []string
	for _, node := range slices.Sorted(maps.Keys(f.Kube.Nodes)) {
		if lb.HasReadyOn(f.Kube.Endpoints.Of(s.Key), node) {
			with = append(with, string(node))
		} else {
			without = append(without, string(node))
		}
	}
	evidence := []string{fmt.Sprintf("port %d of the nodes: healthy on %s; not on %s", s.HealthCheckNodePort, orNone(with), orNone(without))}
	if len(with) == 0 || owner != "" && !slices.Contains(with, string(owner)) {
		return no(health, lb.Refusal{Reason: lb.NoLocalEndpoint, Message: "the node that announces the address has no ready endpoint"}, evidence...)
	}
	return yes(health, evidence...)
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
