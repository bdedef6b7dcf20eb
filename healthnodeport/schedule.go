package healthnodeport

import (
	"container/heap"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// The pace of the questions. A port is asked at once when it is new and quickly until its answer is good, so that an address
// is announced soon after the forwarder has caught up. After that it is asked every steady, which is how late this node notices
// that its forwarder says no. With many ports each is asked less often: all together not more than once per share.
//
// An HTTP status is an answer, and counts at once. Silence (nobody listens, or nobody answers within patience) counts after it has
// lasted for tolerance: a forwarder that restarts, which takes it a second or two, leaves its rules in the kernel and goes on forwarding.
const (
	quick     = 200 * time.Millisecond
	steady    = 2 * time.Second
	share     = 10 * time.Millisecond
	pace      = time.Millisecond // between any two questions, also where many ports are new at the same time
	patience  = time.Second
	tolerance = 3 * time.Second
)

// outcome is what came of one question.
type outcome struct {
	status int   // of HTTP; 0 = silence
	err    error // why silence
}

// target is a port that is asked.
type target struct {
	service lb.ServiceKey
	port    uint16
	due     time.Time
	rest    time.Duration // between the last two questions
	silent  time.Time     // since when nobody has answered; zero = somebody does
	known   bool          // check says something
	check   lb.HealthCheck
	place   int // in the queue; -1 = it is being asked
}

// schedule decides what is asked when, and what the outcomes mean. It is pure: time is an argument.
type schedule struct {
	targets map[lb.ServiceKey]*target
	queue   queue // of those that are not being asked, by due
	hurried time.Time
	phase   float64 // of the last port whose rest was spread, 0 to 1
}

func newSchedule() *schedule { return &schedule{targets: map[lb.ServiceKey]*target{}} }

// set replaces the ports to ask. One that is new, or whose number has changed, is due at once. It reports whether something was
// forgotten that the answers speak of.
func (s *schedule) set(ports map[lb.ServiceKey]uint16, now time.Time) (forgot bool) {
	for key, t := range s.targets {
		if ports[key] == t.port {
			continue
		}
		forgot = forgot || t.known
		delete(s.targets, key)
		if t.place >= 0 {
			heap.Remove(&s.queue, t.place)
		}
	}
	for key, port := range ports {
		if s.targets[key] == nil {
			t := &target{service: key, port: port, due: now}
			s.targets[key] = t
			heap.Push(&s.queue, t)
		}
	}
	return forgot
}

// next takes the port that has waited longest for its question; nil if none is due, and then wait says when one will be: 0 = none ever.
func (s *schedule) next(now time.Time) (t *target, wait time.Duration) {
	if len(s.queue) == 0 {
		return nil, 0
	}
	if wait := s.queue[0].due.Sub(now); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&s.queue).(*target), 0
}

// learn takes in what came of the question about t and reports whether the answers have changed.
func (s *schedule) learn(t *target, o outcome, now time.Time) (changed bool) {
	if s.targets[t.service] != t {
		return false // nobody wants to know any more
	}
	before, knew := t.check, t.known
	if spoke := o.status != 0; spoke != t.silent.IsZero() {
		s.hurry(now)
	}
	switch {
	case o.status == http.StatusOK:
		t.known, t.check, t.silent = true, lb.HealthCheck{OK: true}, time.Time{}
	case o.status != 0:
		t.known, t.check, t.silent = true, lb.HealthCheck{Why: fmt.Sprintf("answers %d %s", o.status, http.StatusText(o.status))}, time.Time{}
	default:
		if t.silent.IsZero() {
			t.silent = now
		}
		if now.Sub(t.silent) >= tolerance {
			t.known, t.check = true, lb.HealthCheck{Why: fmt.Sprintf("does not answer: %v", o.err)}
		}
	}
	changed = t.known != knew || t.check != before
	t.rest = s.rest(t)
	t.due = now.Add(t.rest)
	if changed && t.check.OK {
		t.due = now.Add(s.spread(t.rest))
	}
	heap.Push(&s.queue, t)
	return changed
}

// rest is how long t waits for its next question: twice as long each time, once it has a bad answer.
func (s *schedule) rest(t *target) time.Duration {
	usual := max(steady, time.Duration(len(s.targets))*share)
	switch {
	case t.known && t.check.OK && t.silent.IsZero():
		return usual
	case t.known && !t.check.OK:
		return min(usual, max(quick, 2*t.rest))
	}
	return quick
}

// spread returns a part of rest, another one each time and evenly distributed (steps of the golden ratio), so that ports that were new
// together are not asked together for ever.
func (s *schedule) spread(rest time.Duration) time.Duration {
	s.phase = math.Mod(s.phase+math.Phi, 1)
	return time.Duration(s.phase * float64(rest))
}

// hurry has every port asked now, because one has fallen silent or speaks again: whoever answers at one answers at all. It does so
// once in a while only, since a single port may be silent for reasons of its own.
func (s *schedule) hurry(now time.Time) {
	if now.Sub(s.hurried) < tolerance {
		return
	}
	s.hurried = now
	for _, t := range s.queue {
		if t.due.After(now) {
			t.due = now
		}
	}
	heap.Init(&s.queue)
}

// answers returns what is known.
func (s *schedule) answers() map[lb.ServiceKey]lb.HealthCheck {
	out := make(map[lb.ServiceKey]lb.HealthCheck, len(s.targets))
	for key, t := range s.targets {
		if t.known {
			out[key] = t.check
		}
	}
	return out
}

// queue implements heap.Interface: the target that is due first comes first.
type queue []*target

// Len implements heap.Interface.
func (q queue) Len() int { return len(q) }

// Less implements heap.Interface.
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }

// Swap implements heap.Interface.
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i]; q[i].place, q[j].place = i, j }

// Push implements heap.Interface.
func (q *queue) Push(x any) { t := x.(*target); t.place = len(*q); *q = append(*q, t) }

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	(*q)[last] = nil
	*q, t.place = (*q)[:last], -1
	return t
}
