package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/fairlead-lb/fairlead/internal/kube"
)

// syncPatience is how long a readiness probe waits for the caches; they are asked anew each time.
const syncPatience = 100 * time.Millisecond

// droppedEvents counts what events could not send.
func droppedEvents(events *kube.Events) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "fairlead_events_dropped_total", Help: "Events that were not sent because too many waited or the API server refused them.",
	}, func() float64 { return float64(events.Dropped()) })
}

// handler serves our metrics together with those of the client library and the process, and the two probes.
func handler(ctx context.Context, own prometheus.Gatherer, caches cache.Cache) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(prometheus.Gatherers{own, ctrlmetrics.Registry}, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		wait, cancel := context.WithTimeout(ctx, syncPatience)
		defer cancel()
		if !caches.WaitForCacheSync(wait) {
			http.Error(w, "the caches have not synced yet", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}
