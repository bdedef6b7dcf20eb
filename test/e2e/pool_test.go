//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
)

// poolOf is the pool that namespace made for a test.
func poolOf(ns string) *v1beta1.IPAddressPool {
	return &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: ns}}
}

func TestReleaseMovesAStrandedService(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "192.0.2.170/32")
	deployment(t, ns, "web", 1)
	s := service(t, ns, "web")
	before := address(t, s)
	answers(t, before)
	patch(t, poolOf(ns), `{"spec":{"addresses":["192.0.2.171/32"]}}`)
	patch(t, s, `{"metadata":{"annotations":{"fairlead.dev/release":"true"}}}`)
	eventually(t, 20*time.Second, func() error {
		must(t, lab.Client.Get(t.Context(), client.ObjectKeyFromObject(s), s))
		if in := s.Status.LoadBalancer.Ingress; len(in) != 1 || in[0].IP != "192.0.2.171" {
			return fmt.Errorf("the Service has %v, want 192.0.2.171", in)
		}
		return nil
	})
	if v, ok := s.Annotations["fairlead.dev/release"]; ok {
		t.Errorf("the annotation fairlead.dev/release=%s is still there: the next restart would move the Service again", v)
	}
	answers(t, at("192.0.2.171"))
	unannounced(t, before.Addr())
}

func TestQuotaHoldsUntilAnAddressIsFreed(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "192.0.2.172-192.0.2.175")
	patch(t, poolOf(ns), `{"spec":{"serviceAllocation":{"maxAddressesPerNamespace":2}}}`)
	first, second := service(t, ns, "first"), service(t, ns, "second")
	address(t, first)
	address(t, second)
	third := service(t, ns, "third")
	if m := pending(t, third, "QuotaExceeded"); !strings.Contains(m, ns) || !strings.Contains(m, "2") {
		t.Errorf("message %q names neither pool nor limit", m)
	}
	must(t, lab.Client.Delete(t.Context(), first))
	address(t, third)
}

func TestSharingNeedsTheSameKey(t *testing.T) {
	ns := namespace(t, "192.0.2.176-192.0.2.179")
	a := service(t, ns, "a", annotate("fairlead.dev/allow-shared-ip", "shop"), only("http"))
	shared := address(t, a).Addr()
	b := service(t, ns, "b", annotate("fairlead.dev/allow-shared-ip", "shop"), only("udp"), annotate("fairlead.dev/loadBalancerIPs", shared.String()))
	if got := address(t, b).Addr(); got != shared {
		t.Errorf("the second Service with the key has %s, want %s", got, shared)
	}
	c := service(t, ns, "c", annotate("fairlead.dev/allow-shared-ip", "bank"), only("udp"), annotate("fairlead.dev/loadBalancerIPs", shared.String()))
	if m := pending(t, c, "SharingConflict"); !strings.Contains(m, shared.String()) {
		t.Errorf("message %q does not name the address", m)
	}
}

func TestPoolStatusCounts(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "192.0.2.180-192.0.2.181")
	first := service(t, ns, "first")
	address(t, first)
	counts := func(assigned, available, resting int64, exhausted metav1.ConditionStatus) {
		t.Helper()
		eventually(t, 20*time.Second, func() error {
			p := poolOf(ns)
			must(t, lab.Client.Get(t.Context(), client.ObjectKeyFromObject(p), p))
			s := p.Status
			if s.TotalIPv4 != 2 || s.AssignedIPv4 != assigned || s.AvailableIPv4 != available || s.RestingIPv4 != resting {
				return fmt.Errorf("status counts %+v, want total 2, assigned %d, available %d, resting %d", s, assigned, available, resting)
			}
			if c := meta.FindStatusCondition(s.Conditions, "Exhausted"); c == nil || c.Status != exhausted {
				return fmt.Errorf("condition Exhausted is %+v, want %s", c, exhausted)
			}
			return nil
		})
	}
	counts(1, 1, 0, metav1.ConditionFalse)
	address(t, service(t, ns, "second"))
	counts(2, 0, 0, metav1.ConditionTrue)
	must(t, lab.Client.Delete(t.Context(), first))
	counts(1, 1, 1, metav1.ConditionFalse)
}
