package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

const (
	hands     = 16
	writeTime = 5 * time.Millisecond
)

// server is a cluster that several goroutines use and in which a write takes its time. It checks what is promised about the
// order of writes.
type server struct {
	mu     sync.Mutex
	state  *cluster
	dice   *rand.Rand
	faulty bool                  // every fourth write fails, half of these after it has been done
	refuse map[lb.ServiceKey]int // so many writes of these fail
	notify func(lb.ServiceKey)

	busy       map[lb.ServiceKey]bool
	most       int
	violations []string
}

func (s *server) Existing(ctx context.Context) ([]kube.Wish, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Existing(ctx)
}

func (s *server) Service(ctx context.Context, k lb.ServiceKey) (kube.Wish, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Service(ctx, k)
}

func (s *server) Pools(ctx context.Context) ([]lb.Pool, error)        { return s.state.Pools(ctx) }
func (s *server) WritePools(context.Context, []kube.PoolCounts) error { return nil }

func (s *server) WriteService(ctx context.Context, k lb.ServiceKey, version string, v kube.Verdict) (bool, error) {
	s.mu.Lock()
	if s.busy[k] {
		s.violate("two writes of %s at a time", k)
	}
	s.busy[k] = true
	s.most = max(s.most, len(s.busy))
	s.mu.Unlock()
	time.Sleep(writeTime)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, k)
	fault := 0
	if s.faulty {
		fault = s.dice.IntN(8)
	}
	if s.refuse[k]--; fault == 1 || s.refuse[k] >= 0 {
		return false, errors.New("refused")
	}
	wrote, err := s.state.WriteService(ctx, k, version, v)
	if wrote {
		s.check(k, v)
		s.state.touch(k)
		s.notify(k)
	}
	if err == nil && fault == 2 {
		return false, errors.New("the answer was lost")
	}
	return wrote, err
}

// check looks for somebody else with the same address. The lock is held.
func (s *server) check(k lb.ServiceKey, v kube.Verdict) {
	for other, theirs := range s.state.verdicts {
		for _, a := range theirs.Addrs {
			for _, b := range v.Addrs {
				if other != k && a == b {
					s.violate("%s was given to %s while %s has it", a, k, other)
				}
			}
		}
	}
}

func (s *server) violate(format string, args ...any) {
	s.violations = append(s.violations, fmt.Sprintf(format, args...))
}

// apply changes or creates a Service and tells the controller.
func (s *server) apply(name string, edits ...func(*kube.Wish)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.apply(name, edits...)
	s.notify(key(name))
}

func (s *server) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.remove(name)
	s.notify(key(name))
}

// touch gives a Service a new version.
func (c *cluster) touch(k lb.ServiceKey) {
	c.changes++
	w := c.services[k]
	w.Version = fmt.Sprint(c.changes)
	c.services[k] = w
}

// works is a queue with goroutines behind it, as kube.Serve sets them up.
type works struct {
	decisions, writes workqueue.TypedRateLimitingInterface[lb.ServiceKey]
}

func newWorks() *works {
	made := func() workqueue.TypedRateLimitingInterface[lb.ServiceKey] {
		return workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[lb.ServiceKey](writeTime, time.Second))
	}
	return &works{made(), made()}
}

func (w *works) Services(keys ...lb.ServiceKey) { add(w.decisions, keys) }
func (w *works) Writes(keys ...lb.ServiceKey)   { add(w.writes, keys) }
func (w *works) Counts()                        {}
func (w *works) CountsAfter(time.Duration)      {}

func add(q workqueue.TypedRateLimitingInterface[lb.ServiceKey], keys []lb.ServiceKey) {
	for _, k := range keys {
		q.Add(k)
	}
}

// run works until the test's bubble ends.
func (w *works) run(t *testing.T, ctl *Controller) {
	serve := func(q workqueue.TypedRateLimitingInterface[lb.ServiceKey], do func(context.Context, lb.ServiceKey) error) {
		for {
			k, over := q.Get()
			if over {
				return
			}
			if err := do(t.Context(), k); err != nil {
				q.AddRateLimited(k)
			} else {
				q.Forget(k)
			}
			q.Done(k)
		}
	}
	go serve(w.decisions, ctl.Service)
	for range hands {
		go serve(w.writes, ctl.Write)
	}
	t.Cleanup(func() { w.decisions.ShutDown(); w.writes.ShutDown() })
}

