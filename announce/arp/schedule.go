package arp

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

// rounds returns how long after the gain of an address its gratuitous packets are sent.
func rounds() []time.Duration {
	const ms = time.Millisecond
	return []time.Duration{0, 50 * ms, 150 * ms, 400 * ms, 1100 * ms, 2200 * ms}
}

// schedule knows when which gratuitous packets are due. Its methods take the time as an argument.
type schedule struct {
	refresh func() time.Duration // from the last round, or the last refresh, to the next
	queue   queue
	entries map[place]*entry
}

type entry struct {
	place
	gained time.Time
	round  int // the next one
	due    time.Time
	index  int // in the queue
}

func newSchedule(refresh func() time.Duration) *schedule {
	return &schedule{refresh: refresh, entries: map[place]*entry{}}
}

// start begins the rounds for p, anew if they were under way.
func (s *schedule) start(p place, now time.Time) {
	s.stop(p)
	e := &entry{place: p, gained: now, due: now}
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

// take returns at most n places whose packets are due, the longest waiting first, and puts each up for its next round.
func (s *schedule) take(now time.Time, n int) []place {
	var out []place
	for len(out) < n && len(s.queue) > 0 && !s.queue[0].due.After(now) {
		e := s.queue[0]
		out = append(out, e.place)
		e.round++
		if at := rounds(); e.round < len(at) {
			e.due = e.gained.Add(at[e.round])
		} else {
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
