package speaker

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

// forwardAhead gives the engine's loop its next goal before the decisions of this step are made, so that it need not wait for them, and
// reports whether it did. It leaves that to the end of the step if the datapath would refuse something that it forwards now: that is
// withdrawn first.
func (s *Speaker) forwardAhead(snap lb.Snapshot, now time.Time) bool {
	if s.o.Engine == nil || !s.haveFacts || snap.Fenced || s.want == nil {
		return false
	}
	forwards, _ := s.speech.parting.with(snap, s.reportBGP().Seq, now)
	want := s.decider.Desired(forwards)
	if !want.Keeps(s.want.State) {
		return false
	}
	s.handOver(want, forwards.Services, now)
	return true
}

// slight reports whether facts differ from those before in nothing but endpoints that no announcement, and no health check node port,
// heeds.
func slight(before, now kube.Facts) bool {
	if now.Version == 0 || now.Version != before.Version {
		return false
	}
	for key := range now.Endpoints.Since(before.Endpoints) {
		svc := cmp.Or(find(now.Services, key), find(now.Others, key))
		if svc == nil || announce.Heeds(svc, before.Endpoints.Of(key), now.Endpoints.Of(key)) {
			return false
		}
	}
	return true
}

// find returns the Service of a list that is sorted by key; nil if it has none.
func find(list []lb.Service, key lb.ServiceKey) *lb.Service {
	i, ok := slices.BinarySearchFunc(list, key, func(s lb.Service, key lb.ServiceKey) int { return s.Key.Compare(key) })
	if !ok {
		return nil
	}
	return &list[i]
}

// sameMemory reports whether both lists are one: facts share what has not changed, and nobody writes to them.
func sameMemory[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// handOver gives the engine's loop its next goal, and tells what of Services is not in it.
func (s *Speaker) handOver(want datapath.State, services []lb.Service, now time.Time) {
	ours := s.ours.of(services)
	want.Refused = besides(want.Refused, s.facts.LeftOut)
	s.mu.Lock()
	news := s.want == nil || !s.want.Equal(want) || !slices.Equal(s.want.ours, ours)
	s.want = &goal{want, ours}
	if news {
		s.backlog.add(s.since(now))
	}
	s.mu.Unlock()
	s.reviewRefused(s.leftOut())
	if news {
		s.syncs.Trigger()
	}
}

// besides returns all, with what the facts do not have of Services, sorted.
func besides(all []datapath.Refused, facts map[lb.ServiceKey]lb.Refusal) []datapath.Refused {
	if len(facts) == 0 {
		return all
	}
	more := make([]datapath.Refused, 0, len(facts))
	for key, refusal := range facts {
		more = append(more, datapath.Refused{Service: key, Refusal: refusal})
	}
	return datapath.JoinRefused(all, more)
}

// since returns when what this step has made of the facts was first heard of.
func (s *Speaker) since(now time.Time) time.Time {
	if s.heardAt == 0 {
		return now // the members or the links have changed
	}
	return time.Unix(0, s.heardAt)
}

// announceable is the addresses of our Services. In mode full the datapath serves many more, about which nobody asks.
type announceable struct {
	services []lb.Service // whose addresses they are
	addrs    []netip.Addr // sorted
}

// of returns the addresses of the Services, which nobody writes to.
func (a *announceable) of(services []lb.Service) []netip.Addr {
	if sameMemory(services, a.services) {
		return a.addrs
	}
	out := make([]netip.Addr, 0, len(services))
	for i := range services {
		for _, in := range services[i].Ingress {
			out = append(out, in.Addr.Unmap())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	*a = announceable{services, slices.Compact(out)}
	return a.addrs
}

// leftOut returns what of Services the datapath does not do: what is not wanted of it, and what the kernel did not take at the last sync.
func (s *Speaker) leftOut() []datapath.Refused {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.want == nil {
		return nil
	}
	return slices.Concat(s.want.Refused, s.report.reached.Refused)
}

// reviewRefused puts an Event on each Service of which something is left out, once.
func (s *Speaker) reviewRefused(all []datapath.Refused) {
	before := s.refused
	s.refused = make(map[datapath.Refused]bool, len(all))
	for _, r := range all {
		s.refused[r] = true
		if !before[r] {
			s.o.Log.Warn("datapath leaves something out", "service", r.Service, "reason", r.Reason, "message", r.Message)
			s.o.Events.Event(r.Service, true, string(r.Reason), r.Message)
		}
	}
}

// sync leads the engine to the latest goal and reports what it reached. Before there is a goal it does nothing: what an
// earlier process has programmed stays until the facts are known.
func (s *Speaker) sync(ctx context.Context) error {
	s.mu.Lock()
	want, begun, last := s.want, s.backlog, s.report
	s.mu.Unlock()
	if want == nil {
		return nil
	}
	if last.of == nil {
		s.readTraffic() // what was counted for an earlier process is not ours
	}
	start := time.Now()
	reached, err := s.o.Engine.Sync(ctx, want.State, start)
	end := time.Now()
	if ctx.Err() != nil {
		return nil // the end; what was reached is no news to anybody
	}
	s.metrics.syncs.Observe(end.Sub(start).Seconds())
	if err != nil {
		s.metrics.syncErrors.Inc()
		s.o.Log.Error("datapath not in sync", "engine", s.o.Engine.Name(), "err", err)
	}
	r := last
	if r.of, r.reached = want, reached; !last.holds(want, reached, err) {
		r = judge(want, reached, err)
	}
	if r.ready {
		s.mu.Lock()
		waited, waiting := s.backlog.reached(begun, start, end)
		s.mu.Unlock()
		if waiting {
			s.metrics.programming.Observe(waited.Seconds())
		}
	}
	if s.accept(r) {
		s.Trigger()
	}
	return err
}

// holds reports whether what r says of the addresses, after a success, is true of this outcome too: most of the time only endpoints have
// changed.
func (r report) holds(want *goal, reached datapath.State, err error) bool {
	return r.of != nil && r.err == nil && err == nil && slices.Equal(r.of.ours, want.ours) && slices.Equal(r.reached.VIPs, reached.VIPs) &&
		slices.Equal(r.reached.Partial, reached.Partial)
}

// judge turns the outcome of a Sync into a report. An engine that reached nothing although it should have is broken; one
// that reached a part works, and the addresses it lacks are for other nodes to serve.
func judge(want *goal, reached datapath.State, err error) report {
	r := report{of: want, worked: true, programmed: make(map[netip.Addr]bool, len(want.ours)), reached: reached, err: err}
	r.ready = err == nil || slices.ContainsFunc(reached.VIPs, reached.Has)
	for _, a := range want.ours {
		if reached.Has(a) {
			r.programmed[a] = true
		} else if _, wanted := slices.BinarySearchFunc(want.VIPs, a, netip.Addr.Compare); wanted && err != nil {
			r.failing = append(r.failing, a)
		}
	}
	return r
}

// accept stores a report and says whether the deciders would see a difference.
func (s *Speaker) accept(r report) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.report
	s.report = r
	return old.ready != r.ready || old.worked != r.worked || !maps.Equal(old.programmed, r.programmed) || !slices.Equal(old.failing, r.failing) ||
		!slices.Equal(old.reached.Refused, r.reached.Refused) || s.awaited && !slices.Equal(old.reached.Servers, r.reached.Servers)
}