// flood runs a controller against a server in a bubble.
func flood(t *testing.T, pools []lb.Pool, story func(*testing.T, *server)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorks()
		s := &server{state: newCluster(pools...), busy: map[lb.ServiceKey]bool{}, refuse: map[lb.ServiceKey]int{}}
		s.notify = func(k lb.ServiceKey) { w.Services(k) }
		ctl, err := New(s, w, Options{Rest: time.Minute, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		w.run(t, ctl)
		story(t, s)
		for _, v := range s.violations {
			t.Error(v)
		}
	})
}

// later sleeps until nobody works any more; only then the server's fields may be touched.
func later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestWritesRunBesideEachOther(t *testing.T) {
	const n = 800
	flood(t, []lb.Pool{pool("p", "198.18.0.0", "198.18.255.255")}, func(t *testing.T, s *server) {
		start := time.Now()
		for i := range n {
			s.apply(fmt.Sprint("s", i))
		}
		for len(s.addresses()) < n {
			time.Sleep(writeTime)
		}
		if took, want := time.Since(start), n/hands*writeTime; took > want+writeTime {
			t.Errorf("%d writes of %v took %v, want %v with %d hands", n, writeTime, took, want, hands)
		}
		later(time.Minute)
		if s.state.writes != n || s.most != hands {
			t.Errorf("%d writes, %d at a time; want %d, %d", s.state.writes, s.most, n, hands)
		}
	})
}

func (s *server) addresses() map[netip.Addr]lb.ServiceKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[netip.Addr]lb.ServiceKey{}
	for k, v := range s.state.verdicts {
		for _, a := range v.Addrs {
			out[a] = k
		}
	}
	return out
}

func TestChangeDuringItsWrite(t *testing.T) {
	flood(t, []lb.Pool{pool("a", "192.0.2.1", "192.0.2.9"), pool("b", "192.0.2.11", "192.0.2.19")}, func(t *testing.T, s *server) {
		s.apply("x")
		time.Sleep(writeTime / 2)
		s.apply("x", asks("b")) // while the first write is under way, which is refused therefore
		s.apply("x", asks("a"))
		s.apply("x", asks("b"))
		later(time.Minute)
		if got := s.state.String(); got != "x 192.0.2.11" || s.state.writes != 1 {
			t.Errorf("%s after %d writes", got, s.state.writes)
		}
	})
}

func TestAnAddressIsShownByOneAtATime(t *testing.T) {
	other := pool("other", "198.51.100.1", "198.51.100.1")
	other.AutoAssign = false
	flood(t, []lb.Pool{pool("one", "192.0.2.1", "192.0.2.1"), other}, func(t *testing.T, s *server) {
		s.apply("giver")
		later(time.Second)
		s.apply("taker")
		later(time.Second)
		s.refuse[key("giver")] = 5
		s.apply("giver", asks("other"))
		later(time.Minute)
		if got := s.state.String(); got != "giver 198.51.100.1; taker 192.0.2.1" {
			t.Error(got)
		}
	})
}

// Whatever fails and changes meanwhile, in the end everybody has what the allocator says, and nobody ever what somebody
// else's status shows.
func TestStorm(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	own := pool("own", "198.18.0.0", "198.18.255.255")
	own.AutoAssign = false
	flood(t, []lb.Pool{pool("small", "192.0.2.0", "192.0.2.63"), own}, func(t *testing.T, s *server) {
		s.dice = rand.New(rand.NewPCG(seed, 0))
		s.faulty = true
		dice := rand.New(rand.NewPCG(seed, 1))
		for range 3000 {
			name := fmt.Sprint("s", dice.IntN(200))
			switch dice.IntN(10) {
			case 0, 1:
				s.remove(name)
			case 2, 3:
				s.apply(name, asks("own"))
			default:
				s.apply(name) // somebody else touches it
			}
			time.Sleep(time.Duration(dice.IntN(int(writeTime))))
		}
		later(time.Second)
		s.faulty = false
		later(time.Hour)
		writes := s.state.writes
		served, waiting := 0, 0
		for k, w := range s.state.services {
			v := s.state.verdicts[k]
			served += len(v.Addrs)
			if len(v.Addrs) == 0 {
				waiting++
			}
			if w.Service.RequestedPool != "" && v.Pool != "own" {
				t.Errorf("%s wants an address of its own and has %v of %q", k, v.Addrs, v.Pool)
			}
		}
		if got := len(s.addresses()); got != served {
			t.Errorf("%d Services have %d addresses", served, got)
		}
		small := 0
		for a := range maps.Keys(s.addresses()) {
			if a.Is4() && a.As4()[0] == 192 {
				small++
			}
		}
		if waiting > 0 && small < 64 {
			t.Errorf("%d Services wait while %d of 64 addresses are in use", waiting, small)
		}
		later(time.Hour)
		if s.state.writes != writes {
			t.Error("it goes on writing")
		}
	})
}
