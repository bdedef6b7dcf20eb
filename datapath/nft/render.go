package nft

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
)

// changed returns the parts of two states in which they differ. Everything in the table that is no part of the frame belongs to one
// address, or to the servers of one listener, so the difference of the tables of the parts is that of the whole tables.
func changed(old, new datapath.State) (from, to datapath.State) {
	from.VIPs, to.VIPs = except(old.VIPs, new.VIPs), except(new.VIPs, old.VIPs)
	from.NodeAddrs, to.NodeAddrs = except(old.NodeAddrs, new.NodeAddrs), except(new.NodeAddrs, old.NodeAddrs)
	from.Peers, to.Peers = except(old.Peers, new.Peers), except(new.Peers, old.Peers)
	from.Pods, to.Pods = old.Pods, new.Pods
	for a, b := old.Servers, new.Servers; len(a) > 0 || len(b) > 0; {
		n := shared(a, b)
		a, b = a[n:], b[n:]
		x, y := listened(a), listened(b)
		if len(x) > 0 && len(y) > 0 {
			switch order := compare(x[0], y[0]); {
			case order < 0:
				y = nil
			case order > 0:
				x = nil
			}
		}
		if !slices.EqualFunc(x, y, (*datapath.VirtualServer).Equal) {
			from.Servers, to.Servers = append(from.Servers, x...), append(to.Servers, y...)
		}
		a, b = a[len(x):], b[len(y):]
	}
	return from, to
}

// shared returns how many servers at the heads of both lists are one and the same, those left out whose listener has others too that are not.
func shared(a, b []*datapath.VirtualServer) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	for n > 0 && (n < len(a) && compare(a[n-1], a[n]) == 0 || n < len(b) && compare(a[n-1], b[n]) == 0) {
		n--
	}
	return n
}

// compare orders servers by listener, whoever's clients they are for.
func compare(a, b *datapath.VirtualServer) int {
	return a.Listener.ForEverybody().Compare(b.Listener.ForEverybody())
}

// listened returns the servers at the head of a sorted list that share a listener: those for everybody, for the inside, for the tunnel.
func listened(list []*datapath.VirtualServer) []*datapath.VirtualServer {
	n := min(1, len(list))
	for n < len(list) && compare(list[0], list[n]) == 0 {
		n++
	}
	return list[:n]
}

// except returns the addresses of a that are not in b; both are sorted.
func except(a, b []netip.Addr) []netip.Addr {
	if slices.Equal(a, b) {
		return nil
	}
	var out []netip.Addr
	for _, x := range a {
		if _, in := slices.BinarySearchFunc(b, x, netip.Addr.Compare); !in {
			out = append(out, x)
		}
	}
	return out
}

// render returns what the table holds of a state besides the frame.
func (o Options) render(s datapath.State) ruleset {
	r := newRuleset()
	for _, a := range s.VIPs {
		r.element(familyOf(a).vips(), addrKey(a), "")
	}
	for _, a := range s.NodeAddrs {
		r.element(familyOf(a).nodes(), addrKey(a), "")
	}
	if !o.Forward {
		for _, a := range s.Peers {
			r.element(familyOf(a).peers(), addrKey(a), "")
		}
	}
	for _, v := range s.Servers {
		if v.Tunnelled {
			o.tunnelled(r, *v)
			continue
		}
		o.server(r, *v, s.Pods)
	}
	return r
}

// server writes one server.
func (o Options) server(r ruleset, v datapath.VirtualServer, pods datapath.Detector) {
	f, key := familyOf(v.Addr.Addr()), listenerKey(v.Listener)
	to := o.leaf(r, f, v, pods)
	if len(v.SourceRanges) > 0 && to != silent {
		to = r.from(f, v.SourceRanges, to)
	}
	if !v.Inside {
		r.element(f.listeners(v.NodePort()), key, to)
		return
	}
	r.element(f.inside(v.NodePort()), key, to)
	r.element(f.splits(v.NodePort()), key, "")
	if !o.Forward && v.Verdict == datapath.Forward {
		r.element(f.marks(), key, string(word(o.Inside(v.Listener))))
		if v.Masquerade&datapath.Host != 0 {
			r.element(f.hostMasks(), key, "")
		}
		if v.Masquerade&datapath.Pods != 0 {
			r.element(f.podMasks(), key, "")
		}
	}
}

