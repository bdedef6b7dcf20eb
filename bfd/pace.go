package bfd

import "time"

const (
	// PaceDecay is how long no false alarm must happen for the interval to be halved again.
	PaceDecay = 5 * time.Minute
	// MaxPace is the greatest factor by which an interval is widened.
	MaxPace = 4
)

// Pace widens the intervals of a session that cries wolf: each false alarm doubles them, up to four times the configured
// ones, and every five minutes without one halve them again. Widen both intervals of one end by [Pace.Factor]; BFD's own
// negotiation then slows the other end down too. The zero Pace is ready for use.
type Pace struct {
	widened uint8     // how often it was doubled
	since   time.Time // of the last change
	down    time.Time // when the last alarm was raised; zero = it is settled
	peer    uint32    // the peer's discriminator then
}

// Observe takes an event of the session and reports whether it shows that the last Down was a false alarm: one that was raised
// here, after which the same instance of the peer was Up within four times the detection time, which is that without any
// widening. A longer silence would have been noticed at every pace: it was an outage.
func (p *Pace) Observe(e Event, detection time.Duration) bool {
	switch {
	case e.From == Up && (e.Cause == CauseDetectionExpired || e.Cause == CauseRefused):
		p.down, p.peer = e.At, e.Peer
	case e.From == Up:
		p.down = time.Time{} // the peer said so itself
	case e.To == Up && !p.down.IsZero():
		wrong := e.Peer == p.peer && e.At.Sub(p.down) <= MaxPace*detection
		p.down = time.Time{}
		if wrong {
			p.settle(e.At)
			p.widened, p.since = min(p.widened+1, 2), e.At
		}
		return wrong
	}
	return false
}

// Factor returns by how much the intervals are to be multiplied now: 1, 2 or 4 ([MaxPace]).
func (p *Pace) Factor(now time.Time) int {
	p.settle(now)
	return 1 << p.widened
}

// Next returns when Factor changes by itself; zero means never.
func (p *Pace) Next() time.Time {
	if p.widened == 0 {
		return time.Time{}
	}
	return p.since.Add(PaceDecay)
}

func (p *Pace) settle(now time.Time) {
	for p.widened > 0 && !now.Before(p.since.Add(PaceDecay)) {
		p.widened--
		p.since = p.since.Add(PaceDecay)
	}
}
