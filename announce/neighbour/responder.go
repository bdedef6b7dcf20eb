package neighbour

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/lb"
)

// view is what the reading goroutines look at; it is replaced as a whole and never written to.
type view struct {
	stations map[int]*station // by link index
	macs     map[lb.MAC]bool  // of our own links
}

// station is this node on one link.
type station struct {
	link     lb.Link
	owned    Owned // answered for
	probing  Owned
	requests prometheus.Counter
}

// stranger is a station that has an address which was to be announced here.
type stranger struct {
	mac   lb.MAC
	until time.Time // when the address is probed again
}

// Responder answers for addresses and announces them on all links. Create it with [New]; it works while Run runs.
type Responder struct {
	o       Options
	codec   Codec
	name    string // of the protocol
	metrics *metrics
	view    atomic.Pointer[view]
	wake    chan struct{} // the links or the schedule have changed; see loop

	mu        sync.Mutex // guards the following
	want      map[netip.Addr]announce.Target
	links     map[string]lb.Link // those to listen on
	ports     map[int]*port      // open ones, by link index
	schedule  *schedule
	openAt    time.Time                // open no socket before
	strangers map[netip.Addr]stranger  // what the last probes found
	reported  map[netip.Addr]time.Time // when a conflict was last reported
	defended  map[netip.Addr]time.Time // when a stranger's claim was last countered
	fenced    bool                     // something was not sent because MayAnswer said no
	left      []leaving                // whose questions no longer need to be delivered
}

// port is a link with an open socket. A link that is renamed or gets another hardware address keeps its port.
type port struct {
	index int
	wire  Wire
}

// leaving is an address that was withdrawn from a link.
type leaving struct {
	port *port
	addr netip.Addr
}

// New returns a Responder that owns nothing. The protocol's name, in lower case, goes into metrics and logs.
func New(protocol string, c Codec, o Options) (*Responder, error) {
	o, err := o.validate()
	if err != nil {
		return nil, err
	}
	r := &Responder{
		o: o, codec: c, name: protocol, metrics: newMetrics(o.Registerer, protocol), wake: make(chan struct{}, 1),
		links: map[string]lb.Link{}, ports: map[int]*port{},
		strangers: map[netip.Addr]stranger{}, reported: map[netip.Addr]time.Time{}, defended: map[netip.Addr]time.Time{},
		schedule: newSchedule(func() time.Duration { return refreshMin + rand.N(refreshSpread) }),
	}
	r.view.Store(&view{})
	return r, nil
}

// Set makes want the whole set of announced addresses; what is not in it is not answered for from the moment Set returns.
// Addresses of another family than the protocol's are ignored. An address that is new on a link is probed there, if its Target
// says so and it does not come from another link of the segment, and then announced; one whose epoch has grown, or that is to be announced again, is announced anew. Set returns what has been reached: the addresses with
// those of their interfaces that have a working socket and on which they are answered for. It does not block and may be called
// from any goroutine, while Run runs or not.
func (r *Responder) Set(want map[netip.Addr]announce.Target) map[netip.Addr]announce.Target {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.want
	r.want = maps.Clone(want)
	maps.DeleteFunc(r.want, func(a netip.Addr, _ announce.Target) bool { return !r.codec.Serves(a) })
	moved := r.moved(old)
	for addr, t := range old {
		for _, iface := range t.Interfaces {
			if !slices.Contains(r.want[addr].Interfaces, iface) {
				r.schedule.stop(place{addr, iface})
				r.left = append(r.left, leaving{r.ports[r.links[iface].Index], addr})
			}
		}
	}
	maps.DeleteFunc(r.strangers, func(_ netip.Addr, s stranger) bool { return r.o.Speaker(s.mac) }) // it was too new to be known
	reached := map[netip.Addr]announce.Target{}
	now := time.Now()
	for addr, t := range r.want {
		if !t.Probe {
			delete(r.strangers, addr) // one of us has it: there is nothing to ask
		}
		for _, iface := range t.Interfaces {
			if !r.open(iface) {
				continue
			}
			at := place{addr, iface}
			_, taken := r.strangers[addr]
			switch {
			case !r.schedule.announced(at) && !r.schedule.probed(at):
				if !taken {
					r.schedule.start(at, now, t.Probe && !moved[at])
				}
			case r.schedule.probed(at) && !t.Probe, r.schedule.announced(at) && (old[addr].Epoch != t.Epoch || old[addr].Again != t.Again):
				r.schedule.start(at, now, false)
			}
			if r.schedule.announced(at) {
				reached[addr] = announce.Target{Interfaces: append(reached[addr].Interfaces, iface), Epoch: t.Epoch, Again: t.Again, Probe: t.Probe}
			}
		}
	}
	gone := func(a netip.Addr, _ time.Time) bool { _, ok := r.want[a]; return !ok }
	maps.DeleteFunc(r.reported, gone)
	maps.DeleteFunc(r.defended, gone)
	r.publish()
	r.notify()
	return reached
}

