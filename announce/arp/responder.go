package arp

import (
	"errors"
	"log/slog"
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

// Conflict says that another station claims an address of ours on a link.
type Conflict struct {
	Addr      netip.Addr
	Interface string
	MAC       lb.MAC
}

// Options configures a [Responder].
type Options struct {
	Log        *slog.Logger
	Registerer prometheus.Registerer
	Changed    func()         // called when a link's socket was opened or lost; must not block
	Conflict   func(Conflict) // called at most every 10 s per address; must not block

	// Rate is how many gratuitous announcements (two packets each) are sent per second over all addresses and links; default
	// 5000, least 100.
	Rate int

	listen func(lb.Link) (wire, error) // nil = packet sockets
}

func (o Options) validate() (Options, error) {
	if o.Rate == 0 {
		o.Rate = 5000
	}
	if o.listen == nil {
		o.listen = listen
	}
	switch {
	case o.Log == nil || o.Registerer == nil || o.Changed == nil || o.Conflict == nil:
		return o, errors.New("arp: Log, Registerer, Changed and Conflict are required")
	case o.Rate < 100:
		return o, errors.New("arp: Rate is below 100 per second")
	}
	return o, nil
}

const (
	pace          = 10 * time.Millisecond // between two batches of gratuitous packets
	retryOpen     = time.Second           // after a socket could not be opened
	reopen        = pace * 10             // after a socket has failed: its link may be going down, of which we shall hear
	refreshMin    = 60 * time.Second      // switches age a port's addresses after 300 s, some much sooner
	refreshSpread = 40 * time.Second
	conflictEvery = 10 * time.Second // RFC 5227 DEFEND_INTERVAL
)

// view is what the reading goroutines look at; it is replaced as a whole and never written to.
type view struct {
	owned map[string]Owned // by interface
	macs  map[lb.MAC]bool  // of our own links
}

// Responder answers ARP requests and sends gratuitous ones on all links. Create it with [New]; it works while Run runs.
type Responder struct {
	o       Options
	metrics *metrics
	view    atomic.Pointer[view]
	wake    chan struct{} // the links or the schedule have changed; see loop

	mu       sync.Mutex // guards the following
	want     map[netip.Addr]announce.Target
	links    map[string]lb.Link
	ports    map[string]*port // open ones
	schedule *schedule
	openAt   time.Time                // open no socket before
	reported map[netip.Addr]time.Time // when a conflict was last reported
}

// port is a link with an open socket.
type port struct {
	link lb.Link
	wire wire
}

// New returns a Responder that owns nothing.
func New(o Options) (*Responder, error) {
	o, err := o.validate()
	if err != nil {
		return nil, err
	}
	r := &Responder{
		o: o, metrics: newMetrics(o.Registerer), wake: make(chan struct{}, 1),
		ports: map[string]*port{}, reported: map[netip.Addr]time.Time{},
		schedule: newSchedule(func() time.Duration { return refreshMin + rand.N(refreshSpread) }),
	}
	r.view.Store(&view{})
	return r, nil
}

// Set makes want the whole set of announced addresses; what is not in it is not answered for from the moment Set returns.
// Addresses that are new on a link, or whose epoch has grown, are announced to the neighbours. It returns what has been
// reached: the IPv4 addresses of want with those of their interfaces that have a working socket. It does not block and may be
// called from any goroutine, while Run runs or not.
func (r *Responder) Set(want map[netip.Addr]announce.Target) map[netip.Addr]announce.Target {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.want
	r.want = maps.Clone(want)
	for addr, t := range old {
		for _, iface := range t.Interfaces {
			if !slices.Contains(want[addr].Interfaces, iface) {
				r.schedule.stop(place{addr, iface})
			}
		}
	}
	reached := map[netip.Addr]announce.Target{}
	now := time.Now()
	for addr, t := range want {
		if !addr.Is4() {
			continue
		}
		for _, iface := range t.Interfaces {
			if r.ports[iface] == nil {
				continue
			}
			got := reached[addr]
			reached[addr] = announce.Target{Interfaces: append(got.Interfaces, iface), Epoch: t.Epoch}
			if o := old[addr]; o.Epoch != t.Epoch || !slices.Contains(o.Interfaces, iface) {
				r.schedule.start(place{addr, iface}, now)
			}
		}
	}
	maps.DeleteFunc(r.reported, func(a netip.Addr, _ time.Time) bool { _, ok := want[a]; return !ok })
	r.publish()
	r.notify()
	return reached
}

// SetLinks tells on which links to listen: those that are up get a socket, the others lose theirs.
func (r *Responder) SetLinks(links []lb.Link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.links = map[string]lb.Link{}
	for _, l := range links {
		if l.Up {
			r.links[l.Name] = l
		}
	}
	r.notify()
}

// Working returns the names of the links that have a working socket.
func (r *Responder) Working() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]bool{}
	for name := range r.ports {
		out[name] = true
	}
	return out
}

// publish builds the view of the reading goroutines. The caller holds mu.
func (r *Responder) publish() {
	v := &view{owned: map[string]Owned{}, macs: map[lb.MAC]bool{}}
	for name, p := range r.ports {
		v.owned[name] = Owned{}
		v.macs[p.link.MAC] = true
	}
	for addr, t := range r.want {
		for _, iface := range t.Interfaces {
			if owned, open := v.owned[iface]; open && addr.Is4() {
				owned[addr] = struct{}{}
			}
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
