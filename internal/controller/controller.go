package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/ipam"
	"github.com/fairlead-lb/fairlead/lb"
)

// Cluster is the API server; kube.Cluster is the real one.
type Cluster interface {
	Existing(ctx context.Context) ([]kube.Wish, error) // our Services past the cache, the oldest first
	Service(ctx context.Context, key lb.ServiceKey) (kube.Wish, error)
	Pools(ctx context.Context) ([]lb.Pool, error)
	WriteService(ctx context.Context, key lb.ServiceKey, version string, v kube.Verdict) (wrote bool, err error)
	WritePools(ctx context.Context, counts []kube.PoolCounts) error
}

// Queue has work come later; kube.Queue is the real one. It is safe for concurrent use.
type Queue interface {
	Services(keys ...lb.ServiceKey) // for Controller.Service
	Writes(keys ...lb.ServiceKey)   // for Controller.Write
	Counts()
	CountsAfter(d time.Duration)
}

// recount is how soon the pools are counted again while addresses rest: nothing else tells when a rest is over.
const recount = 10 * time.Second

// reforecast is how soon they are counted again at the latest, for the history of their use and the forecast.
const reforecast = time.Hour

// Options configures a Controller.
type Options struct {
	Rest       time.Duration // how long a freed address is not given out again while others are free
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Controller holds the allocator, who waits for it, and what is to be written. Its methods must not be called concurrently,
// but for Write.
type Controller struct {
	cluster Cluster
	queue   Queue
	opts    Options
	metrics *metrics
	writes  *writes

	alloc   *ipam.Allocator // nil until everything in use has been adopted
	pools   []lb.Pool
	ours    map[lb.ServiceKey]time.Time // all our Services, by creation
	waiting map[lb.ServiceKey]bool      // those that want more than they have

	released map[lb.ServiceKey]string // the version at which a Service's release was done, until the annotation is gone
}

// New returns a controller that has seen nothing yet. It fails if the metrics cannot be registered.
func New(cluster Cluster, queue Queue, opts Options) (*Controller, error) {
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, err
	}
	return &Controller{cluster: cluster, queue: queue, opts: opts, metrics: m, writes: newWrites()}, nil
}

// open adopts what is in use, before anything is given out. Services that wait are served in the order of their creation,
// whatever the order of the events.
func (c *Controller) open(ctx context.Context) error {
	if c.alloc != nil {
		return nil
	}
	pools, err := c.cluster.Pools(ctx)
	if err != nil {
		return err
	}
	existing, err := c.cluster.Existing(ctx)
	if err != nil {
		return err
	}
	alloc := ipam.New(c.opts.Rest)
	c.ours, c.waiting = map[lb.ServiceKey]time.Time{}, map[lb.ServiceKey]bool{}
	c.released = map[lb.ServiceKey]string{}
	adopted, now := 0, time.Now()
	alloc.SetPools(pools, now)
	for _, w := range existing {
		c.ours[w.Service.Key] = w.Created
		adopted += len(w.Service.Ingress)
		if refusal := alloc.Adopt(w.Service); !refusal.OK() {
			c.opts.Log.Error("address not adopted", "service", w.Service.Key, "reason", refusal.Reason, "message", refusal.Message)
		}
	}
	for _, w := range existing {
		if len(w.Service.Ingress) == 0 && w.Refusal.OK() {
			alloc.Ensure(w.Service, now) // its own turn will write it
		}
	}
	c.alloc, c.pools = alloc, withoutHistory(pools)
	c.opts.Log.Info("allocation open", "pools", len(pools), "services", len(existing), "adopted", adopted)
	c.queue.Services(c.sorted(c.ours)...)
	return nil
}

// Service decides about one Service and leaves the rest to Write.
func (c *Controller) Service(ctx context.Context, key lb.ServiceKey) error {
	if err := c.open(ctx); err != nil {
		return err
	}
	w, err := c.cluster.Service(ctx, key)
	if err != nil {
		return err
	}
	if w.State != kube.Ours {
		c.release(key, w)
		return nil
	}
	c.ours[key] = w.Created
	start := time.Now()
	v, freed := c.decide(w, start)
	unblocked := c.writes.set(key, &write{verdict: v, version: w.Version, leaves: without(w.Service.Addrs(), v.Addrs), since: start})
	c.queue.Writes(append(unblocked, key)...)
	if freed {
		c.wake()
	}
	return nil
}

// Write writes what was last decided about the Service. It may be called from several goroutines, but not for one Service
// at the same time. A Service that has changed meanwhile is not written: it will be decided about again.
func (c *Controller) Write(ctx context.Context, key lb.ServiceKey) error {
	w := c.writes.next(key)
	if w == nil {
		return nil
	}
	wrote, err := c.cluster.WriteService(ctx, key, w.version, w.verdict)
	if errors.Is(err, kube.ErrOutdated) {
		c.metrics.outdated.Inc()
		return nil
	}
	if err != nil {
		return err
	}
	c.queue.Writes(c.writes.done(key, w)...)
	if !wrote || !w.verdict.Ours {
		return nil
	}
	c.queue.Counts()
	v := w.verdict
	log := c.opts.Log.With("service", key, "addresses", v.Addrs, "pool", v.Pool)
	if v.Refusal.OK() {
		c.metrics.duration.Observe(time.Since(w.since).Seconds())
		log.Info("addresses assigned")
	} else {
		c.metrics.refusals.WithLabelValues(string(v.Refusal.Reason)).Inc()
		log.Info("wish refused", "reason", v.Refusal.Reason, "message", v.Refusal.Message)
	}
	return nil
}

