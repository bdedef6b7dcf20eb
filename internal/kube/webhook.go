package kube

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	ctrladmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/internal/admission"
)

// WebhookPath is where the webhook is served; the chart's configuration names it.
const WebhookPath = "/validate"

// listenPause is the time between two attempts to listen on a port that cannot be had.
const listenPause = 10 * time.Second

// Reviewer answers the questions of the webhook. It is called from several goroutines. An error means that it does not
// know: the change passes then, with a warning.
type Reviewer interface {
	Review(ctx context.Context, r admission.Request) (admission.Decision, error)
}

// ServeWebhook has mgr serve the webhook on the port, on every replica, whether it leads or not. The certificate is asked
// for with every connection.
func ServeWebhook(mgr manager.Manager, port int, certificate func() (*tls.Certificate, error), r Reviewer) error {
	server := webhook.NewServer(webhook.Options{Port: port, TLSOpts: []func(*tls.Config){func(c *tls.Config) {
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate() }
	}}})
	server.Register(WebhookPath, hook(r))
	if err := mgr.Add(&patientServer{mgr.GetLogger(), server}); err != nil {
		return fmt.Errorf("adding the webhook: %w", err)
	}
	return nil
}

// hook answers AdmissionReviews. A panic ends the connection, and the API server goes on without us; recovered, it would be
// a refusal.
func hook(r Reviewer) http.Handler {
	return (&ctrladmission.Webhook{Handler: reviews{r}}).WithRecoverPanic(false)
}

// patientServer keeps trying to listen: allocation must not end because a port is taken.
type patientServer struct {
	log    logr.Logger
	server webhook.Server
}

// NeedLeaderElection says no: every replica serves.
func (*patientServer) NeedLeaderElection() bool { return false }

// Start serves until ctx ends.
func (s *patientServer) Start(ctx context.Context) error {
	for {
		err := s.server.Start(ctx)
		if ctx.Err() != nil {
			return nil
		}
		s.log.Error(err, "webhook not served, trying again")
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(listenPause):
		}
	}
}

// reviews turns AdmissionReviews into requests, and decisions into their answers.
type reviews struct{ reviewer Reviewer }

// Handle implements controller-runtime's admission.Handler.
func (h reviews) Handle(ctx context.Context, r ctrladmission.Request) ctrladmission.Response {
	request, err := AdmissionRequest(r.AdmissionRequest)
	var d admission.Decision
	if err == nil {
		d, err = h.reviewer.Review(ctx, request)
	}
	if err != nil {
		return ctrladmission.Allowed("").WithWarnings(fmt.Sprintf("Fairlead could not check this change: %v", err))
	}
	return answer(r.AdmissionRequest, d)
}

// AdmissionRequest converts r. Objects of other kinds give a request that passes.
func AdmissionRequest(r admissionv1.AdmissionRequest) (admission.Request, error) {
	out := admission.Request{Operation: admission.Operation(r.Operation)}
	var err error
	switch r.Kind.Kind {
	case "IPAddressPool":
		if out.OldPool, err = poolOf(r.OldObject); err == nil {
			out.NewPool, err = poolOf(r.Object)
		}
	case "L2Advertisement":
		if out.OldAdvertisement, err = decoded[v1beta1.L2Advertisement](r.OldObject); err == nil {
			out.NewAdvertisement, err = decoded[v1beta1.L2Advertisement](r.Object)
		}
	case "BGPPeer":
		out.Peer, err = changeOf(r, peerAsked)
	case "BGPAdvertisement":
		out.BGPAdvertisement, err = changeOf(r, advertisementAsked)
	case "BFDProfile":
		out.BFDProfile, err = changeOf(r, func(p *v1beta1.BFDProfile) *v1beta1.BFDProfile { return p })
	case "Community":
		out.Community, err = changeOf(r, func(c *v1beta1.Community) *v1beta1.Community { return c })
	}
	if err != nil {
		return admission.Request{}, fmt.Errorf("reading %s %s/%s: %w", r.Kind.Kind, r.Namespace, r.Name, err)
	}
	return out, nil
}

// changeOf decodes both objects and has each understood.
func changeOf[T, U any](r admissionv1.AdmissionRequest, understood func(*T) *U) (out admission.Change[U], err error) {
	old, err := decoded[T](r.OldObject)
	if err != nil {
		return out, err
	}
	now, err := decoded[T](r.Object)
	if old != nil {
		out.Old = understood(old)
	}
	if now != nil {
		out.New = understood(now)
	}
	return out, err
}

// peerAsked reads a peer as a decision about it needs it: what it names is looked up there.
func peerAsked(p *v1beta1.BGPPeer) *admission.Peer {
	parsed, _ := BGPPeer(p, nil)
	return &admission.Peer{Object: p, Parsed: parsed}
}

// advertisementAsked does the same with an advertisement.
func advertisementAsked(a *v1beta1.BGPAdvertisement) *admission.Advertisement {
	parsed, _ := BGPAdvertisement(a, nil)
	return &admission.Advertisement{Object: a, Parsed: parsed}
}

func poolOf(raw runtime.RawExtension) (*admission.Pool, error) {
	object, err := decoded[v1beta1.IPAddressPool](raw)
	if object == nil {
		return nil, err
	}
	parsed, _ := Pool(object) // what is wrong with it is found by the decision
	return &admission.Pool{Object: object, Parsed: parsed}, nil
}

// decoded returns nil for no object.
func decoded[T any](raw runtime.RawExtension) (*T, error) {
	if len(raw.Raw) == 0 || string(raw.Raw) == "null" {
		return nil, nil
	}
	object := new(T)
	if err := json.Unmarshal(raw.Raw, object); err != nil {
		return nil, fmt.Errorf("decoding %T: %w", object, err)
	}
	return object, nil
}

// answer gives a refused deletion as Forbidden and everything else as Invalid, as the API server itself would.
func answer(r admissionv1.AdmissionRequest, d admission.Decision) ctrladmission.Response {
	out := ctrladmission.Allowed("")
	if !d.Allowed() {
		var errs field.ErrorList
		for _, refusal := range d.Refusals {
			errs = append(errs, refusal.Err)
		}
		err := apierrors.NewInvalid(schema.GroupKind{Group: r.Kind.Group, Kind: r.Kind.Kind}, r.Name, errs)
		if r.Operation == admissionv1.Delete {
			err = apierrors.NewForbidden(schema.GroupResource{Group: r.Resource.Group, Resource: r.Resource.Resource}, r.Name, errs.ToAggregate())
		}
		out.Allowed, out.Result = false, &err.ErrStatus
	}
	for _, w := range d.Warnings {
		out.Warnings = append(out.Warnings, w.Message)
	}
	return out
}
