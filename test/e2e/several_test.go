//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// has waits until the Service has exactly these addresses and the Allocated condition gives the reason.
func has(t *testing.T, s *corev1.Service, reason string, addrs ...string) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		must(t, lab.Client.Get(t.Context(), client.ObjectKeyFromObject(s), s))
		var got []string
		for _, in := range s.Status.LoadBalancer.Ingress {
			got = append(got, in.IP)
		}
		c := meta.FindStatusCondition(s.Status.Conditions, allocated)
		if c == nil || c.Reason != reason || !slices.Equal(got, addrs) {
			return fmt.Errorf("service %s has %v, condition %+v; want %v and reason %s", s.Name, got, c, addrs, reason)
		}
		return nil
	})
}

func TestSeveralAddressesOfAFamily(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "192.0.2.182-192.0.2.184")
	deployment(t, ns, "web", 1)
	s := service(t, ns, "web")
	has(t, s, "Allocated", "192.0.2.182")
	patch(t, s, `{"metadata":{"annotations":{"fairlead.dev/addresses-per-family":"4"}}}`)
	has(t, s, "PoolExhausted", "192.0.2.182", "192.0.2.183", "192.0.2.184")
	if m := meta.FindStatusCondition(s.Status.Conditions, allocated).Message; !strings.Contains(m, "3 of 4 IPv4 addresses") {
		t.Errorf("message %q does not count", m)
	}
	for _, in := range s.Status.LoadBalancer.Ingress {
		answers(t, at(in.IP))
	}
	patch(t, s, `{"metadata":{"annotations":{"fairlead.dev/addresses-per-family":"2"}}}`)
	has(t, s, "Allocated", "192.0.2.182", "192.0.2.183")
	answers(t, at("192.0.2.183"))
	unannounced(t, at("192.0.2.184").Addr())
}

func TestNamespaceQuotaSpansPools(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "192.0.2.185/32")
	pool(t, ns+"-2", ns, "192.0.2.186-192.0.2.189")
	home := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}
	patch(t, home, `{"metadata":{"annotations":{"fairlead.dev/max-addresses":"2"}}}`)
	first, second := service(t, ns, "first"), service(t, ns, "second")
	address(t, first)
	address(t, second)
	third := service(t, ns, "third")
	if m := pending(t, third, "QuotaExceeded"); !strings.Contains(m, "all pools together") || !strings.Contains(m, "fairlead.dev/max-addresses") {
		t.Errorf("message %q names neither quota nor way out", m)
	}
	patch(t, home, `{"metadata":{"annotations":{"fairlead.dev/max-addresses":"3"}}}`)
	address(t, third)
}