// moved returns the places that an address comes to from another link of the same segment, or from one that has gone: this node
// answered for it there, so nobody else has it. The caller holds mu.
func (r *Responder) moved(old map[netip.Addr]announce.Target) map[place]bool {
	out := map[place]bool{}
	for addr, t := range r.want {
		from := old[addr].Interfaces
		for _, iface := range t.Interfaces {
			if slices.Contains(from, iface) {
				continue
			}
			to := r.links[iface]
			out[place{addr, iface}] = slices.ContainsFunc(from, func(name string) bool {
				was, there := r.links[name]
				return r.schedule.announced(place{addr, name}) && (!there || was.Subnet(addr) == to.Subnet(addr))
			})
		}
	}
	return out
}

// SetLinks tells on which links to listen: those that are up and have a subnet of the protocol's family get a socket, the
// others lose theirs. A link is known by its index: a new name or hardware address counts from now on, and a new hardware
// address is announced.
func (r *Responder) SetLinks(links []lb.Link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.links
	r.links = map[string]lb.Link{}
	for _, l := range links {
		if l.Up && slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool { return r.codec.Serves(p.Addr()) }) {
			r.links[l.Name] = l
		}
	}
	now := time.Now()
	for _, before := range old {
		for name, l := range r.links {
			if l.Index != before.Index {
				continue
			}
			if name != before.Name {
				r.rename(before.Name, name)
			}
			if l.MAC != before.MAC {
				r.schedule.restart(now, func(p place) bool { return p.iface == name })
			}
		}
	}
	r.publish()
	r.notify()
}

// rename moves what is wanted on a link to the link's new name, by which the next Set will call it. The caller holds mu.
func (r *Responder) rename(from, to string) {
	for addr, t := range r.want {
		i := slices.Index(t.Interfaces, from)
		if i < 0 {
			continue
		}
		t.Interfaces = slices.Replace(slices.Clone(t.Interfaces), i, i+1, to) // Set's caller keeps its slice
		r.want[addr] = t
		r.schedule.rename(place{addr, from}, to)
	}
}

// Working returns the names of the links that have a working socket.
func (r *Responder) Working() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]bool{}
	for name := range r.links {
		if r.open(name) {
			out[name] = true
		}
	}
	return out
}

// Conflicts returns the addresses that are not announced because another station answered a probe, and that station's hardware
// address. They stay in it until they are probed again, also if they are no longer wanted.
func (r *Responder) Conflicts() map[netip.Addr]lb.MAC {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[netip.Addr]lb.MAC, len(r.strangers))
	for addr, s := range r.strangers {
		out[addr] = s.mac
	}
	return out
}

// open reports whether the link has a working socket. The caller holds mu.
func (r *Responder) open(iface string) bool {
	l, ok := r.links[iface]
	return ok && r.ports[l.Index] != nil
}

// publish builds the view of the reading goroutines. The caller holds mu.
func (r *Responder) publish() {
	v := &view{stations: map[int]*station{}, macs: map[lb.MAC]bool{}}
	byName := map[string]*station{}
	for name, l := range r.links {
		if r.ports[l.Index] == nil {
			continue
		}
		s := &station{link: l, owned: Owned{}, probing: Owned{}, requests: r.metrics.requests.WithLabelValues(name)}
		v.stations[l.Index], v.macs[l.MAC], byName[name] = s, true, s
	}
	for p, e := range r.schedule.entries {
		switch s := byName[p.iface]; {
		case s == nil:
		case e.probing:
			s.probing[p.addr] = struct{}{}
		default:
			s.owned[p.addr] = struct{}{}
		}
	}
	r.view.Store(v)
}

// notify wakes the loop.
func (r *Responder) notify() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
