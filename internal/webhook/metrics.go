package webhook

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	expiry   prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_webhook_requests_total", Help: "Changes judged by this replica; decision is allowed, warned, refused, or error if it could not be judged and passed."},
			[]string{"kind", "operation", "decision"}),
		expiry: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairlead_webhook_certificate_expiry_seconds", Help: "Unix time at which the certificate that this replica serves ends; 0 while it has none."}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.expiry} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}
