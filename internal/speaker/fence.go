package speaker

import (
	"sync/atomic"
	"time"
)

// fence keeps this node silent on the wire after its process was asleep (stopped, starved, or in a paused machine) until it
// knows what has happened meanwhile: others may have taken its addresses, and whoever still answers for one pulls the traffic
// back. It closes by itself; the steps open it.
type fence struct {
	beat   Heartbeat // nil = sleep is not noticed
	closed atomic.Pointer[sleep]
	known  atomic.Uint64 // what Heartbeat.Sleeps said when the fence was last opened
}

// sleep is why a fence is closed.
type sleep struct {
	since time.Time // when it was noticed
	count uint64    // what Heartbeat.Sleeps said then
}

// While the fence is closed the others are asked every fencePoll. Without any answer it opens after fenceAnyway: then nobody
// is left, or all are cut off, and both sides of a cut serve.
const (
	fencePoll   = 20 * time.Millisecond
	fenceAnyway = 3 * time.Second
)

// isOpen reports whether this node may answer and announce now. It may be called from any goroutine.
func (f *fence) isOpen() bool {
	if f.closed.Load() != nil {
		return false
	}
	if f.fresh() && f.sleeps() == f.known.Load() { // in this order: a sleep that Fresh no longer shows has been counted
		return true
	}
	f.closed.CompareAndSwap(nil, &sleep{time.Now(), f.sleeps()})
	return false
}

func (f *fence) fresh() bool { return f.beat == nil || f.beat.Fresh() }

func (f *fence) sleeps() uint64 {
	if f.beat == nil {
		return 0
	}
	return f.beat.Sleeps()
}

// MayAnswer reports whether this node may answer and announce on the wire now. The announcers ask before every packet.
func (s *Speaker) MayAnswer() bool { return s.fence.isOpen() }

// clearance reports whether the closed fence may be opened at the end of this step, whose facts then are as new as they can
// be. If it is too early it asks the others, once they can be heard, and has another step look again.
func (s *Speaker) clearance(now time.Time) bool {
	why := *s.fence.closed.Load() // only a step opens it
	fresh := s.fence.fresh()
	if n := s.fence.sleeps(); n != why.count { // it has slept again, or the sleep is counted only now
		why = sleep{now, n}
		s.fence.closed.Store(&why)
	}
	if fresh && s.o.Gossip.UpToDate(why.since) || now.Sub(why.since) >= fenceAnyway || len(s.facts.Nodes) == 1 {
		return true
	}
	if fresh {
		s.o.Gossip.Rejoin()
	}
	time.AfterFunc(fencePoll, s.Trigger)
	return false
}

// reopen ends the silence.
func (s *Speaker) reopen(now time.Time) {
	why := s.fence.closed.Load()
	s.o.Log.Warn("process was asleep, answering again", "silentFor", now.Sub(why.since).Round(time.Millisecond))
	s.metrics.fenced.Inc()
	if !s.fence.fresh() {
		s.fence.beat.GoOn() // a sleep since then is counted, or will be
	}
	s.fence.known.Store(why.count)
	s.fence.closed.Store(nil)
}