// decide asks the allocator. Where the wish cannot be read, the Service keeps what its status says.
func (c *Controller) decide(w kube.Wish, now time.Time) (v kube.Verdict, freed bool) {
	s := w.Service
	if !w.Refusal.OK() {
		c.waiting[s.Key] = true
		return kube.Verdict{Ours: true, Pool: s.Pool, Addrs: s.Addrs(), Refusal: w.Refusal}, false
	}
	already := c.released[s.Key] == w.Version
	s.Release = s.Release && !already && len(s.Ingress) > 0 // it gives up what it is known to have
	got, refusal := c.alloc.Ensure(s, now)
	c.metrics.decision.Observe(time.Since(now).Seconds())
	done := w.Service.Release && (already || refusal.OK())
	c.remember(w, done)
	c.waiting[s.Key] = wantsMore(s, got, refusal)
	if !c.waiting[s.Key] {
		delete(c.waiting, s.Key)
	}
	return kube.Verdict{Ours: true, Released: done, Pool: got.Pool, Addrs: got.Addrs, Refusal: refusal}, got.Freed
}

// remember keeps the version of the Service at which a release was done. The annotation goes in the same write as the new
// address comes; until that has succeeded, and the cache has seen it, it must not act again.
func (c *Controller) remember(w kube.Wish, released bool) {
	if released {
		c.released[w.Service.Key] = w.Version
	} else {
		delete(c.released, w.Service.Key)
	}
}

// wantsMore reports whether a free address could make a difference to s.
func wantsMore(s lb.Service, got ipam.Assignment, refusal lb.Refusal) bool {
	if !refusal.OK() && refusal.Reason != lb.AddressOutsidePools {
		return true
	}
	return s.FamilyPolicy == lb.PreferDualStack && !got.EachOf(s.Families)
}

// release frees what a Service had that is gone or is not ours any more, and clears our traces from the latter.
func (c *Controller) release(key lb.ServiceKey, w kube.Wish) {
	delete(c.ours, key)
	delete(c.waiting, key)
	delete(c.released, key)
	if c.alloc.Release(key, time.Now()) {
		c.opts.Log.Info("addresses released", "service", key)
		c.wake()
		c.queue.Counts()
	}
	var clear *write
	if w.State == kube.Foreign && w.Marked {
		clear = &write{version: w.Version}
	}
	c.queue.Writes(append(c.writes.set(key, clear), key)...)
}

// wake has all who wait asked again, the oldest first.
func (c *Controller) wake() {
	keys := map[lb.ServiceKey]time.Time{}
	for key := range c.waiting {
		keys[key] = c.ours[key]
	}
	c.queue.Services(c.sorted(keys)...)
}

// sorted returns the keys by time, then name.
func (c *Controller) sorted(created map[lb.ServiceKey]time.Time) []lb.ServiceKey {
	keys := make([]lb.ServiceKey, 0, len(created))
	for key := range created {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b lb.ServiceKey) int {
		if d := created[a].Compare(created[b]); d != 0 {
			return d
		}
		return a.Compare(b)
	})
	return keys
}

// Pools takes over changed pools. Every Service is asked again then: some may be served now, some may be outside. If only
// a namespace's labels or quota or an advertisement changed, those who wait are enough.
func (c *Controller) Pools(ctx context.Context) error {
	if err := c.open(ctx); err != nil {
		return err
	}
	pools, err := c.cluster.Pools(ctx)
	if err != nil {
		return err
	}
	c.queue.Counts()
	pools = withoutHistory(pools)
	if reflect.DeepEqual(pools, c.pools) {
		c.wake()
		return nil
	}
	c.alloc.SetPools(pools, time.Now())
	c.pools = pools
	c.opts.Log.Info("pools changed", "pools", len(pools))
	c.queue.Services(c.sorted(c.ours)...)
	return nil
}

// Counts writes the status of the pools and sets the gauges.
func (c *Controller) Counts(ctx context.Context) error {
	if err := c.open(ctx); err != nil {
		return err
	}
	pools, err := c.cluster.Pools(ctx)
	if err != nil {
		return err
	}
	quotas, err := c.quotaUse(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	counts := counted(c.alloc.Usage(now), pools, now)
	c.metrics.set(counts, quotas)
	again := reforecast
	for _, n := range counts {
		if n.IPv4.Resting+n.IPv6.Resting > 0 {
			again = recount
		}
	}
	c.queue.CountsAfter(again)
	if err := c.cluster.WritePools(ctx, counts); err != nil {
		return fmt.Errorf("writing the status of the pools: %w", err)
	}
	return nil
}
