//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/test/cluster"
)

func TestOnlyTheOwnerAnswersARP(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "192.0.2.130-192.0.2.135")
	deployment(t, ns, "web", 1)
	for i := range 6 / min(int(cluster.Slow()), 3) {
		s := service(t, ns, fmt.Sprintf("web-%d", i), func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "web"} })
		at := address(t, s)
		answers(t, at)
		owner(t, at.Addr())
	}
	if got, err := lab.WhoHas(t.Context(), at("192.0.2.139").Addr()); err != nil || len(got) > 0 {
		t.Errorf("an address that nobody asked for is answered by %v (error %v)", got, err)
	}
}

func TestNoEndpointMeansNoAnnouncement(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "192.0.2.136/32")
	s := service(t, ns, "web")
	at := address(t, s)
	unannounced(t, at.Addr())
	deployment(t, ns, "web", 1)
	answers(t, at)
}

func TestLocalKeepsTheClientsAddress(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "192.0.2.137/32")
	d := deployment(t, ns, "web", 1)
	s := service(t, ns, "web")
	at := address(t, s)
	answers(t, at)
	if seen := burst(t, at, "/clientip").Clients(); slices.Contains(seen, clientAddr) {
		t.Errorf("with policy Cluster the pods saw %v, want only addresses of nodes", seen)
	}
	patch(t, s, `{"spec":{"externalTrafficPolicy":"Local"}}`)
	eventually(t, 30*time.Second, func() error {
		r, err := lab.HTTP(t.Context(), at, "/clientip", 20*time.Millisecond, 400*time.Millisecond)
		if err != nil {
			return err
		}
		if seen := r.Clients(); r.Failed > 0 || !slices.Equal(seen, []string{clientAddr}) {
			return fmt.Errorf("the pod saw %v, %d failures; want only %s", seen, r.Failed, clientAddr)
		}
		return nil
	})
	if got, want := owner(t, at.Addr()), nodeOf(t, d); got != want {
		t.Errorf("announced by %s, the only ready pod is on %s", got, want)
	}
	// The pod moves; the announcement follows it.
	other := slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return n == nodeOf(t, d) })[0]
	patch(t, d, fmt.Sprintf(`{"spec":{"template":{"spec":{"nodeSelector":{"kubernetes.io/hostname":%q}}}}}`, other))
	rolledOut(t, d)
	eventually(t, 30*time.Second, func() error {
		got, _, err := lab.OwnerOf(t.Context(), at.Addr(), nodes)
		if err == nil && got != other {
			err = fmt.Errorf("announced by %s, the pod is on %s", got, other)
		}
		return err
	})
	answers(t, at)
}

// nodeOf returns the node of the Deployment's only pod.
func nodeOf(t *testing.T, d *appsv1.Deployment) string {
	t.Helper()
	pods := podsOf(t, d)
	if len(pods) != 1 {
		t.Fatalf("deployment %s has %d pods, want one", d.Name, len(pods))
	}
	return pods[0].Spec.NodeName
}

func podsOf(t *testing.T, d *appsv1.Deployment) []corev1.Pod {
	t.Helper()
	var list corev1.PodList
	must(t, lab.Client.List(t.Context(), &list, client.InNamespace(d.Namespace), client.MatchingLabels(d.Spec.Selector.MatchLabels)))
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
}

func TestTypeChangeAndDeletionLeaveNothing(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "192.0.2.138/32")
	deployment(t, ns, "web", 2)
	s := service(t, ns, "web")
	at := address(t, s)
	answers(t, at)
	patch(t, s, `{"spec":{"type":"ClusterIP"}}`)
	gone(t, s, at.Addr().String())
	must(t, lab.Client.Get(t.Context(), client.ObjectKeyFromObject(s), s))
	if len(s.Status.LoadBalancer.Ingress) > 0 {
		t.Errorf("the status still names %v", s.Status.LoadBalancer.Ingress)
	}
	patch(t, s, `{"spec":{"type":"LoadBalancer"}}`)
	eventually(t, 20*time.Second, func() error {
		if err := lab.Client.Get(t.Context(), client.ObjectKeyFromObject(s), s); err != nil {
			return err
		}
		if len(s.Status.LoadBalancer.Ingress) == 0 {
			return fmt.Errorf("no address after the type came back: %+v", s.Status.Conditions)
		}
		return nil
	})
	answers(t, at)
	must(t, lab.Client.Delete(t.Context(), s))
	gone(t, s, at.Addr().String())
}

// gone waits until nobody answers for the address and no node has a rule, an IPVS service or a route with it.
func gone(t *testing.T, s *corev1.Service, addr string) {
	t.Helper()
	unannounced(t, at(addr).Addr())
	silent(t, at(addr))
	eventually(t, 20*time.Second, func() error {
		for _, command := range kernelState {
			for node, out := range onEveryNode(t, command...) {
				if strings.Contains(out, addr) {
					return fmt.Errorf("%s: %v still shows %s", node, command, addr)
				}
			}
		}
		return nil
	})
}

// kernelState are the commands that print all that a datapath engine can leave behind. A node whose kernel has no IPVS has no
// /proc/net/ip_vs, which is as good as an empty one; its addresses are in hexadecimal, so ipvsadm prints them.
var kernelState = [][]string{
	{"nft", "list", "ruleset"},
	{"ip", "route", "show", "table", "all"},
	{"ip", "address"},
	{"sh", "-c", "if [ -e /proc/net/ip_vs ]; then ipvsadm -L -n; fi"},
}
