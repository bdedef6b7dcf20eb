package controller

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

// count writes the status of the pools and returns the metrics whose names begin with prefix.
func (e *env) count(prefix string) map[string]float64 {
	e.t.Helper()
	if err := e.ctl.Counts(e.t.Context()); err != nil {
		e.t.Fatal(err)
	}
	out := map[string]float64{}
	for name, value := range gathered(e.t, e.registry) {
		if strings.HasPrefix(name, prefix) {
			out[name] = value
		}
	}
	return out
}

// TestForecastOutlivesTheProcess takes a pool of twenty through a week in which two Services come every day, with a restart
// in the middle.
func TestForecastOutlivesTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(pool("p", "192.0.2.1", "192.0.2.20"))
		e := newEnv(t, c)
		for day := range 7 {
			for hour := range 24 {
				if hour%12 == 0 {
					name := fmt.Sprint("s", day, "-", hour)
					c.apply(name)
					e.events(name)
				}
				days := e.count("fairlead_pool_days_left")
				if want := 1; day > 0 && len(days) != want {
					t.Fatalf("day %d: %v", day, days)
				}
				time.Sleep(time.Hour)
			}
			if day == 3 {
				e.restart()
				e.events("s0-0")
			}
		}
		history := c.counts[0].History
		if len(history) != 7 || history[0].IPv4 != 1 || history[6].IPv4 != 13 {
			t.Errorf("history %+v", history)
		}
		// Fourteen are in use, two more come each day, six are left. The line through the first look of each day is steeper by
		// the half day that the last point is ahead of it.
		if diff := cmp.Diff(map[string]float64{"fairlead_pool_days_left IPv4 p": 3}, e.count("fairlead_pool_days_left")); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		writes := e.cluster.writes
		e.poolsChange(c.pools...)
		if e.cluster.writes != writes || len(e.queue.keys) > 0 {
			t.Error("a new history is taken for new pools")
		}
	})
}

func TestQuotaIsCountedOnlyWhereThereIsOne(t *testing.T) {
	limited := pool("limited", "192.0.2.1", "192.0.2.9")
	limited.MaxPerNamespace, limited.Priority = 3, 1
	c := newCluster(limited)
	e := newEnv(t, c)
	in := func(namespace string, quota int) func(*kube.Wish) {
		return func(w *kube.Wish) { w.Service.Key.Namespace, w.Service.Quota = namespace, lb.Quota{Max: quota} }
	}
	for _, s := range []struct {
		namespace, name string
		quota           int
	}{{"free", "a", 0}, {"free", "b", 0}, {"tied", "c", 5}} {
		c.apply(s.name, in(s.namespace, s.quota))
		k := lb.ServiceKey{Namespace: s.namespace, Name: s.name}
		c.services[k] = c.services[key(s.name)]
		delete(c.services, key(s.name))
		e.queue.Services(k)
	}
	e.events()
	want := map[string]float64{
		"fairlead_quota_addresses free limited limit": 3, "fairlead_quota_addresses free limited used": 2,
		"fairlead_quota_addresses tied limited limit": 3, "fairlead_quota_addresses tied limited used": 1,
		"fairlead_quota_addresses tied  limit": 5, "fairlead_quota_addresses tied  used": 1,
	}
	if diff := cmp.Diff(want, e.count("fairlead_quota_addresses")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
