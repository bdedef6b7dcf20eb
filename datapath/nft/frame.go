package nft

import (
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
)

// The base chains.
const (
	guardIn  = "guard-prerouting"
	guardOut = "guard-output"
	markIn   = "mark-input"
	markOut  = "mark-output"
	countIn  = "count-prerouting"
	countOut = "count-output"
	natIn    = "nat-prerouting"
	natOut   = "nat-output"
	snat     = "nat-postrouting"
)

// The chains that end a connection attempt, and the one that lets it pass on to IPVS.
const (
	refuse = "refuse"
	silent = "drop"
	serve  = "serve"
)

// The sets and maps of one family.
func (f family) vips() string     { return "vips" + f.digit }     // addresses of which every port is ours
func (f family) nodes() string    { return "nodes" + f.digit }    // addresses with node ports
func (f family) pods() string     { return "pods" + f.digit }     // sources that are pods of this node
func (f family) hairpins() string { return "hairpins" + f.digit } // pairs of an endpoint's address with itself
func (f family) memory() string   { return "affinity" + f.digit } // number of a Service's port . client . endpoint
func (f family) marks() string    { return "marks" + f.digit }    // listener -> mark by which IPVS knows it from the inside

// Where a connection ends is in maps from listener to chain, those of node ports apart: in listeners for everybody, in inside for the node and
// its pods, where they see others; splits has the keys of inside.
//
// When one of these maps changes the kernel looks through all that a packet may come to, in every way that leads there. So no element leads
// to where such a map is looked into, and each is looked into at one place: else ten thousand Services cost it minutes. And as a packet may
// meet a map as it was and the next one as it is now, what is missed in inside is looked for in listeners.
func (f family) listeners(nodePort bool) string { return "listeners" + f.digit + ofNode(nodePort) }
func (f family) inside(nodePort bool) string    { return "inside" + f.digit + ofNode(nodePort) }
func (f family) splits(nodePort bool) string    { return "splits" + f.digit + ofNode(nodePort) }

func ofNode(port bool) string {
	if port {
		return "-node"
	}
	return ""
}

// endpoints is listener . slot -> endpoint, members listener . endpoint, and so is chosen, for connections with affinity as they begin.
func (f family) endpoints(inside bool) string { return "endpoints" + f.digit + kind(inside) }
func (f family) members(inside bool) string   { return "members" + f.digit + kind(inside) }
func (f family) chosen(inside bool) string    { return "chosen" + f.digit + kind(inside) }

func kind(inside bool) string {
	if inside {
		return "-inside"
	}
	return ""
}

// dnatStatus is IPS_DST_NAT of nf_conntrack_common.h: the connection's destination is translated.
const dnatStatus = 1 << 5

// hostMasks and podMasks hold the listeners for the inside whose connections from the node, or from its pods, are masqueraded.
func (f family) hostMasks() string { return "masquerade-host" + f.digit }
func (f family) podMasks() string  { return "masquerade-pods" + f.digit }

// frame writes what depends on no server.
func (o Options) frame(pods datapath.Detector, t tunnels) ruleset {
	r := newRuleset()
	for _, name := range []string{refuse, silent, serve} {
		r.chains[name] = chain{}
	}
	r.rule(refuse, ifMeta(expr.MetaKeyL4PROTO, unix.IPPROTO_TCP), rule{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
	for _, p := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_SCTP} {
		r.rule(refuse, ifMeta(expr.MetaKeyL4PROTO, p), rule{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}})
	}
	r.rule(refuse, drop())
	r.rule(silent, drop())
	r.rule(serve, accept())
	for _, f := range families() {
		o.frameSets(r, f, pods)
		o.services(r, f, pods)
	}
	o.hooks(r)
	o.sources(r)
	o.strays(r, pods)
	if t.on && !o.Forward {
		tunnelHooks(r, t.mtu)
	}
	return r
}

