package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

// cluster is an API server in memory: what users wish, and the status that the controller has written.
type cluster struct {
	services map[lb.ServiceKey]kube.Wish
	verdicts map[lb.ServiceKey]kube.Verdict
	pools    []lb.Pool
	counts   []kube.PoolCounts
	writes   int
	releases int
	fail     error // answer of every write, if set
	created  int
	changes  int
}

func newCluster(pools ...lb.Pool) *cluster {
	return &cluster{services: map[lb.ServiceKey]kube.Wish{}, verdicts: map[lb.ServiceKey]kube.Verdict{}, pools: pools}
}

func key(name string) lb.ServiceKey { return lb.ServiceKey{Namespace: "default", Name: name} }

func (c *cluster) Existing(context.Context) ([]kube.Wish, error) {
	var out []kube.Wish
	for k := range c.services {
		if w := c.wish(k); w.State == kube.Ours {
			out = append(out, w)
		}
	}
	slices.SortFunc(out, func(a, b kube.Wish) int { return a.Created.Compare(b.Created) })
	return out, nil
}

// wish is the Service with what was written to its status.
func (c *cluster) wish(k lb.ServiceKey) kube.Wish {
	w := c.services[k]
	v := c.verdicts[k]
	w.Marked = v.Ours
	w.Service.Pool = v.Pool
	for _, a := range v.Addrs {
		w.Service.Ingress = append(w.Service.Ingress, lb.Ingress{Addr: a, Mode: lb.ModeProxy})
	}
	return w
}

func (c *cluster) Service(_ context.Context, k lb.ServiceKey) (kube.Wish, error) {
	return c.wish(k), nil
}
func (c *cluster) Pools(context.Context) ([]lb.Pool, error) { return c.pools, nil }

func (c *cluster) WriteService(_ context.Context, k lb.ServiceKey, version string, v kube.Verdict) (bool, error) {
	if c.fail != nil {
		return false, c.fail
	}
	if c.services[k].Version != version {
		return false, kube.ErrOutdated
	}
	if cmp.Equal(v, c.verdicts[k], cmp.Comparer(func(a, b netip.Addr) bool { return a == b })) {
		return false, nil
	}
	c.writes++
	if w := c.services[k]; v.Released {
		w.Service.Release = false
		c.services[k] = w
		c.releases++
		v.Released = false
	}
	c.verdicts[k] = v
	return true, nil
}

func (c *cluster) WritePools(_ context.Context, counts []kube.PoolCounts) error {
	c.counts = counts
	for i := range c.pools { // what is in the status is read again
		for _, n := range counts {
			if n.Pool == c.pools[i].Name {
				c.pools[i].History = n.History
			}
		}
	}
	return c.fail
}

// apply creates or changes a Service.
func (c *cluster) apply(name string, edits ...func(*kube.Wish)) {
	w, ok := c.services[key(name)]
	if !ok {
		c.created++
		w = kube.Wish{State: kube.Ours, Created: time.Unix(int64(c.created), 0), Service: lb.Service{
			Key: key(name), UID: fmt.Sprint(c.created), Families: []lb.Family{lb.IPv4}, FamilyPolicy: lb.SingleStack,
			Ports: []lb.Port{{Protocol: lb.TCP, Port: 80}},
		}}
	}
	for _, edit := range edits {
		edit(&w)
	}
	c.changes++
	w.Version = fmt.Sprint(c.changes)
	c.services[key(name)] = w
}

func (c *cluster) remove(name string) {
	delete(c.services, key(name))
	delete(c.verdicts, key(name))
}

