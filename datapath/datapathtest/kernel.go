package datapathtest

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// Kernel is a stateful fake. Its zero value is an empty kernel. It is not safe for concurrent use.
type Kernel struct {
	// Refuse, if set, is asked before each operation; an error makes just that operation fail.
	Refuse func(datapath.Op) error

	// Applied counts the operations that were carried out.
	Applied int

	state    datapath.State
	turn     map[datapath.Listener]int
	affinity map[client]netip.AddrPort
}

type client struct {
	addr     netip.Addr
	listener datapath.Listener
}

// State returns what the kernel holds.
func (k *Kernel) State() datapath.State { return k.state.Clone() }

// Sync brings the kernel to want as an engine does: read, diff, apply. Its signature is that of the speaker's Engine.
func (k *Kernel) Sync(_ context.Context, want datapath.State, now time.Time) (datapath.State, error) {
	err := k.Apply(datapath.Diff(k.State(), want, now))
	reached := k.State()
	for _, w := range want.Servers {
		has, ok := k.state.Server(w.Listener)
		complete := ok && !slices.ContainsFunc(datapath.Diff(datapath.State{Servers: []datapath.VirtualServer{has}},
			datapath.State{Servers: []datapath.VirtualServer{w}}, now), func(o datapath.Op) bool {
			return o.Verb == datapath.AddDestination || o.Verb == datapath.EditServer
		})
		if !complete {
			reached.Partial = append(reached.Partial, w.Addr.Addr())
		}
	}
	slices.SortFunc(reached.Partial, netip.Addr.Compare)
	reached.Partial = slices.Compact(reached.Partial)
	return reached, err
}

// Name makes Kernel an engine.
func (k *Kernel) Name() string { return "fake" }

// Cleanup empties the kernel.
func (k *Kernel) Cleanup(context.Context) error {
	k.state = datapath.State{}
	return nil
}

// Apply carries the operations out in their order. One that is refused does not stop the others; the errors are joined.
func (k *Kernel) Apply(ops []datapath.Op) error {
	var errs []error
	for _, op := range ops {
		if k.Refuse != nil {
			if err := k.Refuse(op); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		if err := k.state.Apply(op); err != nil {
			errs = append(errs, err)
			continue
		}
		k.Applied++
	}
	return errors.Join(errs...)
}

// SetConns says how many connections a destination has, as the kernel's counters would.
func (k *Kernel) SetConns(l datapath.Listener, dest netip.AddrPort, n int) {
	for i, v := range k.state.Servers {
		for j, d := range v.Destinations {
			if v.Listener == l && d.Addr == dest {
				k.state.Servers[i].Destinations[j].Conns = n
			}
		}
	}
}

// Fate is what became of a virtual packet.
type Fate struct {
	Dest       netip.AddrPort   // where it went, if anywhere
	Verdict    datapath.Verdict // Forward, or why it went nowhere
	Masquerade bool             // the endpoint does not see the client's address
}

// String returns "10.244.1.2:8080", with " masqueraded" where it applies, "REJECT" or "DROP".
func (f Fate) String() string {
	switch {
	case f.Verdict == datapath.Reject:
		return "REJECT"
	case f.Verdict == datapath.Drop:
		return "DROP"
	case f.Masquerade:
		return f.Dest.String() + " masqueraded"
	default:
		return f.Dest.String()
	}
}

// Connect sends the first packet of a connection from a client outside the cluster to addr ("192.0.2.200:80").
func (k *Kernel) Connect(from, addr string, protocol lb.Protocol) Fate {
	src, l := netip.MustParseAddr(from), datapath.Listener{Addr: netip.MustParseAddrPort(addr), Protocol: protocol}
	v, ok := k.state.Server(l)
	switch {
	case !slices.Contains(k.state.VIPs, l.Addr.Addr()):
		return Fate{Verdict: datapath.Drop} // nobody takes the packet
	case !ok:
		return Fate{Verdict: datapath.Reject} // S46: another port of a VIP never reaches the host
	case len(v.SourceRanges) > 0 && !slices.ContainsFunc(v.SourceRanges, func(p netip.Prefix) bool { return p.Contains(src) }):
		return Fate{Verdict: datapath.Drop}
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
		return Fate{Verdict: datapath.Reject}
	}
	return Fate{Dest: k.choose(src, v, open), Verdict: datapath.Forward, Masquerade: v.Masquerade&datapath.Outside != 0}
}

// choose takes turns, or returns to the client's earlier choice where the server has affinity and the choice is still open.
func (k *Kernel) choose(src netip.Addr, v datapath.VirtualServer, open []netip.AddrPort) netip.AddrPort {
	if k.turn == nil {
		k.turn, k.affinity = map[datapath.Listener]int{}, map[client]netip.AddrPort{}
	}
	c := client{src, v.Listener}
	if before := k.affinity[c]; v.Affinity > 0 && slices.Contains(open, before) {
		return before
	}
	slices.SortFunc(open, func(a, b netip.AddrPort) int { return cmp.Compare(a.String(), b.String()) })
	dest := open[k.turn[v.Listener]%len(open)]
	k.turn[v.Listener]++
	k.affinity[c] = dest
	return dest
}
