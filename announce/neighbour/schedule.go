package neighbour

import (
	"container/heap"
	"net/netip"
	"time"
)

// place is an address on a link.
type place struct {
	addr  netip.Addr
	iface string
}

// rounds returns how long after the gain of an address it is announced.
func rounds() []time.Duration {
	const ms = time.Millisecond
	return []time.Duration{0, 50 * ms, 150 * ms, 400 * ms, 1100 * ms, 2200 * ms}
}

// probes is how often an address is probed before it is announced, and probeEvery the time after each of them in which
// somebody may answer.
const (
	probes     = 3
	probeEvery = 100 * time.Millisecond
)

// schedule knows for every address on a link whether it is being probed or announced, and when which packets are due. Its
// methods take the time as an argument.
type schedule struct {
	refresh func() time.Duration // from the last round, or the last refresh, to the next
	queue   queue
	entries map[place]*entry
}

type entry struct {
	place
	probing bool
	gained  time.Time
	round   int // the next one
	due     time.Time
	index   int // in the queue
}

// job is what is to be sent for a place.
type job struct {
	place
	probe bool // else announce
	clear bool // the probes have ended and nobody has answered
}

func newSchedule(refresh func() time.Duration) *schedule {
	return &schedule{refresh: refresh, entries: map[place]*entry{}}
}

// start begins the rounds for p, anew if they were under way: probes first, or announcements at once.
func (s *schedule) start(p place, now time.Time, probe bool) {
	s.stop(p)
	e := &entry{place: p, probing: probe, gained: now, due: now}
	s.entries[p] = e
	heap.Push(&s.queue, e)
}

// stop forgets p.
func (s *schedule) stop(p place) {
	if e, ok := s.entries[p]; ok {
		heap.Remove(&s.queue, e.index)
		delete(s.entries, p)
	}
}

// rename moves p to a link that has another name now.
func (s *schedule) rename(p place, iface string) {
	e, ok := s.entries[p]
	if !ok {
		return
	}
	delete(s.entries, p)
	e.iface = iface
	s.stop(e.place) // of a link that had the name before
	s.entries[e.place] = e
}

// restart begins the present rounds of all places anew for which which returns true.
func (s *schedule) restart(now time.Time, which func(place) bool) {
	for p, e := range s.entries {
		if which(p) {
			s.start(p, now, e.probing)
		}
	}
}

// announced reports whether p is to be answered for; probed, whether it is being probed.
func (s *schedule) announced(p place) bool { e, ok := s.entries[p]; return ok && !e.probing }
func (s *schedule) probed(p place) bool    { e, ok := s.entries[p]; return ok && e.probing }

// take returns at most n jobs that are due, the longest waiting first, and puts each place up for its next round.
func (s *schedule) take(now time.Time, n int) []job {
	var out []job
	for len(out) < n && len(s.queue) > 0 && !s.queue[0].due.After(now) {
		e := s.queue[0]
		j := job{place: e.place, probe: e.probing && e.round < probes}
		if e.probing && !j.probe {
			j.clear, e.probing, e.gained, e.round = true, false, now, 0
		}
		out = append(out, j)
		e.round++
		switch at := rounds(); {
		case e.probing:
			e.due = now.Add(probeEvery) // however late this one was, there is time to answer it
		case e.round < len(at):
			e.due = e.gained.Add(at[e.round])
		default:
			e.due = now.Add(s.refresh())
		}
		heap.Fix(&s.queue, 0)
	}
	return out
}

// next returns when the next packets are due; false if there are none.
func (s *schedule) next() (time.Time, bool) {
	if len(s.queue) == 0 {
		return time.Time{}, false
	}
	return s.queue[0].due, true
}

// queue is a heap of entries by the time they are due. It implements heap.Interface.
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	e := x.(*entry)
	e.index = len(*q)
	*q = append(*q, e)
}

func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return e
}
