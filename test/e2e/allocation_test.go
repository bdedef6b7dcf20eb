//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
)

func annotate(key, value string) func(*corev1.Service) {
	return func(s *corev1.Service) { metav1.SetMetaDataAnnotation(&s.ObjectMeta, key, value) }
}

func TestAllocation(t *testing.T) {
	ns := namespace(t, "192.0.2.110-192.0.2.111")
	s := service(t, ns, "web")
	at := address(t, s)
	if want := netip.MustParseAddr("192.0.2.110"); at.Addr() != want {
		t.Errorf("address = %s, want the lowest of the pool, %s", at.Addr(), want)
	}
	if mode := s.Status.LoadBalancer.Ingress[0].IPMode; mode == nil || *mode != corev1.LoadBalancerIPModeProxy {
		t.Errorf("ipMode = %v, want Proxy so that kube-proxy leaves the address to the datapath", mode)
	}
	c := meta.FindStatusCondition(s.Status.Conditions, allocated)
	if c == nil || c.Status != metav1.ConditionTrue || !strings.Contains(c.Message, ns) || c.ObservedGeneration != s.Generation {
		t.Errorf("condition = %+v, want True, naming pool %s, generation %d", c, ns, s.Generation)
	}
	if got := s.Annotations["fairlead.dev/ip-allocated-from-pool"]; got != ns {
		t.Errorf("pool annotation = %q, want %q", got, ns)
	}
}

func TestExhaustedPool(t *testing.T) {
	ns := namespace(t, "192.0.2.112/32")
	first := service(t, ns, "first")
	at := address(t, first)
	second := service(t, ns, "second")
	message := pending(t, second, "PoolExhausted")
	if !strings.Contains(message, ns) {
		t.Errorf("message %q does not name the pool %s", message, ns)
	}
	if got := event(t, second, "PoolExhausted"); got == "" {
		t.Error("the Event has no message")
	}
	must(t, lab.Client.Delete(t.Context(), first))
	if got := address(t, second); got != at {
		t.Errorf("after the first Service is gone the second has %s, want %s", got, at)
	}
}

func TestRequestedAddress(t *testing.T) {
	ns := namespace(t, "192.0.2.113-192.0.2.116")
	byAnnotation := service(t, ns, "by-annotation", annotate("fairlead.dev/loadBalancerIPs", "192.0.2.115"))
	if got := address(t, byAnnotation).Addr().String(); got != "192.0.2.115" {
		t.Errorf("address by annotation = %s, want 192.0.2.115", got)
	}
	byAlias := service(t, ns, "by-alias", annotate("metallb.io/loadBalancerIPs", "192.0.2.114"))
	if got := address(t, byAlias).Addr().String(); got != "192.0.2.114" {
		t.Errorf("address by MetalLB's annotation = %s, want 192.0.2.114", got)
	}
	bySpec := service(t, ns, "by-spec", func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.116" })
	if got := address(t, bySpec).Addr().String(); got != "192.0.2.116" {
		t.Errorf("address by spec.loadBalancerIP = %s, want 192.0.2.116", got)
	}
	taken := service(t, ns, "taken", annotate("fairlead.dev/loadBalancerIPs", "192.0.2.115"))
	if m := pending(t, taken, "AddressInUse"); !strings.Contains(m, "192.0.2.115") || !strings.Contains(m, "by-annotation") {
		t.Errorf("message %q names neither the address nor its holder", m)
	}
	outside := service(t, ns, "outside", annotate("fairlead.dev/loadBalancerIPs", "203.0.113.7"))
	if m := pending(t, outside, "AddressNotInPool"); !strings.Contains(m, "203.0.113.7") {
		t.Errorf("message %q does not name the address", m)
	}
}

func TestUnknownPool(t *testing.T) {
	ns := namespace(t)
	s := service(t, ns, "web", annotate("fairlead.dev/address-pool", "nowhere"))
	if m := pending(t, s, "UnknownPool"); !strings.Contains(m, "nowhere") {
		t.Errorf("message %q does not name the pool", m)
	}
	// The pool's arrival is enough; nobody has to touch the Service.
	pool(t, "nowhere", ns, "192.0.2.117/32")
	address(t, s)
}

func TestOtherClassIsLeftAlone(t *testing.T) {
	ns := namespace(t, "192.0.2.118-192.0.2.119")
	other := service(t, ns, "other", func(s *corev1.Service) { s.Spec.LoadBalancerClass = new("example.com/lb") })
	ours := service(t, ns, "ours", func(s *corev1.Service) { s.Spec.LoadBalancerClass = new("fairlead.dev/lb") })
	address(t, ours)
	must(t, lab.Client.Get(t.Context(), client.ObjectKeyFromObject(other), other))
	if len(other.Status.LoadBalancer.Ingress) > 0 || len(other.Status.Conditions) > 0 {
		t.Errorf("a Service of another class was touched: %+v", other.Status)
	}
}

func TestPoolEditNeverRenumbers(t *testing.T) {
	ns := namespace(t, "192.0.2.120-192.0.2.121")
	s := service(t, ns, "web")
	deployment(t, ns, "web", 1)
	at := address(t, s)
	answers(t, at)
	p := &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: ns}}
	patch(t, p, `{"spec":{"addresses":["192.0.2.121/32"]}}`)
	eventually(t, 20*time.Second, func() error {
		must(t, lab.Client.Get(t.Context(), client.ObjectKeyFromObject(s), s))
		if c := meta.FindStatusCondition(s.Status.Conditions, allocated); c == nil || c.Reason != "AddressOutsidePools" {
			return fmt.Errorf("want reason AddressOutsidePools, have %+v", c)
		}
		return nil
	})
	if got := address(t, s); got != at {
		t.Errorf("the pool edit renumbered the Service from %s to %s", at, got)
	}
	answers(t, at)
}

func TestInvalidPoolIsRejected(t *testing.T) {
	for name, addresses := range map[string][]string{
		"not an address": {"192.0.2.300/32"},
		"no prefix":      {"192.0.2.1"},
		"empty":          {},
	} {
		t.Run(name, func(t *testing.T) {
			err := lab.Client.Create(t.Context(), &v1beta1.IPAddressPool{
				ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: "invalid"},
				Spec:       v1beta1.IPAddressPoolSpec{Addresses: addresses},
			})
			if err == nil {
				t.Fatal("the API server accepted it")
			}
			for _, want := range append(addresses, "spec.addresses") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the refusal %q does not name %q", err, want)
				}
			}
		})
	}
}