// leaf returns the chain in which a permitted connection to v ends, and writes what the chain needs.
func (o Options) leaf(r ruleset, f family, v datapath.VirtualServer, pods datapath.Detector) string {
	open := slots(v)
	switch {
	case v.Verdict == datapath.Drop:
		return silent
	case v.Verdict == datapath.Reject || len(open) == 0:
		return refuse
	}
	if v.Masquerade&datapath.Pods == 0 {
		for _, a := range open { // S28: a pod that comes to itself
			if here(pods, a.Addr()) {
				r.shared(f.hairpins(), addrKey(a.Addr())+addrKey(a.Addr()), "")
			}
		}
	}
	if o.Forward {
		return o.forward(r, f, v, open)
	}
	if v.Masquerade == datapath.Nobody || v.Inside { // masquerading the inside is decided where the packet leaves
		return serve
	}
	return masqueradeChain(f, v.Masquerade)
}

// here reports whether a may be a pod of this node.
func here(pods datapath.Detector, a netip.Addr) bool {
	return len(pods.Sources) == 0 || len(pods.Interfaces) > 0 || slices.ContainsFunc(pods.Sources, func(p netip.Prefix) bool { return p.Contains(a) })
}

// slots are the endpoints that get new connections, as often as they weigh.
func slots(v datapath.VirtualServer) []netip.AddrPort {
	var open []netip.AddrPort
	for _, d := range v.Destinations {
		for range d.Weight {
			open = append(open, d.Addr)
		}
	}
	return open
}

