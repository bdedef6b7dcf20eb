package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

// SurveyReader reads for whoever wants to see the installation as a whole: what the controller has in its caches from there, Nodes,
// pods and SpeakerStatuses past them, and of the EndpointSlices, which are most of a large cluster, those of one Service only. There
// are no Secrets in it. It may be used from several goroutines.
type SurveyReader struct {
	client.Reader // the cache
	live          client.Reader
	of            lb.ServiceKey
}

// NewSurveyReader reads from mgr's caches and past them. It knows the endpoints of the Service of; the zero key: of none.
func NewSurveyReader(mgr manager.Manager, of lb.ServiceKey) SurveyReader {
	return SurveyReader{mgr.GetClient(), mgr.GetAPIReader(), of}
}

// List lists objects of one kind.
func (r SurveyReader) List(ctx context.Context, into client.ObjectList, opts ...client.ListOption) error {
	switch into.(type) {
	case *corev1.SecretList:
		return nil
	case *discoveryv1.EndpointSliceList:
		if r.of == (lb.ServiceKey{}) {
			return nil
		}
		opts = append(opts, client.InNamespace(r.of.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: r.of.Name})
		return r.live.List(ctx, into, opts...)
	case *corev1.NodeList, *corev1.PodList, *v1beta1.SpeakerStatusList:
		return r.live.List(ctx, into, opts...)
	}
	return r.Reader.List(ctx, into, opts...)
}
