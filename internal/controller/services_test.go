package controller

import (
	"testing"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

func TestQuotaOfANamespaceWakesWhoWaits(t *testing.T) {
	c := newCluster(pool("p", "192.0.2.1", "192.0.2.9"))
	e := newEnv(t, c)
	mayOwn := func(n int) func(*kube.Wish) {
		return func(w *kube.Wish) { w.Service.Quota = lb.Quota{Max: n, Source: "it"} }
	}
	for _, name := range []string{"c", "b", "a"} {
		c.apply(name, mayOwn(1))
	}
	e.events("a", "b", "c")
	e.want("a QuotaExceeded; b QuotaExceeded; c 192.0.2.1")
	for _, name := range []string{"a", "b", "c"} { // the Namespace's annotation, as the cache has it
		c.apply(name, mayOwn(2))
	}
	e.poolsChange(c.pools...)
	e.want("a QuotaExceeded; b 192.0.2.2; c 192.0.2.1")
}

func TestSeveralPerFamilyWaitForTheRest(t *testing.T) {
	c := newCluster(pool("p", "192.0.2.1", "192.0.2.3"))
	e := newEnv(t, c)
	c.apply("a")
	c.apply("b", func(w *kube.Wish) { w.Service.PerFamily = 3 })
	e.events("a", "b")
	e.want("a 192.0.2.1; b 192.0.2.2 192.0.2.3 PoolExhausted")
	e.restart()
	writes := c.writes
	e.events("a")
	if c.writes != writes {
		t.Error("a restart wrote")
	}
	c.remove("a")
	e.events("a")
	e.want("b 192.0.2.2 192.0.2.3 192.0.2.1")
}

// TestTypeAwayAndBack stands for every way in which a Service stops being ours and becomes ours again: type and class.
func TestTypeAwayAndBack(t *testing.T) {
	c := newCluster(pool("p", "192.0.2.1", "192.0.2.2"))
	e := newEnv(t, c)
	c.apply("a")
	c.apply("b")
	e.events("a", "b")
	c.apply("a", foreign)
	c.apply("c")
	e.events("a", "c") // its address rests, but is the last one
	e.want("a cleared; b 192.0.2.2; c 192.0.2.1")
	c.apply("a", func(w *kube.Wish) { w.State = kube.Ours })
	e.events("a")
	e.want("a PoolExhausted; b 192.0.2.2; c 192.0.2.1")
	c.apply("b", foreign)
	e.events("b")
	e.want("a 192.0.2.2; b cleared; c 192.0.2.1")
}
