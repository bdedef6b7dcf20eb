package nft

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/knftables"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// family holds the words that differ between IPv4 and IPv6.
type family struct {
	digit string // "4"
	ip    string // nft's protocol keyword
	addr  string // nft's type of an address
	ping  string // matches a ping
	may   string // matches what may reach a VIP besides its Services
}

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return family{"4", "ip", "ipv4_addr", "icmp type echo-request", "icmp type echo-request"}
	}
	return family{"6", "ip6", "ipv6_addr", "icmpv6 type echo-request", "icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert }"}
}

func families() []family {
	return []family{familyOf(netip.IPv4Unspecified()), familyOf(netip.IPv6Unspecified())}
}

func (f family) vips() string     { return "vips" + f.digit }
func (f family) masq() string     { return "masquerade" + f.digit }
func (f family) verdicts() string { return "verdicts" + f.digit }
func (f family) services() string { return "services" + f.digit }
func (f family) affinity() string { return "affinity" + f.digit }

// listener is the expression that a listener's key is looked up with.
func (f family) listener() string { return f.ip + " daddr . meta l4proto . th dport" }

// changed returns the parts of two states in which they differ. Everything in the table belongs to one VIP or one server, so the
// difference of the tables of the parts is that of the whole tables.
func changed(old, new datapath.State) (from, to datapath.State) {
	from.VIPs, to.VIPs = except(old.VIPs, new.VIPs), except(new.VIPs, old.VIPs)
	i, j := 0, 0
	for i < len(old.Servers) || j < len(new.Servers) {
		order := 0
		switch {
		case i == len(old.Servers):
			order = 1
		case j == len(new.Servers):
			order = -1
		default:
			order = old.Servers[i].Compare(new.Servers[j].Listener)
		}
		if order < 0 || order == 0 && !old.Servers[i].Equal(new.Servers[j]) {
			from.Servers = append(from.Servers, old.Servers[i])
		}
		if order > 0 || order == 0 && !old.Servers[i].Equal(new.Servers[j]) {
			to.Servers = append(to.Servers, new.Servers[j])
		}
		if order <= 0 {
			i++
		}
		if order >= 0 {
			j++
		}
	}
	return from, to
}

// except returns the addresses of a that are not in b; both are sorted.
func except(a, b []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, x := range a {
		if _, in := slices.BinarySearchFunc(b, x, netip.Addr.Compare); !in {
			out = append(out, x)
		}
	}
	return out
}

// render returns the table's content for a state.
func (o Options) render(s datapath.State) ruleset {
	r := newRuleset()
	o.frame(r)
	for _, a := range s.VIPs {
		r.sets[familyOf(a).vips()].elements[a.String()] = ""
	}
	for _, v := range s.Servers {
		o.guard(r, v)
		if o.Forward {
			o.forward(r, v)
		}
	}
	return r
}

// The base chains.
const (
	guardIn  = "guard-prerouting"
	guardOut = "guard-output"
	natIn    = "nat-prerouting"
	natOut   = "nat-output"
	strays   = "strays"
	snat     = "nat-postrouting"
)

// hooked returns the names of all base chains, whatever the options.
func hooked() []string { return []string{guardIn, guardOut, natIn, natOut, strays, snat} }

// frame writes what does not depend on the state.
func (o Options) frame(r ruleset) {
	base := func(name string, kind knftables.BaseChainType, hook knftables.BaseChainHook, priority knftables.BaseChainPriority) {
		r.chains[name] = chain{kind: kind, hook: hook, priority: priority}
	}
	base(guardIn, knftables.FilterType, knftables.PreroutingHook, "-120")
	base(guardOut, knftables.FilterType, knftables.OutputHook, "-120")
	base(snat, knftables.NATType, knftables.PostroutingHook, "90")
	r.rule(guardIn, "jump guard")
	r.rule(guardOut, "jump guard")
	r.rule("guard", "ct state established,related return")
	r.rule("refuse", "meta l4proto tcp reject with tcp reset")
	r.rule("refuse", "meta l4proto { udp, sctp } reject")
	r.rule("refuse", "drop")
	r.rule(snat, fmt.Sprintf("meta mark & %#x == 0 return", o.Mark))
	r.rule(snat, fmt.Sprintf("meta mark set meta mark ^ %#x", o.Mark))
	r.rule(snat, "masquerade fully-random")
	if o.Forward {
		base(natIn, knftables.NATType, knftables.PreroutingHook, "-110")
		base(natOut, knftables.NATType, knftables.OutputHook, "-110")
		base(strays, knftables.FilterType, knftables.PostroutingHook, "0")
		r.rule(natIn, "jump services")
		r.rule(natOut, "jump services")
	}
	for _, f := range families() {
		o.frameFamily(r, f)
	}
}

func (o Options) frameFamily(r ruleset, f family) {
	listener := f.addr + " . inet_proto . inet_service"
	r.sets[f.vips()] = set{kind: f.addr, elements: map[string]string{}}
	r.sets[f.verdicts()] = set{kind: listener, verdicts: true, elements: map[string]string{}}

	vip := "vip" + f.digit
	r.rule("guard", f.ip, "daddr @"+f.vips(), "goto", vip)
	if o.Forward {
		// Without a connection there is no endpoint to send the packet to, and the VIP is not an address of this node.
		r.rule(vip, "ct state invalid drop")
	} else {
		r.rule(vip, "ct state invalid return")
		r.sets[f.masq()] = set{kind: listener, elements: map[string]string{}}
		r.rule(vip, f.listener(), "@"+f.masq(), o.setMark())
	}
	r.rule(vip, f.listener(), "vmap @"+f.verdicts())
	r.rule(vip, f.may, "return")
	r.rule(vip, "goto refuse")
	if o.Forward {
		r.sets[f.services()] = set{kind: listener, verdicts: true, elements: map[string]string{}}
		r.sets[f.affinity()] = set{kind: f.client(1), memory: true}
		r.rule("services", f.listener(), "vmap @"+f.services())
		r.rule("services", f.ip, "daddr @"+f.vips(), f.ping, "redirect") // this node answers pings for the VIP
		r.rule(strays, f.ip, "daddr @"+f.vips(), "ct state new drop")
	}
}

