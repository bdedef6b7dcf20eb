package controller

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/ipam"
	"github.com/fairlead-lb/fairlead/lb"
)

// metrics are what lbcontroller counts. The gauges are those of the leader; another replica has none.
type metrics struct {
	addresses *prometheus.GaugeVec
	daysLeft  *prometheus.GaugeVec
	quotas    *prometheus.GaugeVec
	refusals  *prometheus.CounterVec
	decision  prometheus.Histogram
	duration  prometheus.Histogram
	outdated  prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		addresses: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_pool_addresses", Help: "Addresses of a pool by state: total, assigned, available (resting ones included), resting."},
			[]string{"pool", "family", "state"}),
		daysLeft: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_pool_days_left", Help: "Days until no address of a pool is left, at the rate of the last days; absent where use does not grow."},
			[]string{"pool", "family"}),
		quotas: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_quota_addresses", Help: "Addresses of a namespace by state: used, limit. Only where there is a quota; pool is empty for that over all pools."},
			[]string{"pool", "namespace", "state"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_allocation_refusals_total", Help: "Changes of a Service's condition to a refusal, by its reason."}, []string{"reason"}),
		decision: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairlead_allocation_decision_seconds", Help: "The allocator's own part of looking at a Service.",
			Buckets: prometheus.ExponentialBuckets(1e-6, 4, 10)}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairlead_allocation_duration_seconds", Help: "From taking up a Service to its address being in the API server.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}),
		outdated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_allocation_outdated_total", Help: "Decisions that were not written because the Service had changed meanwhile; it is decided about again."}),
	}
	for _, c := range []prometheus.Collector{m.addresses, m.daysLeft, m.quotas, m.refusals, m.decision, m.duration, m.outdated} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) set(counts []kube.PoolCounts, quotas []ipam.QuotaUse) {
	m.addresses.Reset()
	m.daysLeft.Reset()
	for _, c := range counts {
		for family, n := range map[lb.Family]kube.AddressCounts{lb.IPv4: c.IPv4, lb.IPv6: c.IPv6} {
			for state, n := range map[string]int64{"total": n.Total, "assigned": n.Assigned, "available": n.Available, "resting": n.Resting} {
				m.addresses.WithLabelValues(c.Pool, family.String(), state).Set(float64(n))
			}
		}
		for family, days := range c.DaysLeft {
			m.daysLeft.WithLabelValues(c.Pool, family.String()).Set(float64(days))
		}
	}
	m.quotas.Reset()
	for _, q := range quotas {
		m.quotas.WithLabelValues(q.Pool, q.Namespace, "used").Set(float64(q.Used))
		m.quotas.WithLabelValues(q.Pool, q.Namespace, "limit").Set(float64(q.Limit))
	}
}
