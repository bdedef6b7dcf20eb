package webhook

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/internal/admission"
)

// patience bounds the reading of the facts, below the three seconds that the API server waits.
const patience = 2 * time.Second

// Reader reads what a change is judged by; kube.AdmissionReader is the real one.
type Reader interface {
	Facts(ctx context.Context, fresh bool) (admission.Facts, error)
}

// Options configures a Webhook.
type Options struct {
	DNSName    string        // by which the API server calls: SERVICE.NAMESPACE.svc
	Interval   time.Duration // between two looks at the certificates; at most a day
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Webhook judges changes and keeps the certificates. It is safe for concurrent use, but for Start, which is called once.
type Webhook struct {
	*Keeper
	reader  Reader
	log     *slog.Logger
	metrics *metrics
}

// New returns a webhook that has no certificate yet. It fails if the metrics cannot be registered.
func New(reader Reader, store Store, opts Options) (*Webhook, error) {
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, err
	}
	return &Webhook{Keeper: &Keeper{store: store, opts: opts, expiry: m.expiry}, reader: reader, log: opts.Log, metrics: m}, nil
}

// Review judges a change. A deletion that would be refused is judged again by facts that are not cached: a cache may not
// know yet that the Service which used the pool has just been deleted.
func (w *Webhook) Review(ctx context.Context, r admission.Request) (admission.Decision, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	kind, namespace, name := r.Subject()
	log := w.log.With("kind", kind, "namespace", namespace, "name", name, "operation", r.Operation)
	d, err := w.judge(ctx, r)
	if err != nil {
		log.Warn("change not judged", "err", err)
	}
	for _, refusal := range d.Refusals {
		log.Info("change refused", "reason", refusal.Reason, "message", refusal.Err.Error())
	}
	w.metrics.requests.WithLabelValues(kind, operation(r), outcome(d, err)).Inc()
	return d, err
}

func (w *Webhook) judge(ctx context.Context, r admission.Request) (admission.Decision, error) {
	facts, err := w.reader.Facts(ctx, false)
	if err != nil {
		return admission.Decision{}, err
	}
	d := admission.Decide(r, facts)
	if d.Allowed() || r.Operation != admission.Delete {
		return d, nil
	}
	if facts, err = w.reader.Facts(ctx, true); err != nil {
		w.log.Warn("deletion judged by cached facts only", "err", err) // annotated, it passes
		return d, nil
	}
	return admission.Decide(r, facts), nil
}

func outcome(d admission.Decision, err error) string {
	switch {
	case err != nil:
		return "error"
	case !d.Allowed():
		return "refused"
	case len(d.Warnings) > 0:
		return "warned"
	}
	return "allowed"
}

// operation bounds the metric's labels: whoever reaches the port can send any word.
func operation(r admission.Request) string {
	switch r.Operation {
	case admission.Create, admission.Update, admission.Delete:
		return string(r.Operation)
	}
	return "other"
}
