package bfd

import (
	"testing"
	"time"
)

const detection = 900 * time.Millisecond

func TestPace(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	down := func(d time.Duration, cause Cause, peer uint32) Event {
		return Event{From: Up, To: Down, Cause: cause, Peer: peer, At: at(d)}
	}
	up := func(d time.Duration, peer uint32) Event {
		return Event{From: Init, To: Up, Cause: CauseHandshake, Peer: peer, At: at(d)}
	}
	alarm := func(d time.Duration) []Event { return []Event{down(d, CauseDetectionExpired, 7), up(d+time.Second, 7)} }
	for _, c := range []struct {
		name   string
		events []Event
		when   time.Duration
		want   int
	}{
		{"nothing happened", nil, 0, 1},
		{"false alarm", alarm(0), 2 * time.Second, 2},
		{"false refusal", []Event{down(0, CauseRefused, 7), up(time.Second, 7)}, 2 * time.Second, 2},
		{"two", append(alarm(0), alarm(10*time.Second)...), 12 * time.Second, 4},
		{"three widen no further", append(append(alarm(0), alarm(10*time.Second)...), alarm(20*time.Second)...), 22 * time.Second, 4},
		{"the peer restarted", []Event{down(0, CauseDetectionExpired, 7), up(time.Second, 8)}, 2 * time.Second, 1},
		{"away for long", []Event{down(0, CauseDetectionExpired, 7), up(MaxPace*detection+1, 7)}, time.Minute, 1},
		{"just within", []Event{down(0, CauseDetectionExpired, 7), up(MaxPace*detection, 7)}, time.Minute, 2},
		{"the peer's own alarm", []Event{down(0, CausePeerDown, 7), up(time.Second, 7)}, 2 * time.Second, 1},
		{"the peer's maintenance", []Event{down(0, CausePeerAdminDown, 7), up(time.Second, 7)}, 2 * time.Second, 1},
		{"link down", []Event{down(0, CauseLinkDown, 7), up(time.Second, 7)}, 2 * time.Second, 1},
		{"up without a down", []Event{up(0, 7)}, time.Second, 1},
		{"one alarm counts once", append(alarm(0), up(2*time.Second, 7)), 3 * time.Second, 2},
		{"not yet decayed", alarm(0), time.Second + PaceDecay - 1, 2},
		{"decayed", alarm(0), time.Second + PaceDecay, 1},
		{"decays step by step", append(alarm(0), alarm(10*time.Second)...), 11*time.Second + PaceDecay, 2},
		{"and at last", append(alarm(0), alarm(10*time.Second)...), 11*time.Second + 2*PaceDecay, 1},
		{"after a long time", append(alarm(0), alarm(3*PaceDecay)...), 3*PaceDecay + 2*time.Second, 2},
	} {
		var p Pace
		for _, e := range c.events {
			p.Observe(e, detection)
		}
		if got := p.Factor(at(c.when)); got != c.want {
			t.Errorf("%s: factor %d, want %d", c.name, got, c.want)
		}
		if p.Next().IsZero() != (c.want == 1) {
			t.Errorf("%s: Next is %v at factor %d", c.name, p.Next(), c.want)
		}
	}
}

func TestPaceTellsFalseAlarms(t *testing.T) {
	var p Pace
	now := time.Unix(1000, 0)
	if p.Observe(Event{From: Up, To: Down, Cause: CauseDetectionExpired, Peer: 7, At: now}, detection) {
		t.Error("a Down was called false before the peer was back")
	}
	if !p.Observe(Event{From: Init, To: Up, Peer: 7, At: now.Add(time.Second)}, detection) {
		t.Error("the same peer was back a second later, and the alarm was not called false")
	}
}
