package datapathtest

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// Packet is the first one of a connection.
type Packet struct {
	From, To netip.AddrPort
	Protocol lb.Protocol
	Via      string // the interface it comes in through; "" = none of those that pods are recognised by

	// Outer is the packet that it came wrapped in; zero = none.
	Outer struct{ From, To netip.Addr }
}

// Fate is what became of a packet.
type Fate struct {
	Dest       netip.AddrPort   // where it went, if anywhere
	Verdict    datapath.Verdict // Forward, or why it went nowhere; "" if it is none of our business
	Masquerade bool             // the endpoint does not see the client's address
	Tunnel     bool             // another node gets it for Dest
}

// String returns "10.244.1.2:8080", with " masqueraded" or " tunnel" where it applies, "REJECT", "DROP" or "NOT OURS".
func (f Fate) String() string {
	switch {
	case f.Verdict == "":
		return "NOT OURS"
	case f.Verdict != datapath.Forward:
		return strings.ToUpper(string(f.Verdict))
	case f.Masquerade:
		return f.Dest.String() + " masqueraded"
	case f.Tunnel:
		return f.Dest.String() + " tunnel"
	default:
		return f.Dest.String()
	}
}

// client is who has affinity to what: all servers of one port of a Service share the memory (S35).
type client struct {
	addr     netip.Addr
	service  lb.ServiceKey
	port     string
	protocol lb.Protocol
}

type memory struct {
	dest  netip.AddrPort
	until time.Time
}

// Connect sends a packet from an address to an address and port ("192.0.2.200:80").
func (k *Kernel) Connect(from, to string, protocol lb.Protocol) Fate {
	return k.Send(Packet{From: netip.AddrPortFrom(netip.MustParseAddr(from), 40000), To: netip.MustParseAddrPort(to), Protocol: protocol})
}

// Send answers the questions of package datapath's contract in their order.
func (k *Kernel) Send(p Packet) Fate {
	if p.Outer.To.IsValid() {
		return k.unwrap(p)
	}
	from := p.From.Addr()
	who := k.who(p)
	v, ok := k.server(p, who)
	switch {
	case !ok && slices.Contains(k.state.VIPs, p.To.Addr()):
		return Fate{Verdict: datapath.Reject} // S46: another port of a VIP never reaches the host
	case !ok:
		return Fate{}
	case !permits(v, from):
		return Fate{Verdict: datapath.Drop} // S49
	case v.Verdict != datapath.Forward:
		return Fate{Verdict: v.Verdict}
	}
	var open []netip.AddrPort
	for _, d := range v.Destinations {
		for range d.Weight {
			open = append(open, d.Addr)
		}
	}
	if len(open) == 0 {
		return Fate{Verdict: datapath.Reject} // S58
	}
	if v.Direct {
		return k.hash(p.From, v)
	}
	dest := k.choose(from, v, open)
	return Fate{Dest: dest, Verdict: datapath.Forward, Masquerade: v.Masquerade&who != 0 || dest.Addr() == from} // S28
}

func permits(v datapath.VirtualServer, from netip.Addr) bool {
	return len(v.SourceRanges) == 0 || slices.ContainsFunc(v.SourceRanges, func(p netip.Prefix) bool { return p.Contains(from) })
}

// hash chooses as every node does that was given the same destinations in the same order.
func (k *Kernel) hash(from netip.AddrPort, v datapath.VirtualServer) Fate {
	given := slices.SortedFunc(slices.Values(v.Destinations), func(a, b datapath.Destination) int { return cmp.Compare(a.Added, b.Added) })
	addrs := make([]netip.AddrPort, 0, len(given))
	for _, d := range given {
		addrs = append(addrs, d.Addr)
	}
	if k.table == nil || !slices.Equal(k.tableOf, addrs) {
		k.table, k.tableOf = NewMaglev(addrs), addrs
	}
	if v.Scheduler == datapath.MaglevClient {
		from = netip.AddrPortFrom(from.Addr(), 0)
	}
	d := given[k.table.Choose(from, func(i int) bool { return given[i].Weight > 0 })]
	return Fate{Dest: d.Addr, Verdict: datapath.Forward, Tunnel: d.Method == datapath.Tunnel}
}

// unwrap is what becomes of a packet that came through the tunnel.
func (k *Kernel) unwrap(p Packet) Fate {
	mine := slices.ContainsFunc(k.state.Servers, func(v *datapath.VirtualServer) bool {
		return v.Tunnelled && slices.ContainsFunc(v.Destinations, func(d datapath.Destination) bool { return d.Addr.Addr() == p.Outer.To })
	})
	if !mine {
		return Fate{}
	}
	v, ok := k.state.Server(datapath.Listener{Addr: p.To, Protocol: p.Protocol, Tunnelled: true})
	i := slices.IndexFunc(v.Destinations, func(d datapath.Destination) bool { return d.Addr.Addr() == p.Outer.To })
	if !ok || i < 0 || !slices.Contains(k.state.Peers, p.Outer.From) || !permits(v, p.From.Addr()) {
		return Fate{Verdict: datapath.Drop}
	}
	return Fate{Dest: v.Destinations[i].Addr, Verdict: datapath.Forward}
}

// who tells the kind of client.
func (k *Kernel) who(p Packet) datapath.Clients {
	from := p.From.Addr()
	switch {
	case slices.Contains(k.Host, from) || slices.Contains(k.state.NodeAddrs, from) || slices.Contains(k.state.VIPs, from):
		return datapath.Host // a VIP is an address of the node where it is delivered locally
	case slices.ContainsFunc(k.state.Pods.Sources, func(r netip.Prefix) bool { return r.Contains(from) }),
		slices.ContainsFunc(k.state.Pods.Interfaces, func(name string) bool { return matches(name, p.Via) }):
		return datapath.Pods
	default:
		return datapath.Outside
	}
}

func matches(pattern, name string) bool {
	prefix, wild := strings.CutSuffix(pattern, "*")
	return name != "" && (name == pattern || wild && strings.HasPrefix(name, prefix))
}

// server finds the one that answers.
func (k *Kernel) server(p Packet, who datapath.Clients) (datapath.VirtualServer, bool) {
	at := []netip.AddrPort{p.To}
	if slices.Contains(k.state.NodeAddrs, p.To.Addr()) {
		any := netip.IPv4Unspecified()
		if p.To.Addr().Is6() {
			any = netip.IPv6Unspecified()
		}
		at = append(at, netip.AddrPortFrom(any, p.To.Port()))
	}
	for _, addr := range at {
		l := datapath.Listener{Addr: addr, Protocol: p.Protocol, Inside: who != datapath.Outside}
		if v, ok := k.state.Server(l); ok {
			return v, true
		}
		l = l.ForEverybody()
		if v, ok := k.state.Server(l); ok {
			return v, true
		}
	}
	return datapath.VirtualServer{}, false
}

// choose takes turns, or returns to the client's earlier choice where the server has affinity and the choice is still open.
func (k *Kernel) choose(from netip.Addr, v datapath.VirtualServer, open []netip.AddrPort) netip.AddrPort {
	if k.turn == nil {
		k.turn, k.affinity = map[datapath.Listener]int{}, map[client]memory{}
	}
	c := client{from, v.Service, v.Port, v.Protocol}
	dest := open[k.turn[v.Listener]%len(open)]
	if m, ok := k.affinity[c]; ok && v.Affinity > 0 && k.Now.Before(m.until) && slices.Contains(open, m.dest) {
		dest = m.dest
	} else {
		k.turn[v.Listener]++
	}
	k.affinity[c] = memory{dest, k.Now.Add(v.Affinity)}
	return dest
}
