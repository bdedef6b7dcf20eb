package datapath

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// Grace is how long connections to an endpoint may go on after the endpoint has left its EndpointSlices: its pod is gone or no
// longer meant, so this bounds how long a client waits for a peer that will never answer.
const Grace = time.Minute

// Verb is the kind of an [Op].
type Verb string

// The verbs in the order in which Diff emits them.
const (
	VIPUp             Verb = "vip up"
	AddServer         Verb = "add server"
	EditServer        Verb = "edit server"
	AddDestination    Verb = "add destination"
	MoveDestination   Verb = "move destination" // behind all others in the kernel's order, as if it had been added now
	EditDestination   Verb = "edit destination" // weight, deadline; first those that gain weight, then those that lose it
	DeleteDestination Verb = "delete destination"
	DeleteServer      Verb = "delete server"
	VIPDown           Verb = "vip down"
)

// Op is one step towards a wanted state. VIP is set for VIPUp and VIPDown, Server without its destinations for all others,
// Destination for the verbs on destinations.
type Op struct {
	Verb        Verb
	VIP         netip.Addr
	Server      VirtualServer
	Destination Destination
}

// String returns the step in one line.
func (o Op) String() string {
	switch o.Verb {
	case VIPUp, VIPDown:
		return fmt.Sprintf("%s %s", o.Verb, o.VIP)
	case AddServer, EditServer:
		line := o.Server.String()
		return string(o.Verb[:len(o.Verb)-len("server")]) + line[:len(line)-1]
	case AddDestination, MoveDestination, EditDestination:
		return fmt.Sprintf("%s %s -> %s weight=%d", o.Verb, o.Server.Listener, o.Destination.Addr, o.Destination.Weight)
	case DeleteDestination:
		return fmt.Sprintf("%s %s -> %s", o.Verb, o.Server.Listener, o.Destination.Addr)
	default:
		return fmt.Sprintf("%s %s", o.Verb, o.Server.Listener)
	}
}

// Diff returns the steps from have, as read from a kernel, to want. Their order is a promise: VIPs come up, then servers, then
// their destinations and the weights that grow; after that weights go to 0, destinations are deleted, then servers, then VIPs go
// down. So at no time is a connection refused that both states would forward.
//
// A TCP destination that is not wanted any more loses its weight first and is deleted when it has no connections left (S65); one
// that left its slices also when [Grace] is over. UDP and SCTP destinations are deleted at once, because a flow would stick to
// them (S61). Of a Direct server no TCP destination is deleted before its time for being idle, since the choices of all nodes depend on the
// whole list and its order, which is that of the addresses; where the server is new, those that are wanted without weight are added too, with a
// weight first, which the kernel remembers. So the kernel may hold more than want for a while: call Diff again later, with connection counts and deadlines in
// have.
func Diff(have, want State, now time.Time) []Op {
	var d diff
	d.vips(have.VIPs, want.VIPs)
	d.servers(have, want, now)
	return slices.Concat(d.up, d.serversUp, d.destsUp, d.destsLower, d.destsDown, d.serversDown, d.down)
}

// diff collects the steps by phase.
type diff struct {
	up, serversUp, destsUp, destsLower, destsDown, serversDown, down []Op
}

func (d *diff) vips(have, want []netip.Addr) {
	for _, a := range want {
		if _, ok := slices.BinarySearchFunc(have, a, netip.Addr.Compare); !ok {
			d.up = append(d.up, Op{Verb: VIPUp, VIP: a})
		}
	}
	for _, a := range have {
		if _, ok := slices.BinarySearchFunc(want, a, netip.Addr.Compare); !ok {
			d.down = append(d.down, Op{Verb: VIPDown, VIP: a})
		}
	}
}

func (d *diff) servers(have, want State, now time.Time) {
	for _, w := range want.Servers {
		bare := *w
		bare.Destinations = nil
		h, ok := have.Server(w.Listener)
		switch {
		case !ok:
			d.serversUp = append(d.serversUp, Op{Verb: AddServer, Server: bare})
		case !h.sameService(w):
			d.serversUp = append(d.serversUp, Op{Verb: EditServer, Server: bare})
		}
		if !ok && w.Direct && w.Protocol == lb.TCP {
			d.fill(bare, w.Destinations)
			continue
		}
		d.destinations(bare, h.Destinations, w.Destinations, now)
	}
	for _, h := range have.Servers {
		if _, ok := want.Server(h.Listener); !ok {
			bare := *h
			bare.Destinations = nil
			d.serversDown = append(d.serversDown, Op{Verb: DeleteServer, Server: bare})
		}
	}
}