// name turns a listener into something that nft takes as part of an identifier.
func name(l datapath.Listener) string {
	return strings.ReplaceAll(l.Addr.Addr().String(), ":", "_") + "-" + proto(l.Protocol) + "-" + port(l.Addr)
}

func proto(p lb.Protocol) string   { return strings.ToLower(string(p)) }
func port(a netip.AddrPort) string { return strconv.Itoa(int(a.Port())) }
func key(l datapath.Listener) string {
	return l.Addr.Addr().String() + " . " + proto(l.Protocol) + " . " + port(l.Addr)
}

func (o Options) setMark() string { return fmt.Sprintf("meta mark set meta mark | %#x", o.Mark) }

// guard writes who may connect to v and whether the endpoints see them.
func (o Options) guard(r ruleset, v datapath.VirtualServer) {
	f := familyOf(v.Addr.Addr())
	if v.Masquerade != datapath.Nobody && !o.Forward {
		r.sets[f.masq()].elements[key(v.Listener)] = ""
	}
	verdict := "return"
	switch v.Verdict {
	case datapath.Drop:
		verdict = "drop"
	case datapath.Reject:
		verdict = "goto refuse"
	}
	if len(v.SourceRanges) > 0 {
		from := make([]string, len(v.SourceRanges))
		for i, p := range v.SourceRanges {
			from[i] = p.String()
		}
		ch := "from-" + name(v.Listener)
		r.rule(ch, f.ip, "saddr {", strings.Join(from, ", "), "}", verdict)
		r.rule(ch, "drop")
		verdict = "goto " + ch
	}
	r.sets[f.verdicts()].elements[key(v.Listener)] = verdict
}

// forward writes the DNAT of v. The mark is set in the same chain, not by the guard: a packet that met the guard before a change
// from Local to Cluster and the DNAT after it would reach a far endpoint that cannot answer it.
func (o Options) forward(r ruleset, v datapath.VirtualServer) {
	var open []netip.AddrPort
	for _, d := range v.Destinations {
		for range d.Weight {
			open = append(open, d.Addr)
		}
	}
	if v.Verdict != datapath.Forward || len(open) == 0 {
		return
	}
	f, ch := familyOf(v.Addr.Addr()), "to-"+name(v.Listener)
	r.sets[f.services()].elements[key(v.Listener)] = "goto " + ch
	if v.Masquerade != datapath.Nobody {
		r.rule(ch, o.setMark())
	}
	dnat := "meta l4proto " + proto(v.Protocol) + " dnat " + f.ip + " to "
	switch {
	case v.Affinity > 0:
		sticky(r, v, open, dnat)
	case len(open) == 1:
		r.rule(ch, dnat+open[0].String())
	default:
		r.rule(ch, dnat+oneOf(open))
	}
}

// oneOf is an expression that picks one of the endpoints at random.
func oneOf(open []netip.AddrPort) string {
	var b strings.Builder
	fmt.Fprintf(&b, "numgen random mod %d map { ", len(open))
	for i, a := range open {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d : %s . %s", i, a.Addr(), port(a))
	}
	b.WriteString(" }")
	return b.String()
}

// client is the key of the affinity memory: who came to which listener, and the number of the endpoint they were given. A rule can only
// bring a constant into a key as a counter that never moves.
func (f family) client(endpoint uint32) string {
	return fmt.Sprintf("%s saddr . %s . numgen inc mod 1 offset %d", f.ip, f.listener(), endpoint)
}

// sticky writes a server with affinity: first a rule per endpoint for the clients that it has, then one per endpoint for newcomers, the
// i-th of n with probability 1/(n-i). Each remembers the client, from now on for the affinity's time. All servers share one memory,
// because every set makes every nft transaction slower; an endpoint that goes away has no rule, so its clients choose anew.
func sticky(r ruleset, v datapath.VirtualServer, open []netip.AddrPort, dnat string) {
	f, ch := familyOf(v.Addr.Addr()), "to-"+name(v.Listener)
	var known, newcomers []string
	numbers := map[uint32]netip.AddrPort{}
	for i, a := range open {
		client := f.client(number(numbers, a))
		remember := fmt.Sprintf("update @%s { %s timeout %ds } %s%s", f.affinity(), client, v.Affinity/time.Second, dnat, a)
		if i == 0 || open[i-1] != a { // a weight above 1 counts for newcomers only
			known = append(known, fmt.Sprintf("%s @%s %s", client, f.affinity(), remember))
		}
		if left := len(open) - i; left > 1 {
			remember = fmt.Sprintf("numgen random mod %d == 0 %s", left, remember)
		}
		newcomers = append(newcomers, remember)
	}
	for _, rule := range append(known, newcomers...) {
		r.rule(ch, rule)
	}
}

// number names an endpoint within its server: a hash of its address, so that every instance of the program gives it the same one.
func number(taken map[uint32]netip.AddrPort, a netip.AddrPort) uint32 {
	h := fnv.New32a()
	h.Write([]byte(a.String()))
	n := h.Sum32()
	for {
		if holder, ok := taken[n]; !ok || holder == a {
			taken[n] = a
			return n
		}
		n++
	}
}