// hooks connects the chains to the path of packets.
func (o Options) hooks(r ruleset) {
	base := func(name, kind string, hook uint32, priority int32, before ...rule) {
		r.chains[name] = chain{kind: kind, hook: hook, priority: priority, rules: before}
	}
	dispatch := func(name, to string) {
		for _, f := range families() {
			r.rule(name, ifMeta(expr.MetaKeyNFPROTO, f.nfproto), goTo(to+f.digit))
		}
	}
	told := slices.Concat(ifStray(), ifNews(), drop()) // by who thinks that this node has others to tell
	unmarked := append(ifStray(), unmark()...)
	if o.Forward {
		for name, hook := range map[string]uint32{guardIn: unix.NF_INET_PRE_ROUTING, guardOut: unix.NF_INET_LOCAL_OUT} {
			base(name, "filter", hook, -120)
			for _, f := range families() { // without a connection there is no endpoint to send the packet to
				r.rule(name, ifState(expr.CtStateBitINVALID), ifMeta(expr.MetaKeyNFPROTO, f.nfproto), rule{f.loadDestination(0), in(f.vips(), 0)}, drop())
			}
		}
		r.rule(guardIn, told)
		r.rule(guardIn, unmarked)
		for name, hook := range map[string]uint32{natIn: unix.NF_INET_PRE_ROUTING, natOut: unix.NF_INET_LOCAL_OUT} {
			base(name, "nat", hook, -110)
			dispatch(name, "services")
		}
		translated := append(rule{&expr.Ct{Key: expr.CtKeySTATUS, Register: reg(0)}, mask(0, dnatStatus)}, equal(0, word(0)...))
		for name, hook := range map[string]uint32{countIn: unix.NF_INET_PRE_ROUTING, countOut: unix.NF_INET_LOCAL_OUT} {
			base(name, "filter", hook, -150, append(translated, back()...))
			dispatch(name, "count")
		}
		return
	}
	settled := append(ifState(expr.CtStateBitINVALID|expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), back()...)
	untracked := append(ifState(expr.CtStateBitUNTRACKED), back()...) // this node's output only where it hands a packet on
	base(guardIn, "filter", unix.NF_INET_PRE_ROUTING, -120, told, unmarked, settled)
	base(guardOut, "filter", unix.NF_INET_LOCAL_OUT, -120, bare(InsideBit(o.Mark)), settled, untracked)
	dispatch(guardIn, "services")
	dispatch(guardOut, "services")
	base(markIn, "filter", unix.NF_INET_LOCAL_IN, 90, settled) // IPVS comes at 99 here and at -98 there
	dispatch(markIn, "mark")
	base(markOut, "filter", unix.NF_INET_LOCAL_OUT, -110, settled, untracked)
	dispatch(markOut, "mark")
}

// sources rewrites the sources of packets that leave.
func (o Options) sources(r ruleset) {
	r.chains[snat] = chain{kind: "nat", hook: unix.NF_INET_POST_ROUTING, priority: 90}
	if !o.Forward {
		o.insideSources(r)
	}
	r.rule(snat, ifMark(o.Mark), masquerade())
	for _, f := range families() {
		r.rule(snat, ifMeta(expr.MetaKeyNFPROTO, f.nfproto), rule{f.loadSource(0), f.loadDestination(f.width()), in(f.hairpins(), 0)}, masquerade())
	}
}

// bare takes from a packet that IPVS sends all of the mark by which it knew a listener for the inside, except for the bit that all of them
// have. The others say nothing any more, and to kube-proxy and network plugins each may mean something.
func bare(inside uint32) rule {
	return append(ifMarked(inside), &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg(0)})
}

// insideSources masquerades connections to listeners for the inside. Those are known by one bit of their mark, because others may have
// added bits of theirs since, and what was meant by conntrack.
func (o Options) insideSources(r ruleset) {
	clear := rule{&expr.Immediate{Register: reg(0), Data: word(0)}, &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg(0)}}
	for _, f := range families() {
		inside := append(ifMeta(expr.MetaKeyNFPROTO, f.nfproto), ifMarked(InsideBit(o.Mark))...)
		for _, nodePort := range []bool{false, true} {
			r.rule(snat, inside, f.loadConnection(nodePort)[:3], rule{in(f.hostMasks(), 0)}, ifOwnSource(), clear, masquerade())
			r.rule(snat, inside, f.loadConnection(nodePort)[:3], rule{in(f.podMasks(), 0)}, ifForeignSource(), clear, masquerade())
		}
	}
}

func (o Options) frameSets(r ruleset, f family, pods datapath.Detector) {
	listener, endpoint := f.listenerFields(), f.endpointFields()
	with := func(more ...field) fields { return append(append(fields{}, listener...), more...) }
	r.sets[f.vips()] = set{key: fields{f.addr}}
	r.sets[f.nodes()] = set{key: fields{f.addr}}
	r.sets[f.pods()] = set{key: fields{f.addr}, interval: true}
	r.sets[f.hairpins()] = set{key: fields{f.addr, f.addr}}
	for _, nodePort := range []bool{false, true} {
		r.sets[f.listeners(nodePort)], r.sets[f.inside(nodePort)] = set{key: listener, verdicts: true}, set{key: listener, verdicts: true}
		r.sets[f.splits(nodePort)] = set{key: listener}
	}
	for _, p := range pods.Sources {
		if familyOf(p.Addr()).digit == f.digit {
			r.prefix(f.pods(), p)
		}
	}
	if !o.Forward {
		r.sets[f.marks()] = set{key: listener, value: fields{typeMark}}
		r.sets[f.hostMasks()], r.sets[f.podMasks()] = set{key: listener}, set{key: listener}
		r.sets[f.peers()], r.sets[f.gates()], r.sets[f.direct()] = set{key: fields{f.addr}}, set{key: fields{f.addr}}, set{key: listener}
		r.sets[f.meant()], r.sets[f.tunnelled()] = set{key: with(typeMark)}, set{key: with(typeMark), value: endpoint}
		return
	}
	r.sets[f.memory()] = set{key: append(fields{typeMark, f.addr}, endpoint...), memory: true}
	for _, inside := range []bool{false, true} {
		r.sets[f.endpoints(inside)] = set{key: with(typeMark), value: endpoint, counted: true}
		r.sets[f.members(inside)] = set{key: with(endpoint...), counted: true}
		r.sets[f.chosen(inside)] = set{key: with(endpoint...), counted: true}
		for _, nodePort := range []bool{false, true} {
			r.rule("count"+f.digit, f.loadConnection(nodePort), rule{in(f.members(inside), 0)}, back())
		}
	}
}

