package speaker

import (
	"sync/atomic"
	"time"
)

// fence keeps this node silent on the wire after its process was asleep (stopped, starved, or in a paused machine) until it
// knows what has happened meanwhile: others may have taken its addresses, and whoever still answers for one pulls the traffic
// back. It closes by itself; the steps open it.
type fence struct {
	fresh  func() bool               // [Heartbeat.Fresh]
	closed atomic.Pointer[time.Time] // when that was noticed; nil = open
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
	if f.fresh() {
		return true
	}
	now := time.Now()
	f.closed.CompareAndSwap(nil, &now)
	return false
}

// MayAnswer reports whether this node may answer and announce on the wire now. The announcers ask before every packet.
func (s *Speaker) MayAnswer() bool { return s.fence.isOpen() }

// clearance reports whether the closed fence may be opened at the end of this step, whose facts then are as new as they can
// be. If it is too early it asks the others, and has another step look again.
func (s *Speaker) clearance(now time.Time) bool {
	since := *s.fence.closed.Load() // only a step opens it
	if s.fence.fresh() && s.o.Gossip.UpToDate(since) || now.Sub(since) >= fenceAnyway || len(s.facts.Nodes) == 1 {
		return true
	}
	s.o.Gossip.Rejoin()
	time.AfterFunc(fencePoll, s.steps.Trigger)
	return false
}

// reopen ends the silence.
func (s *Speaker) reopen(now time.Time) {
	s.o.Log.Warn("process was asleep, answering again", "silentFor", now.Sub(*s.fence.closed.Load()).Round(time.Millisecond))
	s.metrics.fenced.Inc()
	s.fence.closed.Store(nil)
}
