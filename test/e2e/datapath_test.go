//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/test/probe"
)

// clientAddr is the lab's client outside the cluster.
const clientAddr = "192.0.2.100"

// at is port 80 of an address.
func at(addr string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(addr), 80) }

// unannounced waits until nobody answers ARP for the address.
func unannounced(t *testing.T, addr netip.Addr) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		got, err := lab.WhoHas(t.Context(), addr)
		if err == nil && len(got) > 0 {
			err = fmt.Errorf("%s is still answered by %v", addr, got)
		}
		return err
	})
}

func TestEngineIsVisible(t *testing.T) {
	out, err := lab.Fairlab(t.Context(), "status", "-o", "json")
	must(t, err)
	if !json.Valid([]byte(out)) || strings.Count(out, `"engine":"`+engine()+`"`)+strings.Count(out, `"engine": "`+engine()+`"`) != len(nodes) {
		t.Errorf("fairlab status does not show engine %s on %d nodes:\n%s", engine(), len(nodes), out)
	}
	for node, metrics := range onEveryNode(t, "curl", "-fsS", "http://127.0.0.1:9381/metrics") {
		if want := fmt.Sprintf("fairlead_datapath_engine_info{engine=%q} 1", engine()); !strings.Contains(metrics, want) {
			t.Errorf("%s: the metrics lack %s", node, want)
		}
	}
}

func TestTrafficSpreadsOverThePods(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "192.0.2.140/32")
	d := deployment(t, ns, "web", 3)
	tcp := address(t, service(t, ns, "web"))
	answers(t, tcp)
	want := map[string]bool{}
	for _, p := range podsOf(t, d) {
		want[p.Name] = true
	}
	eventually(t, 30*time.Second, func() error {
		r, err := lab.HTTP(t.Context(), tcp, "/hostname", 10*time.Millisecond, time.Second)
		return spread(r, err, want)
	})
	eventually(t, 30*time.Second, func() error {
		r, err := lab.UDP(t.Context(), netip.AddrPortFrom(tcp.Addr(), 81), "hostname", 10*time.Millisecond, time.Second)
		return spread(r, err, want)
	})
}

// spread checks that each wanted pod answered at least an eighth of the connections and nothing failed.
func spread(r probe.Report, err error, want map[string]bool) error {
	if err != nil {
		return err
	}
	if r.Failed > 0 || len(r.Answers) != len(want) {
		return fmt.Errorf("want answers from %d pods and no failure, got %+v", len(want), r)
	}
	for pod, n := range r.Answers {
		if !want[pod] || n < r.OK/8 {
			return fmt.Errorf("pod %s answered %d of %d", pod, n, r.OK)
		}
	}
	return nil
}

func TestRollingUpdateLosesNothing(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "192.0.2.141/32")
	d := deployment(t, ns, "web", 3)
	target := address(t, service(t, ns, "web"))
	answers(t, target)
	wait := meanwhile(t, target, 20*time.Millisecond, 0)
	patch(t, d, `{"spec":{"template":{"metadata":{"annotations":{"rolled":"once"}}}}}`)
	rolledOut(t, d)
	r := wait()
	if r.Failed > 0 || len(r.Answers) < 4 {
		t.Errorf("want no failure and answers from old and new pods, got %+v", r)
	}
	t.Logf("%d connections over a rolling update, %d failed, longest gap %.0f ms", r.Attempts, r.Failed, r.LongestGap)
}

