package kube

import (
	"cmp"
	"errors"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/lb"
)

// LoadBalancerClass is the default of Options.Class.
const LoadBalancerClass = "fairlead.dev/lb"

// SpeakerLabel and SpeakerValue mark the speakers' pods; the chart sets them.
const (
	SpeakerLabel = "app.kubernetes.io/component"
	SpeakerValue = "speaker"
)

// Options is what both processes tell this package.
type Options struct {
	Namespace    string    // where Fairlead runs; its pools, advertisements and gossip key count in here only
	Class        string    // the spec.loadBalancerClass that makes a Service ours; default LoadBalancerClass
	RequireClass bool      // leave Services without a class to others
	IPMode       lb.IPMode // written to status.loadBalancer.ingress[].ipMode; the controller's business only

	// Full has the speaker read every Service, as datapath mode full needs; otherwise it is those of type LoadBalancer.
	Full bool

	// MaxPerNamespace is how many addresses of all pools together the Services of a namespace may own, 0 = any number, where
	// the Namespace has no annotation that says so; the controller's business only.
	MaxPerNamespace int
}

func (o Options) validate() error {
	if o.Namespace == "" {
		return errors.New("kube: no namespace given; set --namespace to the one Fairlead runs in")
	}
	return nil
}

// Ours reports whether s is a Service for Fairlead: of type LoadBalancer and of our class, or of no class unless a class is
// required.
func (o Options) Ours(s *corev1.Service) bool {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return false
	}
	if class := s.Spec.LoadBalancerClass; class != nil {
		return *class == cmp.Or(o.Class, LoadBalancerClass)
	}
	return !o.RequireClass
}