// String prints every Service as "name addresses reason".
func (c *cluster) String() string {
	var lines []string
	for _, k := range slices.SortedFunc(maps.Keys(c.verdicts), lb.ServiceKey.Compare) {
		v := c.verdicts[k]
		line := k.Name
		for _, a := range v.Addrs {
			line += " " + a.String()
		}
		if !v.Refusal.OK() {
			line += " " + string(v.Refusal.Reason)
		}
		if !v.Ours {
			line += " cleared"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}

// queue keeps what is to be done; work does it.
type queue struct {
	keys   []lb.ServiceKey
	writes []lb.ServiceKey
	counts bool
	later  time.Duration
}

func (q *queue) Services(keys ...lb.ServiceKey) { q.keys = addNew(q.keys, keys) }
func (q *queue) Writes(keys ...lb.ServiceKey)   { q.writes = addNew(q.writes, keys) }

func addNew(have, more []lb.ServiceKey) []lb.ServiceKey {
	for _, k := range more {
		if !slices.Contains(have, k) {
			have = append(have, k)
		}
	}
	return have
}
func (q *queue) Counts()                     { q.counts = true }
func (q *queue) CountsAfter(d time.Duration) { q.later = d }

// env is a controller with its surroundings.
type env struct {
	t        *testing.T
	cluster  *cluster
	queue    *queue
	ctl      *Controller
	registry *prometheus.Registry
}

func newEnv(t *testing.T, c *cluster) *env {
	e := &env{t: t, cluster: c}
	e.restart()
	return e
}

// restart replaces the process.
func (e *env) restart() {
	e.queue, e.registry = &queue{}, prometheus.NewRegistry()
	var err error
	e.ctl, err = New(e.cluster, e.queue, Options{Rest: time.Minute, Log: slog.New(slog.DiscardHandler), Registerer: e.registry})
	if err != nil {
		e.t.Fatal(err)
	}
}

// events delivers one event for each Service named, then decides until the queue is empty and writes what was decided, until
// a write fails.
func (e *env) events(names ...string) {
	e.t.Helper()
	for _, name := range names {
		e.queue.Services(key(name))
	}
	for turns := 0; len(e.queue.keys)+len(e.queue.writes) > 0; turns++ {
		if turns > 1000 {
			e.t.Fatalf("hot loop, queue %v, writes %v", e.queue.keys, e.queue.writes)
		}
		queue, work := &e.queue.keys, e.ctl.Service
		if len(*queue) == 0 {
			queue, work = &e.queue.writes, e.ctl.Write
		}
		k := (*queue)[0]
		*queue = (*queue)[1:]
		if err := work(e.t.Context(), k); err != nil {
			if e.cluster.fail == nil {
				e.t.Fatal(err)
			}
			e.queue.Writes(k)
			return
		}
	}
}

func (e *env) poolsChange(pools ...lb.Pool) {
	e.t.Helper()
	e.cluster.pools = pools
	if err := e.ctl.Pools(e.t.Context()); err != nil {
		e.t.Fatal(err)
	}
	e.events()
}

func (e *env) want(state string) {
	e.t.Helper()
	if got := e.cluster.String(); got != state {
		e.t.Errorf("state:\n got %s\nwant %s", got, state)
	}
}

func pool(name, from, to string) lb.Pool {
	return lb.Pool{Name: name, AutoAssign: true, Ranges: []lb.Range{{From: netip.MustParseAddr(from), To: netip.MustParseAddr(to)}}}
}

func asks(name string) func(*kube.Wish) {
	return func(w *kube.Wish) { w.Service.RequestedPool = name }
}

func unreadable(w *kube.Wish) { w.Refusal = lb.Refusal{Reason: lb.BadRequest, Message: "m"} }
func readable(w *kube.Wish)   { w.Refusal = lb.Refusal{} }
func release(w *kube.Wish)    { w.Service.Release = true }
func foreign(w *kube.Wish)    { w.State = kube.Foreign }

func TestLoop(t *testing.T) {
	one := pool("one", "192.0.2.1", "192.0.2.1")
	three := pool("three", "192.0.2.1", "192.0.2.3")
	for name, story := range map[string]func(*env){
		"an address, once": func(e *env) {
			e.cluster.pools = []lb.Pool{three}
			e.cluster.apply("a")
			e.events("a")
			e.want("a 192.0.2.1")
			e.events("a", "a")
			if e.cluster.writes != 1 {
				e.t.Errorf("%d writes", e.cluster.writes)
			}
		},
		"who waits is served when an address is free, the oldest first": func(e *env) {
			e.cluster.pools = []lb.Pool{one}
			e.cluster.apply("a")
			e.events("a")
			e.cluster.apply("z")
			e.events("z")
			e.cluster.apply("b")
			e.events("b")
			e.want("a 192.0.2.1; b PoolExhausted; z PoolExhausted")
			writes := e.cluster.writes
			e.events("b", "z", "b")
			if e.cluster.writes != writes {
				e.t.Error("a refusal was written again")
			}
			e.cluster.remove("a")
			e.events("a")
			e.want("b PoolExhausted; z 192.0.2.1")
		},
		"pools come": func(e *env) {
			e.cluster.apply("a")
			e.events("a")
			e.want("a NoPools")
			e.poolsChange(one)
			e.want("a 192.0.2.1")
		},
		"pools go and take nothing away": func(e *env) {
			e.cluster.apply("a")
			e.poolsChange(one)
			e.poolsChange()
			e.want("a 192.0.2.1 AddressOutsidePools")
			e.poolsChange(three)
			e.want("a 192.0.2.1")
		},
		"a label of a namespace lets it in": func(e *env) {
			e.cluster.pools = []lb.Pool{one}
			e.cluster.pools[0].NamespaceSelector = []lb.Selector{{{Key: "team", Op: lb.Exists}}}
			e.cluster.apply("a")
			e.events("a")
			e.want("a NoPoolAdmits")
			e.cluster.apply("a", func(w *kube.Wish) { w.Service.NamespaceLabels = map[string]string{"team": "x"} })
			e.poolsChange(e.cluster.pools...)
			e.want("a 192.0.2.1")
		},
		"not ours any more": func(e *env) {
			e.cluster.pools = []lb.Pool{one}
			e.cluster.apply("a")
			e.cluster.apply("b")
			e.events("a", "b")
			e.cluster.apply("a", foreign)
			e.events("a")
			e.want("a cleared; b 192.0.2.1")
		},
		"a wish that cannot be read": func(e *env) {
			e.cluster.pools = []lb.Pool{three}
			e.cluster.apply("a", unreadable)
			e.cluster.apply("b")
			e.events("a", "b")
			e.want("a BadRequest; b 192.0.2.1")
			e.cluster.apply("a", readable)
			e.cluster.apply("b", unreadable)
			e.events("a", "b")
			e.want("a 192.0.2.2; b 192.0.2.1 BadRequest")
		},
		"a wish that frees an address wakes who waits": func(e *env) {
			other := pool("other", "198.51.100.1", "198.51.100.1")
			other.AutoAssign = false
			e.cluster.pools = []lb.Pool{one, other}
			e.cluster.apply("a")
			e.cluster.apply("b")
			e.events("a", "b")
			e.cluster.apply("a", asks("other"))
			e.events("a")
			e.want("a 198.51.100.1; b 192.0.2.1")
		},
		"a release, once per setting": func(e *env) {
			e.cluster.pools = []lb.Pool{three}
			e.cluster.apply("a")
			e.events("a")
			e.cluster.apply("a", release)
			e.cluster.fail = errors.New("API server away")
			e.events("a")
			e.events("a") // the retry finds the annotation again
			e.want("a 192.0.2.1")
			e.cluster.fail = nil
			e.events("a", "a")
			e.want("a 192.0.2.2")
			e.cluster.apply("a", release)
			e.events("a", "a")
			e.want("a 192.0.2.3")
			if e.cluster.releases != 2 || e.cluster.writes != 3 {
				e.t.Errorf("%d releases in %d writes", e.cluster.releases, e.cluster.writes)
			}
		},
		"a release whose write the cache has not seen yet": func(e *env) {
			e.cluster.pools = []lb.Pool{three}
			e.cluster.apply("a")
			e.events("a")
			e.cluster.apply("a", release)
			stale, verdict := e.cluster.services[key("a")], e.cluster.verdicts[key("a")]
			e.events("a")
			fresh, written := e.cluster.services[key("a")], e.cluster.verdicts[key("a")]
			e.cluster.services[key("a")], e.cluster.verdicts[key("a")] = stale, verdict
			e.cluster.fail = errors.New("conflict")
			e.events("a")
			e.cluster.services[key("a")], e.cluster.verdicts[key("a")] = fresh, written
			e.cluster.fail = nil
			e.events("a")
			e.want("a 192.0.2.2")
		},
		"a release waits until another address is free": func(e *env) {
			e.cluster.pools = []lb.Pool{pool("two", "192.0.2.1", "192.0.2.2")}
			e.cluster.apply("a")
			e.cluster.apply("b")
			e.events("a", "b")
			e.cluster.apply("a", release)
			e.events("a")
			e.want("a 192.0.2.1 PoolExhausted; b 192.0.2.2")
			e.cluster.remove("b")
			e.events("b")
			e.want("a 192.0.2.2")
		},
		"who waits for its namespace's quota": func(e *env) {
			limited := three
			limited.MaxPerNamespace = 1
			e.cluster.pools = []lb.Pool{limited}
			for _, name := range []string{"a", "b", "c"} {
				e.cluster.apply(name)
			}
			e.events("a", "b", "c")
			e.want("a 192.0.2.1; b QuotaExceeded; c QuotaExceeded")
			e.cluster.remove("a")
			e.events("a")
			e.want("b 192.0.2.2; c QuotaExceeded")
			e.poolsChange(three)
			e.want("b 192.0.2.2; c 192.0.2.3")
		},
		"a Service made with a release": func(e *env) {
			e.cluster.pools = []lb.Pool{three}
			e.cluster.apply("a", release)
			e.events("a")
			e.want("a 192.0.2.1")
		},
		"a second family, later": func(e *env) {
			e.cluster.apply("a", func(w *kube.Wish) {
				w.Service.Families, w.Service.FamilyPolicy = []lb.Family{lb.IPv4, lb.IPv6}, lb.PreferDualStack
			})
			e.poolsChange(one)
			e.want("a 192.0.2.1")
			both := one
			both.Ranges = append(slices.Clone(one.Ranges), lb.Range{From: netip.MustParseAddr("2001:db8::1"), To: netip.MustParseAddr("2001:db8::1")})
			e.poolsChange(both)
			e.want("a 192.0.2.1 2001:db8::1")
		},
		"restart": func(e *env) {
			e.cluster.pools = []lb.Pool{three}
			for _, name := range []string{"c", "b", "a"} {
				e.cluster.apply(name)
			}
			e.events("c", "b", "a")
			e.want("a 192.0.2.3; b 192.0.2.2; c 192.0.2.1")
			writes := e.cluster.writes
			e.restart()
			e.events("a") // the first event opens, adopts all and has all looked at
			if e.cluster.writes != writes {
				e.t.Error("a restart wrote")
			}
			e.cluster.apply("d")
			e.events("d")
			e.want("a 192.0.2.3; b 192.0.2.2; c 192.0.2.1; d PoolExhausted")
		},
		"created while away: served in the order of creation": func(e *env) {
			e.cluster.pools = []lb.Pool{three}
			for _, name := range []string{"c", "b", "a"} {
				e.cluster.apply(name)
			}
			e.events("a", "b", "c")
			e.want("a 192.0.2.3; b 192.0.2.2; c 192.0.2.1")
		},
		"a failed write is repeated and nothing given twice": func(e *env) {
			e.cluster.pools = []lb.Pool{three}
			e.cluster.apply("a")
			e.cluster.fail = errors.New("API server away")
			e.events("a")
			e.want("")
			e.cluster.fail = nil
			e.cluster.apply("b")
			e.events("b", "a")
			e.want("a 192.0.2.1; b 192.0.2.2")
		},
		"rest ends by the clock": func(e *env) {
			e.cluster.pools = []lb.Pool{three}
			e.cluster.apply("a")
			e.events("a")
			e.cluster.remove("a")
			e.events("a")
			e.cluster.apply("b")
			e.events("b")
			time.Sleep(time.Minute)
			e.cluster.apply("c")
			e.events("c")
			e.want("b 192.0.2.2; c 192.0.2.1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { story(newEnv(t, newCluster())) })
		})
	}
}

func TestCountsAndMetrics(t *testing.T) {
	c := newCluster(pool("p", "192.0.2.1", "192.0.2.2"))
	e := newEnv(t, c)
	for _, name := range []string{"a", "b", "c"} {
		c.apply(name)
	}
	e.events("a", "b", "c")
	if !e.queue.counts {
		t.Error("nobody asked for the counts to be written")
	}
	if err := e.ctl.Counts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.counts; len(got) != 1 || got[0].Pool != "p" || got[0].IPv4 != (kube.AddressCounts{Total: 2, Assigned: 2}) || got[0].IPv6 != (kube.AddressCounts{}) {
		t.Errorf("counts: %+v", got)
	}
	want := map[string]float64{
		"fairlead_allocation_decision_seconds":             4, // the first Service twice: opening has all looked at
		"fairlead_allocation_duration_seconds":             2,
		"fairlead_allocation_outdated_total":               0,
		"fairlead_allocation_refusals_total PoolExhausted": 1,
		"fairlead_pool_addresses IPv4 p assigned":          2,
		"fairlead_pool_addresses IPv4 p available":         0,
		"fairlead_pool_addresses IPv4 p resting":           0,
		"fairlead_pool_addresses IPv4 p total":             2,
		"fairlead_pool_addresses IPv6 p assigned":          0,
		"fairlead_pool_addresses IPv6 p available":         0,
		"fairlead_pool_addresses IPv6 p resting":           0,
		"fairlead_pool_addresses IPv6 p total":             0,
	}
	if diff := cmp.Diff(want, gathered(t, e.registry)); diff != "" {
		t.Errorf("metrics: -want +got:\n%s", diff)
	}
	if e.queue.later != reforecast {
		t.Errorf("nothing rests, but the pools are to be counted again in %s", e.queue.later)
	}
	c.remove("c")
	c.remove("a")
	e.events("c", "a")
	if err := e.ctl.Counts(t.Context()); err != nil || c.counts[0].IPv4.Resting != 1 || e.queue.later != recount {
		t.Errorf("%v, counts %+v, again in %s", err, c.counts, e.queue.later)
	}
	c.fail = errors.New("API server away")
	if err := e.ctl.Counts(t.Context()); !errors.Is(err, c.fail) {
		t.Errorf("a failed write of the counts: %v", err)
	}
}

// gathered returns every metric by its name and the values of its labels; of a histogram the number of observations.
func gathered(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			out[name] = m.Gauge.GetValue() + m.Counter.GetValue() + float64(m.Histogram.GetSampleCount())
		}
	}
	return out
}
