//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/test/cluster"
)

const allocated = "fairlead.dev/Allocated"

// create makes an object and deletes it when the test ends.
func create(t *testing.T, obj client.Object) {
	t.Helper()
	must(t, lab.Client.Create(t.Context(), obj))
	t.Cleanup(func() { _ = lab.Client.Delete(cleanupContext(t), obj) })
}

// namespace makes a namespace named after the test, with an L2Advertisement and, if ranges are given, a pool that only it
// may use.
func namespace(t *testing.T, ranges ...string) string {
	t.Helper()
	return namespaceCalled(t, strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())), ranges...)
}

func namespaceCalled(t *testing.T, name string, ranges ...string) string {
	t.Helper()
	create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	if len(ranges) > 0 {
		pool(t, name, name, ranges...)
	}
	return name
}

// pool makes a pool for one namespace and an advertisement for it.
func pool(t *testing.T, name, ns string, ranges ...string) {
	t.Helper()
	create(t, &v1beta1.IPAddressPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: name},
		Spec: v1beta1.IPAddressPoolSpec{
			Addresses:         ranges,
			ServiceAllocation: &v1beta1.ServiceAllocation{Namespaces: []string{ns}},
		},
	})
	create(t, &v1beta1.L2Advertisement{
		ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: name},
		Spec:       v1beta1.L2AdvertisementSpec{IPAddressPools: []string{name}},
	})
}

// deployment makes a Deployment of agnhost netexec and waits until all its pods are ready. Its pods keep serving for five
// seconds (stretched on slow machines) after they are told to stop, as a well-behaved server does.
func deployment(t *testing.T, ns, name string, replicas int32, change ...func(*appsv1.Deployment)) *appsv1.Deployment {
	t.Helper()
	labels := map[string]string{"app": name}
	slow := int64(cluster.Slow())
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: new(15 * slow),
					Containers: []corev1.Container{{
						Name:  "netexec",
						Image: "agnhost:2.63",
						Args:  []string{"netexec", "--http-port=8080", "--udp-port=8081", fmt.Sprintf("--delay-shutdown=%d", 5*slow)},
						ReadinessProbe: &corev1.Probe{
							ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/hostname", Port: intstr.FromInt32(8080)}},
							PeriodSeconds: 1,
						},
					}},
				},
			},
		},
	}
	for _, c := range change {
		c(d)
	}
	serviceAccount(t, ns)
	create(t, d)
	rolledOut(t, d)
	return d
}

// serviceAccount waits for the namespace's default service account, without which no pod can be made. After an outage of the
// API server the controller manager is slow to come back.
func serviceAccount(t *testing.T, ns string) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		return lab.Client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "default"}, &corev1.ServiceAccount{})
	})
}

// onePerNode spreads a Deployment's pods evenly over the nodes.
func onePerNode(d *appsv1.Deployment) {
	d.Spec.Template.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: "kubernetes.io/hostname", WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: d.Spec.Selector,
	}}
}

// rolledOut waits until the Deployment's newest pods are all ready and the old ones gone.
func rolledOut(t *testing.T, d *appsv1.Deployment) {
	t.Helper()
	eventually(t, 120*time.Second, func() error {
		if err := lab.Client.Get(t.Context(), client.ObjectKeyFromObject(d), d); err != nil {
			return err
		}
		s, want := d.Status, *d.Spec.Replicas
		if s.ObservedGeneration < d.Generation || s.UpdatedReplicas != want || s.ReadyReplicas != want || s.Replicas != want {
			return fmt.Errorf("deployment %s: want %d ready pods, status %+v", d.Name, want, s)
		}
		return nil
	})
}

// service makes a Service of type LoadBalancer: 80/TCP -> 8080 and 81/UDP -> 8081 of the pods with app=name.
func service(t *testing.T, ns, name string, change ...func(*corev1.Service)) *corev1.Service {
	t.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: corev1.ServiceSpec{
			Type:     corev1.ServiceTypeLoadBalancer,
			Selector: map[string]string{"app": name},
			Ports: []corev1.ServicePort{
				{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(8080)},
				{Name: "udp", Protocol: corev1.ProtocolUDP, Port: 81, TargetPort: intstr.FromInt32(8081)},
			},
		},
	}
	for _, c := range change {
		c(s)
	}
	create(t, s)
	return s
}

// address waits for the Service's address and returns where port 80 is served.
func address(t *testing.T, s *corev1.Service) netip.AddrPort {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		if err := lab.Client.Get(t.Context(), client.ObjectKeyFromObject(s), s); err != nil {
			return err
		}
		if len(s.Status.LoadBalancer.Ingress) == 0 {
			return fmt.Errorf("service %s/%s has no address: %v", s.Namespace, s.Name, s.Status.Conditions)
		}
		return nil
	})
	addr, err := netip.ParseAddr(s.Status.LoadBalancer.Ingress[0].IP)
	must(t, err)
	return netip.AddrPortFrom(addr, 80)
}

// pending waits until the Service has no address and the Allocated condition gives the reason, and returns its message.
func pending(t *testing.T, s *corev1.Service, reason string) string {
	t.Helper()
	var message string
	eventually(t, 20*time.Second, func() error {
		if err := lab.Client.Get(t.Context(), client.ObjectKeyFromObject(s), s); err != nil {
			return err
		}
		c := meta.FindStatusCondition(s.Status.Conditions, allocated)
		if c == nil || c.Status != metav1.ConditionFalse || c.Reason != reason || len(s.Status.LoadBalancer.Ingress) > 0 {
			return fmt.Errorf("want a pending Service with reason %s, have ingress %v, condition %+v", reason, s.Status.LoadBalancer.Ingress, c)
		}
		message = c.Message
		return nil
	})
	return message
}

// event waits for an Event on the Service with the reason and returns its message.
func event(t *testing.T, s *corev1.Service, reason string) string {
	t.Helper()
	var message string
	eventually(t, 20*time.Second, func() error {
		var events corev1.EventList
		if err := lab.Client.List(t.Context(), &events, client.InNamespace(s.Namespace)); err != nil {
			return err
		}
		var seen []string
		for _, e := range events.Items {
			if e.InvolvedObject.UID == s.UID {
				seen = append(seen, e.Reason)
				if e.Reason == reason {
					message = e.Message
					return nil
				}
			}
		}
		return fmt.Errorf("no event %s on service %s, only %v", reason, s.Name, seen)
	})
	return message
}

// patch merges a JSON patch into the object.
func patch(t *testing.T, obj client.Object, json string) {
	t.Helper()
	must(t, lab.Client.Patch(t.Context(), obj, client.RawPatch("application/merge-patch+json", []byte(json))))
}

func objectMeta(key client.ObjectKey) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}
}

// only leaves one port of a Service, by name.
func only(name string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Ports = slices.DeleteFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name != name })
	}
}