func TestNotReadyPodsGetNoTraffic(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "192.0.2.142/32")
	d := deployment(t, ns, "web", 2)
	s := service(t, ns, "web")
	target := address(t, s)
	answers(t, target)
	unready := deploymentNeverReady(t, ns, "late", "web")
	time.Sleep(2 * time.Second) // the pod must have had the chance to be taken in
	if r := burst(t, target, "/hostname"); r.Failed > 0 || r.Answers[unready] > 0 || len(r.Answers) > 2 {
		t.Errorf("want answers from the two ready pods only, got %+v", r)
	}
	patch(t, s, `{"spec":{"publishNotReadyAddresses":true}}`)
	eventually(t, 20*time.Second, func() error {
		if r := burst(t, target, "/hostname"); r.Failed > 0 || r.Answers[unready] == 0 {
			return fmt.Errorf("publishNotReadyAddresses: want answers from %s too, got %+v", unready, r)
		}
		return nil
	})
	_ = d
}

// deploymentNeverReady runs one pod with the app label of another Deployment that serves but never becomes ready, and
// returns its name.
func deploymentNeverReady(t *testing.T, ns, name, app string) string {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "netexec", Image: "agnhost:2.63", Args: []string{"netexec", "--http-port=8080", "--udp-port=8081"},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"false"}}}, PeriodSeconds: 1},
		}}},
	}
	create(t, pod)
	eventually(t, 60*time.Second, func() error {
		must(t, lab.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
		if pod.Status.Phase != corev1.PodRunning || pod.Status.PodIP == "" {
			return fmt.Errorf("pod %s is %s", name, pod.Status.Phase)
		}
		return nil
	})
	return name
}

func TestCustomEndpointSlice(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "192.0.2.143/32")
	d := deployment(t, ns, "web", 2)
	s := service(t, ns, "external", func(s *corev1.Service) { s.Spec.Selector = nil })
	target := address(t, s)
	unannounced(t, target.Addr())
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: ns, Name: "external-1", Labels: map[string]string{discoveryv1.LabelServiceName: "external"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(8080))}},
	}
	var want []string
	for _, p := range podsOf(t, d) {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{p.Status.PodIP}})
		want = append(want, p.Name)
	}
	create(t, slice)
	answers(t, target)
	eventually(t, 20*time.Second, func() error {
		r := burst(t, target, "/hostname")
		for _, name := range want {
			if r.Answers[name] == 0 || r.Failed > 0 {
				return fmt.Errorf("want answers from %v, got %+v", want, r)
			}
		}
		return nil
	})
}

func TestAffinityAndSourceRanges(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "192.0.2.144/32")
	deployment(t, ns, "web", 3)
	s := service(t, ns, "web", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })
	target := address(t, s)
	answers(t, target)
	if r := burst(t, target, "/hostname"); len(r.Answers) != 1 || r.Failed > 0 {
		t.Errorf("session affinity: want one pod for one client, got %+v", r)
	}
	patch(t, s, `{"spec":{"loadBalancerSourceRanges":["198.51.100.0/24"]}}`)
	silent(t, target)
	if r := burst(t, target, "/hostname"); r.Refused > 0 {
		t.Errorf("source ranges: want silence, but %d connections were refused", r.Refused)
	}
	patch(t, s, fmt.Sprintf(`{"spec":{"loadBalancerSourceRanges":["198.51.100.0/24","%s/32"]}}`, clientAddr))
	answers(t, target)
}

func TestLocalUsesOnlyTheOwnersPods(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "192.0.2.145/32")
	d := deployment(t, ns, "web", int32(len(nodes)), onePerNode)
	var on []string
	for _, p := range podsOf(t, d) {
		on = append(on, p.Spec.NodeName)
	}
	slices.Sort(on)
	if !slices.Equal(on, nodes) {
		t.Fatalf("pods are on %v, want one on each of %v", on, nodes)
	}
	s := service(t, ns, "web", func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal })
	target := address(t, s)
	answers(t, target)
	node := owner(t, target.Addr())
	r := burst(t, target, "/hostname")
	for _, p := range podsOf(t, d) {
		if (r.Answers[p.Name] > 0) != (p.Spec.NodeName == node) {
			t.Errorf("policy Local, announced by %s: pod %s on %s answered %d times", node, p.Name, p.Spec.NodeName, r.Answers[p.Name])
		}
	}
}
