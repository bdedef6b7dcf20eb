package neighbour

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	vip   = netip.MustParseAddr("192.0.2.200")
	other = netip.MustParseAddr("192.0.2.201")
)

func TestScheduleRounds(t *testing.T) {
	const ms = time.Millisecond
	start := time.Unix(1000, 0)
	s := newSchedule(func() time.Duration { return time.Minute })
	s.start(place{vip, "eth0"}, start, false)
	var at []time.Duration
	for len(at) < 8 {
		due, ok := s.next()
		if !ok {
			t.Fatal("nothing due")
		}
		for range s.take(due, 10) {
			at = append(at, due.Sub(start))
		}
	}
	want := []time.Duration{0, 50 * ms, 150 * ms, 400 * ms, 1100 * ms, 2200 * ms, 2200*ms + time.Minute, 2200*ms + 2*time.Minute}
	if d := cmp.Diff(want, at); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestScheduleServesTheLongestWaitingFirst(t *testing.T) {
	now := time.Unix(1000, 0)
	s := newSchedule(func() time.Duration { return time.Minute })
	for i := range 100 {
		s.start(place{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), "eth0"}, now, false)
	}
	first := s.take(now, 60)
	second := s.take(now.Add(60*time.Millisecond), 100) // the first 60 are due again, the other 40 wait longer
	seen := map[place]int{}
	for i, j := range slices.Concat(first, second) {
		p := j.place
		if seen[p]++; seen[p] == 1 && i >= 100 {
			t.Errorf("%v had to wait for the second round of others", p)
		}
	}
	if len(first) != 60 || len(second) != 100 || len(seen) != 100 {
		t.Errorf("took %d, then %d, of %d addresses", len(first), len(second), len(seen))
	}
}

func TestScheduleStopAndRestart(t *testing.T) {
	now := time.Unix(1000, 0)
	s := newSchedule(func() time.Duration { return time.Minute })
	a, b := place{vip, "eth0"}, place{other, "eth0"}
	s.start(a, now, false)
	s.start(b, now, false)
	s.take(now, 2)
	s.stop(a)
	s.stop(a)
	s.start(b, now.Add(10*time.Millisecond), false) // a new gain starts the rounds anew
	if got := s.take(now.Add(10*time.Millisecond), 10); !slices.Equal(got, []job{{place: b}}) {
		t.Errorf("took %v", got)
	}
	s.stop(b)
	if _, ok := s.next(); ok {
		t.Error("something is due although nothing is scheduled")
	}
}

func TestScheduleProbesBeforeItAnnounces(t *testing.T) {
	start := time.Unix(1000, 0)
	s := newSchedule(func() time.Duration { return time.Minute })
	p := place{vip, "eth0"}
	s.start(p, start, true)
	type sent struct {
		At           time.Duration
		Probe, Clear bool
	}
	var got []sent
	for range 5 {
		due, _ := s.next()
		if due == start.Add(100*time.Millisecond) {
			due = due.Add(30 * time.Millisecond) // the second probe is late
		}
		for _, j := range s.take(due, 10) {
			got = append(got, sent{due.Sub(start), j.probe, j.clear})
			if s.announced(p) == j.probe || s.probed(p) != j.probe {
				t.Errorf("at %s announced %t, probed %t", due.Sub(start), s.announced(p), s.probed(p))
			}
		}
	}
	const ms = time.Millisecond
	want := []sent{{0, true, false}, {130 * ms, true, false}, {230 * ms, true, false}, {330 * ms, false, true}, {380 * ms, false, false}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	now := start.Add(time.Second)
	s.start(place{other, "eth0"}, now, true)
	s.restart(now, func(place) bool { return true })
	if !s.announced(p) || !s.probed(place{other, "eth0"}) {
		t.Error("a restart made a probe of an announcement, or the other way round")
	}
	s.rename(p, "lan0")
	if s.announced(p) || !s.announced(place{vip, "lan0"}) {
		t.Error("not renamed")
	}
}
