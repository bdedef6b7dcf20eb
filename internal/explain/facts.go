package explain

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/docs"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/view"
	"github.com/fairlead-lb/fairlead/lb"
)

// Facts is all that is known.
type Facts struct {
	Namespace  string // where Fairlead runs
	Kube       kube.Facts
	Services   map[lb.ServiceKey]Service // every Service, ours or not
	Pools      []v1beta1.IPAddressPool
	Statuses   map[lb.NodeName]v1beta1.SpeakerStatus
	Controller []Pod
	Speakers   map[lb.NodeName]Speaker // by every node on which one runs

	// Answers are the hardware addresses that answered for an address just now, nil if nobody was asked.
	Answers map[netip.Addr][]string
}

// Service is what is known of a Service beyond its conversion.
type Service struct {
	Foreign   string // why it is not Fairlead's; "" = it is
	Refusal   lb.Refusal
	Condition *metav1.Condition // fairlead.dev/Allocated
}

// Pod is a pod of the controller.
type Pod struct {
	Name  string
	Ready bool
}

// Speaker is what a speaker says of itself.
type Speaker struct {
	Pod       string
	Addr      netip.Addr // of the pod; the zero Addr if it is not known yet
	Error     string     // why it did not answer; "" = it did
	Decisions view.Decisions
	Datapath  view.Datapath
}

// Read returns what the API server knows, out of objects or of a cache. The speakers are to be asked: of each only the pod and its
// address are filled in.
func Read(ctx context.Context, objects client.Reader, opts kube.Options) (Facts, error) {
	out := Facts{Namespace: opts.Namespace, Services: map[lb.ServiceKey]Service{}, Statuses: map[lb.NodeName]v1beta1.SpeakerStatus{}, Speakers: map[lb.NodeName]Speaker{}}
	var err error
	if out.Kube, err = kube.NewReader(objects, opts).Facts(ctx); err != nil {
		return Facts{}, err
	}
	var services corev1.ServiceList
	var pods corev1.PodList
	var pools v1beta1.IPAddressPoolList
	var statuses v1beta1.SpeakerStatusList
	here := client.InNamespace(opts.Namespace)
	for _, list := range []struct {
		into client.ObjectList
		opts []client.ListOption
	}{{&services, nil}, {&pods, []client.ListOption{here}}, {&pools, []client.ListOption{here}}, {&statuses, []client.ListOption{here}}} {
		if err := objects.List(ctx, list.into, list.opts...); err != nil {
			return Facts{}, err
		}
	}
	for i := range services.Items {
		s := &services.Items[i]
		of := Service{Foreign: foreign(s, opts), Condition: meta.FindStatusCondition(s.Status.Conditions, kube.ConditionAllocated)}
		if of.Foreign == "" {
			_, of.Refusal = kube.Service(s, nil)
		}
		out.Services[lb.ServiceKey{Namespace: s.Namespace, Name: s.Name}] = of
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		ready := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue })
		switch {
		case p.Labels[kube.SpeakerLabel] == "controller":
			out.Controller = append(out.Controller, Pod{p.Name, ready})
		case p.Labels[kube.SpeakerLabel] == kube.SpeakerValue && p.DeletionTimestamp == nil && p.Spec.NodeName != "":
			node := lb.NodeName(p.Spec.NodeName)
			out.Speakers[node] = Speaker{Pod: p.Name, Addr: out.Kube.Speakers[node], Error: "it was not asked"}
		}
	}
	out.Pools = pools.Items
	for _, s := range statuses.Items {
		out.Statuses[lb.NodeName(s.Name)] = s
	}
	return out, nil
}

// foreign says why the Service is not Fairlead's.
func foreign(s *corev1.Service, opts kube.Options) string {
	switch {
	case opts.Ours(s):
		return ""
	case s.Spec.Type != corev1.ServiceTypeLoadBalancer:
		return fmt.Sprintf("spec.type is %s; only Services of type LoadBalancer have addresses", s.Spec.Type)
	case s.Spec.LoadBalancerClass != nil:
		return fmt.Sprintf("spec.loadBalancerClass is %q, which belongs to another load balancer", *s.Spec.LoadBalancerClass)
	}
	return "spec.loadBalancerClass is not set, and this installation serves only Services that name its class"
}

// answered returns the speakers that have answered, sorted by node.
func (f *Facts) answered() []lb.NodeName {
	var out []lb.NodeName
	for _, node := range slices.Sorted(maps.Keys(f.Speakers)) {
		if f.Speakers[node].Error == "" {
			out = append(out, node)
		}
	}
	return out
}

// silent returns a sentence for each speaker that has not answered.
func (f *Facts) silent() []string {
	var out []string
	for _, node := range slices.Sorted(maps.Keys(f.Speakers)) {
		if e := f.Speakers[node].Error; e != "" {
			out = append(out, fmt.Sprintf("%s: the speaker did not answer: %s", node, e))
		}
	}
	return out
}

func (f *Facts) service(key lb.ServiceKey) (lb.Service, bool) {
	i, ok := slices.BinarySearchFunc(f.Kube.Services, key, func(s lb.Service, k lb.ServiceKey) int { return s.Key.Compare(k) })
	if !ok {
		return lb.Service{}, false
	}
	return f.Kube.Services[i], true
}

// cure is what docs/reasons.md says to do.
func cure(r lb.Reason) string { return docs.Reasons()[string(r)].Do }