// digest names something by its content. Whose content it is may be chosen by tenants who would like to have a name in common with others.
func digest(content ...any) string {
	h := sha256.New()
	fmt.Fprint(h, content...)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// from returns a chain that leads clients in the ranges to another chain and is silent to all others.
func (r ruleset) from(f family, ranges []netip.Prefix, to string) string {
	name := fmt.Sprintf("ranges%s-%s", f.digit, digest(ranges))
	r.uses[use{'s', place{set: name}}]++
	if _, has := r.sets[name]; !has {
		r.sets[name] = set{key: fields{f.addr}, interval: true}
		for _, p := range ranges {
			r.prefix(name, p)
		}
	}
	chain := "from-" + name + "-" + to
	if r.share(chain) {
		r.rule(chain, rule{f.loadSource(0), in(name, 0)}, goTo(to))
		r.rule(chain, drop())
	}
	return chain
}

// prefix adds the addresses of p to a set of ranges. Where one range ends as the next one starts they are one.
func (r ruleset) prefix(set string, p netip.Prefix) {
	start := place{set: set, key: addrKey(p.Masked().Addr())}
	if end := (place{set: set, key: start.key, end: true}); r.has(end) {
		delete(r.elements, end)
	} else {
		r.elements[start] = ""
	}
	last := []byte(start.key)
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	for i := len(last) - 1; i >= 0; i-- {
		if last[i]++; last[i] != 0 {
			r.elements[place{set, string(last), true}] = ""
			return
		}
	}
}

func (r ruleset) has(p place) bool {
	_, ok := r.elements[p]
	return ok
}

// forward writes the endpoints of v and returns the chain that leads to one of them.
func (o Options) forward(r ruleset, f family, v datapath.VirtualServer, open []netip.AddrPort) string {
	key := listenerKey(v.Listener)
	for i, a := range open {
		r.element(f.members(v.Inside), key+endpointKey(a), "")
		r.element(f.endpoints(v.Inside), key+string(word(uint32(i))), endpointKey(a))
		if v.Affinity > 0 {
			r.element(f.chosen(v.Inside), key+endpointKey(a), "")
		}
	}
	p := pick{f, len(open), v.NodePort(), v.Inside, v.Masquerade}
	if name := p.name(); r.share(name) {
		o.random(r, name, p)
	}
	if v.Affinity > 0 {
		return o.sticky(r, p, v, open)
	}
	return p.name()
}

// pick is all that distinguishes the chains that choose an endpoint at random.
type pick struct {
	family
	n          int
	nodePort   bool
	inside     bool
	masquerade datapath.Clients
}

func (p pick) name() string {
	name := fmt.Sprintf("to%s-%d", p.digit, p.n)
	if p.nodePort {
		name += "-node"
	}
	name += kind(p.inside)
	if p.masquerade != datapath.Nobody {
		name += "-" + masqueradeChain(p.family, p.masquerade)
	}
	return name
}

// random writes a chain that chooses one of n endpoints. Servers with equally many share it: they differ in what the chain finds in the
// maps. The last rule is for packets that the maps changed under: the client sends them again.
func (o Options) random(r ruleset, name string, p pick) {
	o.masquerade(r, name, p)
	draw := &expr.Numgen{Register: reg(p.slot()), Modulus: uint32(p.n), Type: unix.NFT_NG_RANDOM}
	r.rule(name, p.loadListener(p.nodePort), rule{draw, find(p.endpoints(p.inside), 0, p.slot()), p.nat()})
	r.rule(name, drop())
}

// sticky writes a chain that sends a client to the endpoint that it had before, else to one at random, and remembers it. All addresses
// of a Service's port share what is remembered (S35), but each has chains of its own: with one chain for all the memory would be a map,
// and nft 1.0.6 of Debian 12 aborts when it lists a rule that looks up what it found in a map. With a set per endpoint the kernel,
// which keeps sets in a list, would take minutes for thousands of them; so it would if their rules looked the endpoints up in a map, since
// every element of a map is checked against every rule that does. Should two ports get the same number, a client of both may
// have its endpoint at one because of the other, if both have that endpoint. For whom the memory has no room, which ends the rule that would
// remember, goes on to the chain without one.
func (o Options) sticky(r ruleset, p pick, v datapath.VirtualServer, open []netip.AddrPort) string {
	h := fnv.New32a()
	fmt.Fprint(h, v.Service, v.Port, v.Protocol)
	port := word(h.Sum32())
	name := fmt.Sprintf("%s-sticky-%d-%s", p.name(), v.Affinity/time.Second, digest(port, open))
	if !r.share(name) {
		return name
	}
	o.masquerade(r, name, p)
	client := func(of netip.AddrPort) rule {
		return rule{&expr.Immediate{Register: reg(0), Data: port}, p.loadSource(1), &expr.Immediate{Register: reg(1 + p.width()), Data: of.Addr().AsSlice()},
			&expr.Immediate{Register: reg(1 + 2*p.width()), Data: binary.BigEndian.AppendUint16(nil, of.Port())}}
	}
	to := func(a netip.AddrPort) rule {
		remember := &expr.Dynset{SrcRegKey: reg(0), SetName: p.memory(), Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: v.Affinity}
		return slices.Concat(client(a), rule{remember}, p.loadListener(p.nodePort), rule{&expr.Immediate{Register: reg(p.slot()), Data: a.Addr().AsSlice()},
			&expr.Immediate{Register: reg(p.slot() + p.width()), Data: binary.BigEndian.AppendUint16(nil, a.Port())}, in(p.chosen(p.inside), 0), p.nat()})
	}
	for i, a := range open {
		if i == 0 || open[i-1] != a { // as often as it weighs, one after the other
			r.rule(name, client(a), rule{in(p.memory(), 0)}, to(a))
		}
	}
	for i, a := range open {
		r.rule(name, rule{&expr.Numgen{Register: reg(0), Modulus: uint32(p.n - i), Type: unix.NFT_NG_RANDOM}, equal(0, word(0)...)}, to(a))
	}
	r.rule(name, goTo(p.name()))
	return name
}

func (o Options) masquerade(r ruleset, name string, p pick) {
	switch p.masquerade {
	case datapath.Nobody:
	case datapath.Everybody:
		r.rule(name, setMark(o.Mark))
	default:
		r.rule(name, jump(masqueradeChain(p.family, p.masquerade)))
	}
}

// slot is the register of an endpoint's number: behind the listener.
func (p pick) slot() int { return p.width() + 2 }

// nat sends the connection to the endpoint in the registers from the slot.
func (p pick) nat() expr.Any {
	return &expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(p.nfproto), RegAddrMin: reg(p.slot()), RegProtoMin: reg(p.slot() + p.width())}
}
