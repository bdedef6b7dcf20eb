package liveness

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/bfd"
	"github.com/fairlead-lb/fairlead/bfd/udp"
)

const (
	giveUp   = 10 * time.Second       // after which a session is opened although BFD is still down
	lag      = 500 * time.Millisecond // between the end of the sessions and that of BFD
	priority = 1                      // SCHED_FIFO, the lowest: a busy node is not a dead one
)

// Sessions is what runs the BGP sessions; process.Client does.
type Sessions interface {
	Set(bgp.State)
	Report() bgp.Report
	Run(context.Context) error
}

// Options configures a [Watch].
type Options struct {
	Sessions   Sessions
	Log        *slog.Logger
	Registerer prometheus.Registerer
	Changed    func() // is called when a BFD session has changed; it must not block
	Realtime   bool   // real-time scheduling; needs CAP_SYS_NICE
}

// Watch is [Sessions] with BFD. Its methods are safe for concurrent use.
type Watch struct {
	o      Options
	group  *udp.Group
	events chan event

	mu    sync.Mutex
	want  bgp.State
	set   bool
	peers map[string]udp.Peer    // by the name of the BGP peer
	down  map[udp.Peer]time.Time // when BFD took it down; it is up again, or has been given up, when it is not here
}

type event struct {
	peer udp.Peer
	bfd.Event
}

// New returns a Watch without sessions.
func New(o Options) (*Watch, error) {
	if o.Sessions == nil || o.Log == nil || o.Registerer == nil || o.Changed == nil {
		return nil, errors.New("liveness: Sessions, Log, Registerer and Changed are required")
	}
	w := &Watch{o: o, events: make(chan event, 1024), peers: map[string]udp.Peer{}, down: map[udp.Peer]time.Time{}}
	u := udp.Options{Name: "bgp", Log: o.Log, Registerer: o.Registerer, Changed: func(p udp.Peer, e bfd.Event) {
		select {
		case w.events <- event{p, e}:
		default: // a thousand changes that nobody has read: the next will tell
		}
	}}
	if o.Realtime {
		u.Priority = priority
	}
	var err error
	w.group, err = udp.New(u)
	return w, err
}

// sessionOf returns the BFD session of a peer; it has one unless ok is false.
func sessionOf(p bgp.Peer) (s udp.Peer, c udp.Config, ok bool) {
	if p.BFD == nil || !p.Addr.IsValid() || !p.Held.OK() {
		return s, c, false
	}
	s = udp.Peer{Local: p.Source, Remote: p.Addr.WithZone(""), Interface: p.Addr.Zone(), Multihop: p.BFD.MultiHop}
	if !s.Local.IsValid() {
		s.Local = netip.IPv4Unspecified()
		if s.Remote.Is6() {
			s.Local = netip.IPv6Unspecified()
		}
	}
	c = udp.Config{MinTTL: p.BFD.MinTTL, Config: bfd.Config{DesiredMinTx: p.BFD.Transmit, RequiredMinRx: p.BFD.Receive, Multiplier: p.BFD.Multiplier,
		Passive: p.BFD.Passive, Independent: true}}
	return s, c, true
}

// Set says what is wanted from now on. It does not block.
func (w *Watch) Set(s bgp.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.want, w.set = s, true
	peers, sessions := map[string]udp.Peer{}, map[udp.Peer]udp.Config{}
	for _, p := range s.Peers {
		if at, c, ok := sessionOf(p); ok {
			peers[p.Name], sessions[at] = at, c
		}
	}
	w.peers = peers
	for p := range w.down {
		if _, ok := sessions[p]; !ok {
			delete(w.down, p)
		}
	}
	if err := w.group.Set(sessions); err != nil {
		w.o.Log.Warn("bfd session not possible", "err", err)
	}
	w.pass()
}

// pass hands on what is wanted. The caller holds the lock.
func (w *Watch) pass() {
	if !w.set {
		return
	}
	s := w.want
	s.Peers = make([]bgp.Peer, len(w.want.Peers))
	for i, p := range w.want.Peers {
		if at, ok := w.peers[p.Name]; ok {
			_, p.BFDDown = w.down[at]
		}
		s.Peers[i] = p
	}
	w.o.Sessions.Set(s)
}

// Report returns how the sessions are.
func (w *Watch) Report() bgp.Report {
	r := w.o.Sessions.Report()
	states := w.group.Sessions()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, s := range r.Sessions {
		if at, ok := w.peers[s.Peer]; ok {
			r.Sessions[i].BFD = states[at].State.String()
		}
	}
	return r
}

// Run works until ctx is done. Then the sessions end first, and BFD a little later.
func (w *Watch) Run(ctx context.Context) error {
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, failing := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer stop()
		err := w.o.Sessions.Run(failing)
		if err == nil {
			time.Sleep(lag)
		}
		return err
	})
	g.Go(func() error { return w.group.Run(watching) })
	g.Go(func() error { w.follow(watching); return nil })
	return g.Wait()
}

// follow takes sessions down and lets them up again as BFD says.
func (w *Watch) follow(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-w.events:
			w.change(e, time.Now())
			w.o.Changed()
		case now := <-tick.C:
			w.tired(now)
		}
	}
}

// change takes note of one change.
func (w *Watch) change(e event, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, was := w.down[e.peer]
	switch {
	case e.To == bfd.Up:
		delete(w.down, e.peer)
	case failed(e.Event):
		w.down[e.peer] = now
	}
	if _, is := w.down[e.peer]; is != was {
		w.pass()
	}
}

// failed tells whether an event means that the path to the peer has failed. What is down on purpose has not (RFC 5882 section 3.2).
func failed(e bfd.Event) bool {
	return e.From == bfd.Up && e.To == bfd.Down && e.Cause != bfd.CausePeerAdminDown && e.Cause != bfd.CauseAdminDown
}

// tired lets sessions be opened whose BFD has been down for too long.
func (w *Watch) tired(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, since := range w.down {
		if now.Sub(since) >= giveUp {
			w.o.Log.Info("bfd is still down, the session may be opened without it", "peer", p.Remote)
			delete(w.down, p)
			w.pass()
		}
	}
}
