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
)

// syncPatience is how long a readiness probe waits for the caches; they are asked anew each time.
const syncPatience = 100 * time.Millisecond

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
