package arp

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestScheduleRounds(t *testing.T) {
	const ms = time.Millisecond
	start := time.Unix(1000, 0)
	s := newSchedule(func() time.Duration { return time.Minute })
	s.start(place{vip, "eth0"}, start)
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
		s.start(place{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), "eth0"}, now)
	}
	first := s.take(now, 60)
	second := s.take(now.Add(60*time.Millisecond), 100) // the first 60 are due again, the other 40 wait longer
	seen := map[place]int{}
	for i, p := range slices.Concat(first, second) {
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
	s.start(a, now)
	s.start(b, now)
	s.take(now, 2)
	s.stop(a)
	s.stop(a)
	s.start(b, now.Add(10*time.Millisecond)) // a new gain starts the rounds anew
	if got := s.take(now.Add(10*time.Millisecond), 10); !slices.Equal(got, []place{b}) {
		t.Errorf("took %v", got)
	}
	s.stop(b)
	if _, ok := s.next(); ok {
		t.Error("something is due although nothing is scheduled")
	}
}