func (d *diff) destinations(server VirtualServer, have, want []Destination, now time.Time) {
	index := func(list []Destination, addr netip.AddrPort) (Destination, bool) {
		i, ok := slices.BinarySearchFunc(list, addr, Destination.at)
		if !ok {
			return Destination{}, false
		}
		return list[i], true
	}
	for _, w := range want {
		h, ok := index(have, w.Addr)
		serves := w.Weight > 0 || server.Tunnelled // another node has chosen it there
		switch {
		case !ok && serves && server.Direct: // below
		case !ok && serves:
			d.destsUp = append(d.destsUp, Op{AddDestination, netip.Addr{}, server, w})
		case serves && (!h.same(w) || !h.Until.IsZero()):
			d.destsUp = append(d.destsUp, Op{EditDestination, netip.Addr{}, server, w})
		case ok && !serves && server.Direct && server.Protocol == lb.TCP:
			if !h.same(w) || !h.Until.IsZero() {
				d.destsLower = append(d.destsLower, Op{EditDestination, netip.Addr{}, server, w})
			}
		case ok && !serves:
			d.retire(server, h, time.Time{}, now)
		}
	}
	for _, h := range have {
		if _, ok := index(want, h.Addr); !ok {
			d.retire(server, h, now.Add(Grace), now)
		}
	}
	if server.Direct {
		d.lineUp(server, have, want)
	}
}

// lineUp adds what is wanted of a Direct server to what it has, and keeps the kernel's order that of the addresses: nodes that have come to know
// the same endpoints one by one or all at once make the same choices. One after the other is moved behind those before it; the kernel takes
// it away and gives it back, with its connections, whose packets it drops for that moment.
func (d *diff) lineUp(server VirtualServer, have, want []Destination) {
	all := slices.Clone(have)
	for _, w := range want {
		i, ok := slices.BinarySearchFunc(all, w.Addr, Destination.at)
		switch {
		case w.Weight == 0:
		case ok:
			w.Added = all[i].Added
			all[i] = w
		default:
			all = slices.Insert(all, i, w)
		}
	}
	last, behind := 0, false
	for _, x := range all {
		_, had := slices.BinarySearchFunc(have, x.Addr, Destination.at)
		switch {
		case !had:
			d.destsUp, behind = append(d.destsUp, Op{AddDestination, netip.Addr{}, server, x}), true
		case behind || x.Added < last:
			d.destsUp, behind = append(d.destsUp, Op{MoveDestination, netip.Addr{}, server, x}), true
		default:
			last = x.Added
		}
	}
}

// fill adds all destinations to a Direct server that is new, in their order. Other nodes have those without weight from the time when they had
// one. Nobody connects to the server yet.
func (d *diff) fill(server VirtualServer, want []Destination) {
	for _, w := range want {
		before := w
		before.Weight = max(1, w.Weight)
		d.destsUp = append(d.destsUp, Op{AddDestination, netip.Addr{}, server, before})
		if w.Weight == 0 {
			d.destsLower = append(d.destsLower, Op{EditDestination, netip.Addr{}, server, w})
		}
	}
}

// retire takes h out of service: no weight, then deletion when idle or at the deadline; a zero deadline means as long as it takes.
func (d *diff) retire(server VirtualServer, h Destination, deadline, now time.Time) {
	idle := h.Weight == 0 && h.Conns == 0 && !server.Direct
	late := !deadline.IsZero() && !h.Until.IsZero() && !now.Before(h.Until)
	switch {
	case server.Protocol != lb.TCP || server.Tunnelled || idle || late:
		d.destsDown = append(d.destsDown, Op{DeleteDestination, netip.Addr{}, server, h})
	case h.Weight > 0 || h.Until.IsZero() != deadline.IsZero():
		h.Weight, h.Until = 0, deadline
		d.destsLower = append(d.destsLower, Op{EditDestination, netip.Addr{}, server, h})
	}
}

// Pairs goes through two lists of servers, which are sorted, by listener: those of both lists come together, beside others is nil.
func Pairs(a, b []*VirtualServer) iter.Seq2[*VirtualServer, *VirtualServer] {
	return func(yield func(x, y *VirtualServer) bool) {
		for len(a)+len(b) > 0 {
			var x, y *VirtualServer
			order := 0
			switch {
			case len(a) == 0:
				order = 1
			case len(b) == 0:
				order = -1
			case a[0] != b[0]:
				order = a[0].Listener.Compare(b[0].Listener)
			}
			if order <= 0 {
				x, a = a[0], a[1:]
			}
			if order >= 0 {
				y, b = b[0], b[1:]
			}
			if !yield(x, y) {
				return
			}
		}
	}
}
