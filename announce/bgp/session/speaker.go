package session

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/announce/bgp/wire"
)

// Options configures a [Speaker].
type Options struct {
	Log *slog.Logger

	// Changed is called when a session's state or what it has told has changed. It must not block. nil = nobody wants to know.
	Changed func()
}

// Speaker runs the sessions. Its methods are safe for concurrent use.
type Speaker struct {
	o    Options
	wake chan struct{}

	mu      sync.Mutex
	want    bgp.State
	peers   map[string]*peer
	leaving map[*peer]uint64 // that are no longer wanted but have not ended: the Seq of the last State that had them
	seq     uint64           // of the State that the peers know
}

// New returns a Speaker without peers.
func New(o Options) (*Speaker, error) {
	if o.Log == nil {
		return nil, errors.New("session: Log is required")
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	return &Speaker{o: o, wake: make(chan struct{}, 1), peers: map[string]*peer{}, leaving: map[*peer]uint64{}}, nil
}

// Set says what is wanted from now on. The state must not be changed afterwards.
func (s *Speaker) Set(state bgp.State) {
	s.mu.Lock()
	s.want = state
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Report returns how the sessions are.
func (s *Speaker) Report() bgp.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := bgp.Report{Sessions: make([]bgp.Session, 0, len(s.peers)), Seq: s.seq}
	for _, p := range s.peers {
		session, seq := p.report()
		out.Sessions = append(out.Sessions, session)
		out.Seq = min(out.Seq, seq)
	}
	for _, seq := range s.leaving {
		out.Seq = min(out.Seq, seq)
	}
	slices.SortFunc(out.Sessions, func(a, b bgp.Session) int { return strings.Compare(a.Peer, b.Peer) })
	return out
}

// Run holds the sessions until ctx is done, closes them, and returns nil. If the last State says Keep, those with graceful restart
// end without a NOTIFICATION.
func (s *Speaker) Run(ctx context.Context) error {
	var g errgroup.Group
	stops := map[string]context.CancelCauseFunc{}
	for ctx.Err() == nil {
		s.follow(ctx, &g, stops)
		select {
		case <-ctx.Done():
		case <-s.wake:
		}
	}
	s.mu.Lock()
	keep := s.want.Keep
	s.mu.Unlock()
	for _, stop := range stops {
		stop(closing{notification: wire.Notification{Code: wire.Cease, Subcode: wire.Shutdown}, silent: keep})
	}
	return g.Wait()
}

// follow starts, changes and stops peers as is wanted.
func (s *Speaker) follow(ctx context.Context, g *errgroup.Group, stops map[string]context.CancelCauseFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := map[string]bool{}
	for _, b := range s.want.Peers {
		wanted[b.Name] = true
		w := want{Peer: b, complete: s.want.Complete, preserved: s.want.Preserved, seq: s.want.Seq}
		if p := s.peers[b.Name]; p != nil {
			p.set(w)
			continue
		}
		p := newPeer(s.o, w)
		s.peers[b.Name] = p
		peerCtx, stop := context.WithCancelCause(context.WithoutCancel(ctx)) // so that each hears why it is to stop
		stops[b.Name] = stop
		g.Go(func() error { defer s.left(p); p.run(peerCtx); return nil })
	}
	for name, p := range s.peers {
		if !wanted[name] {
			s.leaving[p] = s.seq
			stops[name](closing{notification: wire.Notification{Code: wire.Cease, Subcode: wire.Deconfigured}, silent: s.want.Keep})
			delete(stops, name)
			delete(s.peers, name)
		}
	}
	s.seq = s.want.Seq
	s.o.Changed()
}

// left forgets a peer that has ended.
func (s *Speaker) left(p *peer) {
	s.mu.Lock()
	delete(s.leaving, p)
	s.mu.Unlock()
	s.o.Changed()
}
