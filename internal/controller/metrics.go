package controller

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/ipam"
	"github.com/fairlead-lb/fairlead/lb"
)

// metrics are what lbcontroller counts. The gauges are those of the leader; another replica has none.
type metrics struct {
	addresses *prometheus.GaugeVec
	refusals  *prometheus.CounterVec
	duration  prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		addresses: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_pool_addresses", Help: "Addresses of a pool by state: total, assigned, available (resting ones included), resting."},
			[]string{"pool", "family", "state"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_allocation_refusals_total", Help: "Changes of a Service's condition to a refusal, by its reason."}, []string{"reason"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairlead_allocation_duration_seconds", Help: "From taking up a Service to its address being in the API server.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}),
	}
	for _, c := range []prometheus.Collector{m.addresses, m.refusals, m.duration} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) set(usage []ipam.Usage) {
	m.addresses.Reset()
	for _, u := range usage {
		for family, count := range map[lb.Family]ipam.Count{lb.IPv4: u.IPv4, lb.IPv6: u.IPv6} {
			for state, n := range map[string]int64{"total": count.Total, "assigned": count.Assigned, "available": count.Available, "resting": count.Resting} {
				m.addresses.WithLabelValues(u.Pool, family.String(), state).Set(float64(n))
			}
		}
	}
}
