package speaker

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/datapath"
)

// handOver gives the engine's loop its next goal.
func (s *Speaker) handOver(want datapath.State) {
	s.mu.Lock()
	news := s.want == nil || !s.want.Equal(want)
	s.want = &want
	if news {
		s.backlog.add(time.Now())
	}
	s.mu.Unlock()
	if news {
		s.syncs.Trigger()
	}
}

// sync leads the engine to the latest goal and reports what it reached. Before there is a goal it does nothing: what an
// earlier process has programmed stays until the facts are known.
func (s *Speaker) sync(ctx context.Context) error {
	s.mu.Lock()
	want, changes := s.want, s.backlog.changes
	s.mu.Unlock()
	if want == nil {
		return nil
	}
	start := time.Now()
	reached, err := s.o.Engine.Sync(ctx, *want, start)
	if ctx.Err() != nil {
		return nil // the end; what was reached is no news to anybody
	}
	s.metrics.syncs.Observe(time.Since(start).Seconds())
	if err != nil {
		s.metrics.syncErrors.Inc()
		s.o.Log.Error("datapath not in sync", "engine", s.o.Engine.Name(), "err", err)
	}
	r := judge(*want, reached, err)
	if r.ready {
		s.mu.Lock()
		s.backlog.reached(changes, start, time.Now())
		s.mu.Unlock()
	}
	if s.accept(r) {
		s.steps.Trigger()
	}
	return err
}

// judge turns the outcome of a Sync into a report. An engine that reached nothing although it should have is broken; one
// that reached a part works, and the addresses it lacks are for other nodes to serve.
func judge(want, reached datapath.State, err error) report {
	r := report{worked: true, programmed: reached.Programmed(), reached: reached, err: err}
	r.ready = err == nil || len(r.programmed) > 0
	if err != nil {
		r.failing = slices.DeleteFunc(slices.Clone(want.VIPs), func(a netip.Addr) bool { return r.programmed[a] })
	}
	return r
}

// accept stores a report and says whether the deciders would see a difference.
func (s *Speaker) accept(r report) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.report
	s.report = r
	return old.ready != r.ready || old.worked != r.worked || !maps.Equal(old.programmed, r.programmed) || !slices.Equal(old.failing, r.failing)
}
