package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/webhook"
)

// certificateInterval is the time between two looks at the webhook's certificates: two reads of one object each.
const certificateInterval = 10 * time.Second

// addWebhook has mgr serve the admission webhook, if one is wanted.
func addWebhook(mgr manager.Manager, cluster *kube.Cluster, c config, log *slog.Logger, registerer prometheus.Registerer) error {
	if c.webhookName == "" {
		return nil
	}
	reader, err := kube.NewAdmissionReader(mgr, cluster)
	if err != nil {
		return err
	}
	w, err := webhook.New(reader, kube.NewWebhookStore(mgr, c.kube, c.webhookName), webhook.Options{
		DNSName:    fmt.Sprintf("%s.%s.svc", c.webhookName, c.kube.Namespace),
		Interval:   certificateInterval,
		Log:        log,
		Registerer: registerer,
	})
	if err != nil {
		return err
	}
	if err := mgr.Add(w); err != nil {
		return fmt.Errorf("adding the keeper of the webhook's certificates: %w", err)
	}
	return kube.ServeWebhook(mgr, c.webhookPort, w.Certificate, w)
}