// services writes the chains that a new connection goes through on its way to its listener's chain.
func (o Options) services(r ruleset, f family, pods datapath.Detector) {
	all, vip, node := "services"+f.digit, "vip"+f.digit, "node"+f.digit
	for _, nodePort := range []bool{false, true} {
		at, split := all, "split"+f.digit+ofNode(nodePort)
		if nodePort {
			at = node
		}
		r.rule(at, f.loadListener(nodePort), rule{in(f.splits(nodePort), 0)}, jump(split)) // every chain that inside leads to ends the matter
		r.rule(at, f.loadListener(nodePort), rule{follow(f.listeners(nodePort), 0)})
		r.rule(split, f.ifOutside(pods), back())
		r.rule(split, f.loadListener(nodePort), rule{follow(f.inside(nodePort), 0)})
		if !o.Forward {
			o.marking(r, f, pods, nodePort)
		}
	}
	r.rule(all, rule{f.loadDestination(0), in(f.nodes(), 0)}, goTo(node))
	r.rule(all, rule{f.loadDestination(0), in(f.vips(), 0)}, goTo(vip))

	ping := append(ifMeta(expr.MetaKeyL4PROTO, f.icmp), &expr.Payload{DestRegister: reg(0), Base: expr.PayloadBaseTransportHeader, Len: 1}, equal(0, f.echo))
	if o.Forward { // the VIP is no address of this node, which answers pings for it all the same
		r.rule(vip, ping, rule{&expr.Redir{}})
	} else {
		r.rule(vip, ping, back())
	}
	if f.neighbours {
		for _, solicit := range []byte{135, 136} {
			r.rule(vip, ifMeta(expr.MetaKeyL4PROTO, f.icmp),
				rule{&expr.Payload{DestRegister: reg(0), Base: expr.PayloadBaseTransportHeader, Len: 1}, equal(0, solicit)}, back())
		}
	}
	r.rule(vip, goTo(refuse))
	for c := datapath.Nobody + 1; c <= datapath.Everybody; c++ {
		o.masquerading(r, f, c, pods)
	}
}

// marking gives connections from the inside the mark by which IPVS finds their destinations. The whole mark is overwritten, because
// IPVS compares the whole, bits of others included.
func (o Options) marking(r ruleset, f family, pods datapath.Detector, nodePort bool) {
	var where rule
	if nodePort {
		where = rule{f.loadDestination(0), in(f.nodes(), 0)}
	}
	for _, c := range append(f.host(), f.local(pods)...) {
		r.rule("mark"+f.digit, where, f.loadListener(nodePort), rule{find(f.marks(), 0, f.width()+2)}, c,
			rule{&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg(f.width() + 2)}}, back())
	}
}

// host returns the conditions of which one holds for packets of the node itself, local those for its pods.
func (f family) host() []rule { return []rule{ifOutput(), ifOwnSource()} }

// ifOutside goes on if none of them holds; it uses the registers that they use.
func (f family) ifOutside(pods datapath.Detector) (out rule) {
	for _, condition := range append(f.host(), f.local(pods)...) {
		out = append(out, not(condition)...)
	}
	return out
}

func (f family) local(pods datapath.Detector) []rule {
	var out []rule
	for _, p := range pods.Sources {
		if familyOf(p.Addr()).digit == f.digit {
			out = append(out, rule{f.loadSource(0), in(f.pods(), 0)})
			break
		}
	}
	for _, name := range pods.Interfaces {
		pattern := append([]byte(name), 0)
		if n := len(name); n > 0 && name[n-1] == '*' {
			pattern = []byte(name[:n-1])
		}
		out = append(out, rule{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg(0)}, equal(0, pattern...)})
	}
	return out
}

// masqueradeChain is the chain that marks connections of some kinds of clients for masquerade.
func masqueradeChain(f family, c datapath.Clients) string {
	return "masquerade" + f.digit + "-" + strings.ReplaceAll(c.String(), ",", "-")
}

func (o Options) masquerading(r ruleset, f family, c datapath.Clients, pods datapath.Detector) {
	name := masqueradeChain(f, c)
	r.chains[name] = chain{}
	if c == datapath.Everybody {
		r.rule(name, setMark(o.Mark))
		return
	}
	for _, group := range []struct {
		who  datapath.Clients
		when []rule
	}{{datapath.Host, f.host()}, {datapath.Pods, f.local(pods)}} {
		for _, when := range group.when {
			if c&group.who != 0 {
				r.rule(name, when, setMark(o.Mark), back())
			} else {
				r.rule(name, when, back())
			}
		}
	}
	if c&datapath.Outside != 0 {
		r.rule(name, setMark(o.Mark))
	}
}
