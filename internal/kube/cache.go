package kube

import (
	"context"
	"fmt"
	"sync/atomic"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
)

// typeField is the field of a Service that the API server can select by.
const typeField = "spec.type"

// Scheme returns a scheme with Kubernetes' kinds and ours.
func Scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, v1beta1.AddToScheme} {
		if err := add(s); err != nil {
			panic("kube: building the scheme: " + err.Error())
		}
	}
	return s
}

// mapper names the resources of the kinds that we read. It is written down instead of discovered, so that a process can
// start, and its informers keep trying, while the API server is away or the CRDs are not there yet.
func mapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	add := func(gv schema.GroupVersion, scope meta.RESTScope, kinds ...string) {
		for _, kind := range kinds {
			m.Add(gv.WithKind(kind), scope)
			m.Add(gv.WithKind(kind+"List"), scope) // a cache of some namespaces only asks for the list's scope
		}
	}
	add(schema.GroupVersion{Group: v1beta1.Group, Version: v1beta1.Version}, meta.RESTScopeNamespace, "IPAddressPool", "L2Advertisement",
		"BGPPeer", "BGPAdvertisement", "BFDProfile", "Community", "SpeakerStatus")
	add(corev1.SchemeGroupVersion, meta.RESTScopeNamespace, "Service", "Pod", "Secret", "Event")
	add(corev1.SchemeGroupVersion, meta.RESTScopeRoot, "Node", "Namespace")
	add(eventsv1.SchemeGroupVersion, meta.RESTScopeNamespace, "Event")
	add(discoveryv1.SchemeGroupVersion, meta.RESTScopeNamespace, "EndpointSlice")
	add(networkingv1.SchemeGroupVersion, meta.RESTScopeRoot, "ServiceCIDR")
	add(admissionregistrationv1.SchemeGroupVersion, meta.RESTScopeRoot, "ValidatingWebhookConfiguration")
	return m
}

// services selects the Services of the speaker's cache.
func (o Options) services() cache.ByObject {
	if o.Full {
		return cache.ByObject{Label: forwarded(), Transform: o.keepService}
	}
	return cache.ByObject{Transform: o.keepService, Field: fields.OneTermEqualSelector(typeField, string(corev1.ServiceTypeLoadBalancer))}
}

func (o Options) slices() cache.ByObject {
	if o.Full {
		return cache.ByObject{Label: forwarded(), Transform: keepSlice}
	}
	return cache.ByObject{Transform: keepSlice}
}

// forwarded leaves out what carries a label that keeps service proxies away (S1). EndpointSlices have those of their Service.
func forwarded() labels.Selector {
	none := labels.NewSelector()
	for _, key := range []string{LabelServiceProxyName, corev1.IsHeadlessService} {
		r, err := labels.NewRequirement(key, selection.DoesNotExist, nil)
		if err != nil {
			panic("kube: building a selector: " + err.Error())
		}
		none = none.Add(*r)
	}
	return none
}

// NewSpeakerCache returns a cache of what [Reader] reads, not started: Services of type LoadBalancer (one that changes its
// type leaves as if deleted), or with [Options.Full] all that no label keeps from us, all EndpointSlices without what we do not use, Nodes, Namespaces, and of our namespace the objects of
// our own kinds, the speakers' pods, and the Secrets that may hold a BGP password.
func NewSpeakerCache(cfg *rest.Config, opts Options) (cache.Cache, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	here := map[string]cache.Config{opts.Namespace: {}}
	speakers := labels.SelectorFromSet(labels.Set{SpeakerLabel: SpeakerValue})
	c, err := cache.New(cfg, cache.Options{
		Scheme:           Scheme(),
		Mapper:           mapper(),
		DefaultTransform: slim,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Service{}:            opts.services(),
			&discoveryv1.EndpointSlice{}: opts.slices(),
			&corev1.Pod{}:                {Namespaces: here, Label: speakers},

			&corev1.Secret{}: {Namespaces: here, Field: fields.OneTermEqualSelector("type", string(corev1.SecretTypeBasicAuth))},

			&v1beta1.IPAddressPool{}:    {Namespaces: here},
			&v1beta1.L2Advertisement{}:  {Namespaces: here},
			&v1beta1.BGPPeer{}:          {Namespaces: here},
			&v1beta1.BGPAdvertisement{}: {Namespaces: here},
			&v1beta1.BFDProfile{}:       {Namespaces: here},
			&v1beta1.Community{}:        {Namespaces: here},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("setting up the cache: %w", err)
	}
	return c, nil
}

// NewClient returns a client that asks the API server each time, for the few things that no cache holds, such as
// [GossipKeys].
func NewClient(cfg *rest.Config) (client.Client, error) {
	c, err := client.New(cfg, client.Options{Scheme: Scheme(), Mapper: mapper()})
	if err != nil {
		return nil, fmt.Errorf("setting up the client: %w", err)
	}
	return c, nil
}

// watched lists the kinds of the speaker's cache with what makes a change of one worth a new snapshot.
func (r *Reader) watched() map[client.Object]func(old, now any) bool {
	return map[client.Object]func(old, now any) bool{
		&corev1.Service{}:            r.record.service,
		&discoveryv1.EndpointSlice{}: r.record.slice,
		&corev1.Node{}:               r.record.noting(nodeChanged),
		&corev1.Namespace{}:          r.record.namespace,
		&v1beta1.IPAddressPool{}:     r.record.noting(changed),
		&v1beta1.L2Advertisement{}:   r.record.noting(changed),
		&v1beta1.BGPPeer{}:           r.record.noting(generationChanged),
		&v1beta1.BGPAdvertisement{}:  r.record.noting(generationChanged),
		&v1beta1.BFDProfile{}:        r.record.noting(generationChanged),
		&v1beta1.Community{}:         r.record.noting(generationChanged),
		&corev1.Secret{}:             r.record.noting(changed),
		&corev1.Pod{}:                r.record.noting(podChanged),
	}
}

// Watch is of a speaker's reader, once: it waits until every kind of the speaker's cache c has synced, calls notify, and from then on has it called after
// each change that can alter [Reader.Facts], until c stops. Notify is called from several goroutines and must not block.
// The caller runs c.Start beside it; the error is ctx's, or a kind that cannot be watched.
func (r *Reader) Watch(ctx context.Context, c cache.Cache, notify func()) error {
	var open atomic.Bool
	var synced []toolscache.InformerSynced
	for object, matters := range r.watched() {
		informer, err := c.GetInformer(ctx, object, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watching %T: %w", object, err)
		}
		registration, err := informer.AddEventHandler(notifier(&open, matters, notify))
		if err != nil {
			return fmt.Errorf("watching %T: %w", object, err)
		}
		synced = append(synced, registration.HasSynced)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return fmt.Errorf("waiting for the caches: %w", context.Cause(ctx))
	}
	close(r.record.filled)
	open.Store(true)
	notify()
	return nil
}

// notifier has matters see every event, and calls notify once open is set.
func notifier(open *atomic.Bool, matters func(old, now any) bool, notify func()) toolscache.ResourceEventHandler {
	check := func(old, now any) {
		if matters(old, now) && open.Load() {
			notify()
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(now any) { check(nil, now) },
		UpdateFunc: check,
		DeleteFunc: func(old any) {
			if gone, ok := old.(toolscache.DeletedFinalStateUnknown); ok {
				old = gone.Obj
			}
			check(old, nil)
		},
	}
}
