package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
)

// handler serves our metrics together with those of the client library and the process, and what the speaker has to say.
func (p *process) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(prometheus.Gatherers{p.registry, ctrlmetrics.Registry}, promhttp.HandlerOpts{}))
	mux.Handle("/", p.speaker.Handler())
	return mux
}

// serveHealth answers at kube-proxy's health port until ctx is done. While somebody else holds the port it tries again: the node serves
// all the same.
func serveHealth(ctx context.Context, addr string, h http.Handler, log *slog.Logger) error {
	for {
		err := serve(ctx, addr, h)
		if ctx.Err() != nil {
			return nil
		}
		log.Error("health port not served, trying again; does kube-proxy run on this node?", "addr", addr, "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(5 * time.Second):
		}
	}
}

// serve answers HTTP until ctx is done.
func serve(ctx context.Context, addr string, h http.Handler) error {
	srv := &http.Server{Addr: addr, Handler: h, ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving HTTP on %s: %w", addr, err)
	}
	return nil
}
