package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/announce/bgp/wire"
	"github.com/fairlead-lb/fairlead/lb"
)

const (
	firstPause     = 100 * time.Millisecond // before the second attempt
	prefixPause    = time.Minute            // after a peer has sent more prefixes than it may
	steady         = 5 * time.Second        // a session that was up for that long did not fail because of how it began
	defaultConnect = 10 * time.Second       // the connect retry time where none is given
)

// want is what a peer shall be and hear.
type want struct {
	bgp.Peer
	complete, preserved bool
	seq                 uint64 // of the State
}

// closing says why we end a session. It is the cause of a context's end.
type closing struct {
	notification wire.Notification
	silent       bool // without it where the peer has agreed to graceful restart
}

// Error implements error.
func (c closing) Error() string { return "closed by us: " + c.notification.Error() }

// peer is a neighbour with its goroutine.
type peer struct {
	o    Options
	wake chan struct{}

	mu      sync.Mutex
	want    want
	cut     context.CancelCauseFunc // ends the present attempt; nil = there is none
	session bgp.Session
	told    uint64 // the Seq up to which all withdrawals have been written, while it is established

	fresh    bool // no session has been up since the process started
	attempts int  // without success in a row
}

func newPeer(o Options, w want) *peer {
	o.Log = o.Log.With("peer", w.Name)
	p := &peer{o: o, wake: make(chan struct{}, 1), want: w, fresh: true}
	p.session = bgp.Session{Peer: w.Name, State: bgp.Idle, Since: time.Now(), Pending: len(w.Paths), Reason: lb.BGPConnecting, Message: "the session has not been up yet"}
	return p
}

// set says what is wanted from now on, and ends the session if it cannot stay.
func (p *peer) set(w want) {
	p.mu.Lock()
	old, cut := p.want, p.cut
	p.want = w
	p.mu.Unlock()
	if why, ends := ended(old, w); ends && cut != nil {
		cut(why)
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// ended says whether and why a session that was opened for old must end when w is wanted. One that is held stays if it is open.
func ended(old, w want) (closing, bool) {
	switch {
	case w.BFDDown:
		return closing{notification: wire.Notification{Code: wire.Cease, Subcode: wire.BFDDown}}, true
	case w.Held.OK() && !old.SameSession(w.Peer):
		return closing{notification: wire.Notification{Code: wire.Cease, Subcode: wire.OtherConfig}, silent: w.GracefulRestart}, true
	}
	return closing{}, false
}

// begin returns what is wanted and the context of an attempt, which ends when something else is wanted.
func (p *peer) begin(ctx context.Context) (context.Context, context.CancelCauseFunc, want) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ctx, p.cut = context.WithCancelCause(ctx)
	return ctx, p.cut, p.want
}

func (p *peer) wanted() want {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.want
}

// report returns how the session is, and up to which State all withdrawals have been written: where no session is up there are none.
func (p *peer) report() (bgp.Session, uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session.State != bgp.Established {
		return p.session, p.want.seq
	}
	return p.session, p.told
}

// update changes the report, and tells whoever wants to know.
func (p *peer) update(f func(*bgp.Session)) {
	p.mu.Lock()
	f(&p.session)
	p.mu.Unlock()
	p.o.Changed()
}

// enter is update for a change of the state.
func (p *peer) enter(state bgp.SessionState) {
	p.update(func(s *bgp.Session) {
		if state == bgp.Established || s.State == bgp.Established {
			s.Since = time.Now()
		}
		if state == bgp.Established {
			p.told = p.want.seq
		}
		s.State = state
	})
}

// run opens sessions until ctx is done.
func (p *peer) run(ctx context.Context) {
	for p.permitted(ctx) {
		begun := time.Now()
		attempt, cut, w := p.begin(ctx)
		if w.BFDDown || !w.Held.OK() || !w.Addr.IsValid() { // since permitted looked
			cut(nil)
			continue
		}
		err := p.attempt(attempt, w)
		cut(nil)
		up := p.lost(w, err)
		if up && time.Since(begun) >= steady {
			p.attempts = 0
		}
		p.rest(ctx, w, p.pause(err))
	}
}

// permitted waits until a session may be opened, and returns false if ctx is done first.
func (p *peer) permitted(ctx context.Context) bool {
	for {
		w := p.wanted()
		why := w.Held
		if why.OK() && !w.Addr.IsValid() {
			why = lb.Refusal{Reason: lb.BGPUnnumbered, Message: fmt.Sprintf("no router has advertised itself on interface %s: have it send router advertisements there, or set peerAddress", w.Interface)}
		}
		if why.OK() && w.BFDDown {
			why = lb.Refusal{Reason: lb.BGPBFDDown, Message: "BFD does not hear the peer; the session opens when it does"}
		}
		if why.OK() {
			return ctx.Err() == nil
		}
		p.enter(bgp.Idle)
		p.update(func(s *bgp.Session) { s.Reason, s.Message, s.Pending = why.Reason, why.Message, len(w.Paths) })
		select {
		case <-ctx.Done():
			return false
		case <-p.wake:
		}
	}
}

// attempt opens a session and holds it. It returns why it ended, never nil.
func (p *peer) attempt(ctx context.Context, w want) (err error) {
	defer p.caught(&err)
	p.enter(bgp.Connect)
	conn, err := dial(ctx, w.Peer)
	if err != nil {
		return unreached(w.Peer, err)
	}
	defer conn.Close()
	return newTalk(p, w, conn).run(ctx)
}

// caught turns a panic into an error: what one peer sends ends its own session only.
func (p *peer) caught(err *error) {
	if cause := recover(); cause != nil {
		p.o.Log.Error("bgp session crashed", "cause", cause, "stack", string(debug.Stack()))
		*err = failure{lb.Refusal{Reason: lb.BGPCrashed, Message: fmt.Sprintf("the session crashed (%v); it is opened again, please report it with the log", cause)}, ""}
	}
}

// lost takes note of why an attempt ended, and reports whether the session had been up.
func (p *peer) lost(w want, err error) (up bool) {
	why := explain(w.Peer, err)
	p.update(func(s *bgp.Session) {
		up = s.State == bgp.Established
		if up {
			s.Flaps++
			s.Since = time.Now()
		}
		s.State, s.Reason, s.Message = bgp.Active, why.Reason, why.Message
		s.LastError, s.LastErrorAt = why.said(), time.Now()
		s.PrefixesIn, s.Sent, s.Pending = 0, 0, len(p.want.Paths)
	})
	if up {
		p.o.Log.Info("bgp session ended", "reason", why.Reason, "why", why.said())
	} else {
		p.o.Log.Debug("bgp session could not be opened", "reason", why.Reason, "why", why.said())
	}
	return up
}

// pause returns how long to wait before the next attempt.
func (p *peer) pause(err error) time.Duration {
	var f failure
	if errors.As(err, &f) && f.Reason == lb.BGPMaxPrefixes {
		return prefixPause
	}
	limit := p.wanted().ConnectRetry
	if limit <= 0 {
		limit = defaultConnect
	}
	full := min(firstPause<<min(p.attempts, 20), limit)
	p.attempts++
	return time.Duration(float64(full) * (1 - rand.Float64()/4))
}

// rest waits for d, but not if what is wanted of the session has changed since w.
func (p *peer) rest(ctx context.Context, w want, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		now := p.wanted()
		if !now.SameSession(w.Peer) || now.BFDDown || !now.Held.OK() {
			p.attempts = 0
			return
		}
		p.mu.Lock()
		p.session.Pending = len(now.Paths)
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-p.wake:
		}
	}
}
