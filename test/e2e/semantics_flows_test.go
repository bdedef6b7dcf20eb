//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/test/cluster"
	"github.com/fairlead-lb/fairlead/test/probe"
)

// After test/e2e/network/conntrack.go: a UDP flow that never changes its port goes where the Service sends it now, not where the network
// remembers.
var flowSemantics = []semantic{
	{"a UDP flow follows the pods, node port", 2, func(t *testing.T, ns string) {
		flowFollows(t, ns, ofType(corev1.ServiceTypeNodePort), outside, func(s *corev1.Service) target { return udp(nodeAddr(nodes[0]), portOf(s, "udp").NodePort) })
	}},
	{"a UDP flow follows the pods, load balancer", 2, func(t *testing.T, ns string) {
		flowFollows(t, ns, ofType(corev1.ServiceTypeLoadBalancer), outside, func(s *corev1.Service) target { return udp(address(t, s).Addr().String(), 81) })
	}},
	{"a UDP flow follows the pods to another node", 2, func(t *testing.T, ns string) {
		f, first := firstFlow(t, ns, ofType(corev1.ServiceTypeLoadBalancer), outside, func(s *corev1.Service) target { return udp(address(t, s).Addr().String(), 81) })
		f.follows(t, ns, first, nodes[1])
	}},
	{"a UDP flow follows the pods, ClusterIP and hostNetwork", 2, func(t *testing.T, ns string) {
		flowFollows(t, ns, ofType(corev1.ServiceTypeClusterIP), func() place { return host(nodes[0]) }, clusterUDP)
	}},
	{"a UDP flow follows the pods, ClusterIP and pod", 2, func(t *testing.T, ns string) {
		from := pod(servers(t, ns, "client", nodes[:1])[0])
		flowFollows(t, ns, ofType(corev1.ServiceTypeClusterIP), func() place { return from }, clusterUDP)
	}},
	{"a UDP flow follows the pods, internal policy Local", 2, func(t *testing.T, ns string) {
		from := pod(servers(t, ns, "client", nodes[:1])[0])
		flowFollows(t, ns, func(s *corev1.Service) { ofType(corev1.ServiceTypeClusterIP)(s); internalLocal(s) }, func() place { return from }, clusterUDP)
	}},
	{"a UDP flow finds pods that become ready", 2, flowFindsReadyPods},
	{"a UDP flow follows the target port", 2, flowFollowsTheTargetPort},
	{"large messages", 2, largeMessages},
}

func clusterUDP(s *corev1.Service) target { return udp(s.Spec.ClusterIP, 81) }

// flow sends datagrams from one port, all the time, until the test ends or stop is called. The latest answer is what counts.
type flow struct {
	from place
	to   target
	port int
}

// reaches waits until the flow is answered by one pod, and by no other any more.
func (f flow) reaches(t *testing.T, p *corev1.Pod) {
	t.Helper()
	eventually(t, whenSettled, func() error {
		r, err := f.ask(t.Context(), 1500*time.Millisecond)
		if err != nil {
			return err
		}
		if r.Answers[hostname(p)] == 0 || len(r.Answers) > 1 || r.Answers[hostname(p)] < r.Attempts-1 {
			return fmt.Errorf("%s to %s from port %d: want answers from %s only, got %+v", f.from.name, f.to, f.port, p.Name, r)
		}
		return nil
	})
}

func (f flow) ask(ctx context.Context, length time.Duration) (r probe.Report, err error) {
	out, err := f.from.run(ctx, filepath.Join(f.from.bin, "probe"), "udp", f.to.AddrPort.String(), "-port", fmt.Sprint(f.port), "-message", "hostname",
		"-interval", (250 * time.Millisecond * cluster.Slow()).String(), "-timeout", (200 * time.Millisecond * cluster.Slow()).String(), "-for", (length * cluster.Slow()).String())
	if err == nil {
		err = json.Unmarshal([]byte(out), &r)
	}
	return r, err
}

// firstFlow is a flow that is served by the only pod of a Service.
func firstFlow(t *testing.T, ns string, kind func(*corev1.Service), from func() place, to func(*corev1.Service) target) (flow, *corev1.Pod) {
	t.Helper()
	s := service(t, ns, "web", kind)
	first := servers(t, ns, "web", nodes[:1])[0]
	f := flow{from(), to(s), 12345}
	f.reaches(t, first)
	return f, first
}

// follows replaces the only pod of a flow by one on the node.
func (f flow) follows(t *testing.T, ns string, first *corev1.Pod, node string) {
	t.Helper()
	second := servers(t, ns, "second", []string{node}, func(p *corev1.Pod) { p.Labels["app"] = "web" })
	remove(t, first)
	f.reaches(t, second[0])
}

func flowFollows(t *testing.T, ns string, kind func(*corev1.Service), from func() place, to func(*corev1.Service) target) {
	t.Helper()
	f, first := firstFlow(t, ns, kind, from, to)
	f.follows(t, ns, first, nodes[0])
}

// A flow that was sent into the void while no endpoint was ready is not lost for ever.
func flowFindsReadyPods(t *testing.T, ns string) {
	s := service(t, ns, "web", ofType(corev1.ServiceTypeNodePort))
	f := flow{outside(), udp(nodeAddr(nodes[0]), portOf(s, "udp").NodePort), 12345}
	r, err := f.ask(t.Context(), time.Second)
	must(t, err)
	if r.OK > 0 {
		t.Fatalf("answers without a server: %+v", r)
	}
	f.reaches(t, servers(t, ns, "web", nodes[:1])[0])
}

func flowFollowsTheTargetPort(t *testing.T, ns string) {
	s := service(t, ns, "web", ofType(corev1.ServiceTypeNodePort), only("udp"))
	both := func(name string, port int) *corev1.Pod {
		return servers(t, ns, name, nodes[:1], listening(8080, port), func(p *corev1.Pod) { p.Labels["app"] = "web" })[0]
	}
	one := both("one", 8081)
	f := flow{outside(), udp(nodeAddr(nodes[0]), portOf(s, "udp").NodePort), 12345}
	f.reaches(t, one)
	two := both("two", 9091)
	patch(t, s, fmt.Sprintf(`{"spec":{"ports":[{"name":"udp","protocol":"UDP","port":81,"targetPort":%d,"nodePort":%d}]}}`, 9091, f.to.Port()))
	remove(t, one)
	f.reaches(t, two)
}

// 2,000 bytes do not fit into a packet.
func largeMessages(t *testing.T, ns string) {
	servers(t, ns, "web", nodes[:1])
	vip := address(t, service(t, ns, "web")).Addr().String()
	big := make([]byte, 2000)
	for i := range big {
		big[i] = 'a' + byte(i%26)
	}
	for _, to := range []target{http(vip, 80), udp(vip, 81)} {
		eventually(t, whenSettled, func() error {
			flag, text := "-path", "/echo?msg="+string(big)
			if to.protocol == "udp" {
				flag, text = "-message", "echo "+string(big)
			}
			out, err := outside().run(t.Context(), filepath.Join(lab.Bin, "probe"), to.protocol, to.AddrPort.String(), flag, text, "-interval", "50ms", "-for", "190ms")
			if err != nil {
				return err
			}
			var r probe.Report
			must(t, json.Unmarshal([]byte(out), &r))
			if r.Answers[string(big)] != r.Attempts {
				return fmt.Errorf("%s: %d of %d messages of 2,000 bytes came back whole: %v", to, r.Answers[string(big)], r.Attempts, r.Errors)
			}
			return nil
		})
	}
}
