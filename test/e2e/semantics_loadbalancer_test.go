//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// After test/e2e/network/loadbalancer.go.
var loadBalancerSemantics = []semantic{
	{"types and ports change", 2, typesAndPortsChange},
	{"source ranges", 2, sourceRanges},
	{"affinity of a load balancer, policy Cluster", 2, func(t *testing.T, ns string) { loadBalancerAffinity(t, ns) }},
	{"affinity of a load balancer, policy Local", 2, func(t *testing.T, ns string) { loadBalancerAffinity(t, ns, externalLocal) }},
	{"without node ports", 2, withoutNodePorts},
	{"policy Local keeps the source", 2, localKeepsTheSource},
	{"policy Local follows the endpoints", 2, localFollowsTheEndpoints},
	{"policy Local from pods", 2, localFromPods},
	{"policy Local while endpoints are updated", 2, localRollingUpdate},
	{"a load balancer of two protocols", 2, twoProtocols},
}

// current reads the Service anew.
func current(t *testing.T, s *corev1.Service) *corev1.Service {
	t.Helper()
	must(t, lab.Client.Get(t.Context(), client.ObjectKeyFromObject(s), s))
	return s
}

func portOf(s *corev1.Service, name string) corev1.ServicePort {
	return s.Spec.Ports[slices.IndexFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == name })]
}

// freeNodePort returns a node port that no Service has: the API server gives them out from further up.
func freeNodePort(t *testing.T) int32 {
	t.Helper()
	var list corev1.ServiceList
	must(t, lab.Client.List(t.Context(), &list))
	used := map[int32]bool{}
	for _, s := range list.Items {
		used[s.Spec.HealthCheckNodePort] = true
		for _, p := range s.Spec.Ports {
			used[p.NodePort] = true
		}
	}
	for port := int32(30000); ; port++ {
		if !used[port] {
			return port
		}
	}
}

// everywhere checks that the node ports of a Service are served at every node.
func everywhere(t *testing.T, s *corev1.Service, by ...*corev1.Pod) {
	t.Helper()
	for _, node := range nodes {
		served(t, outside(), http(nodeAddr(node), portOf(s, "http").NodePort), by...)
		served(t, outside(), udp(nodeAddr(node), portOf(s, "udp").NodePort), by...)
	}
}

func typesAndPortsChange(t *testing.T, ns string) {
	pods := servers(t, ns, "web", nodes[:2])
	s := service(t, ns, "web", ofType(corev1.ServiceTypeClusterIP))
	cluster := s.Spec.ClusterIP
	served(t, pod(pods[0]), http(cluster, 80), pods...)
	served(t, pod(pods[0]), udp(cluster, 81), pods...)

	patch(t, s, `{"spec":{"type":"NodePort"}}`)
	everywhere(t, s, pods...)

	patch(t, s, `{"spec":{"type":"LoadBalancer"}}`)
	vip := address(t, s).Addr().String()
	served(t, outside(), http(vip, 80), pods...)
	served(t, outside(), udp(vip, 81), pods...)
	everywhere(t, s, pods...)

	before := portOf(s, "http").NodePort
	patch(t, s, fmt.Sprintf(`{"spec":{"ports":[{"name":"http","port":80,"targetPort":8080,"nodePort":%d},{"name":"udp","protocol":"UDP","port":81,"targetPort":8081}]}}`, freeNodePort(t)))
	everywhere(t, s, pods...)
	unserved(t, outside(), http(nodeAddr(nodes[0]), before))

	patch(t, s, `{"spec":{"ports":[{"name":"http","port":8000,"targetPort":8080},{"name":"udp","protocol":"UDP","port":8001,"targetPort":8081}]}}`)
	served(t, outside(), http(vip, 8000), pods...)
	served(t, outside(), udp(vip, 8001), pods...)
	unserved(t, outside(), http(vip, 80))
	unserved(t, outside(), udp(vip, 81))

	remove(t, pods...)
	refused(t, host(nodes[0]), http(cluster, 8000))
	unserved(t, outside(), http(vip, 8000))
	unserved(t, outside(), udp(vip, 8001))
	again := servers(t, ns, "again", nodes[:1], func(p *corev1.Pod) { p.Labels["app"] = "web" })
	served(t, outside(), http(vip, 8000), again...)
	served(t, outside(), udp(vip, 8001), again...)

	last := portOf(current(t, s), "http").NodePort
	patch(t, s, `{"spec":{"type":"ClusterIP"}}`)
	unserved(t, outside(), http(vip, 8000))
	unserved(t, outside(), udp(vip, 8001))
	unserved(t, outside(), http(nodeAddr(nodes[0]), last))
	served(t, pod(again[0]), http(cluster, 8000), again...)
}

func sourceRanges(t *testing.T, ns string) {
	pods := servers(t, ns, "web", nodes[:2])
	clients := servers(t, ns, "client", nodes[:2])
	s := service(t, ns, "web")
	vip := address(t, s).Addr().String()
	served(t, outside(), http(vip, 80), pods...)
	for i, allowed := range clients {
		patch(t, s, fmt.Sprintf(`{"spec":{"loadBalancerSourceRanges":["%s/32"]}}`, allowed.Status.PodIP))
		served(t, pod(allowed), http(vip, 80), pods...)
		dropped(t, pod(clients[1-i]), http(vip, 80))
		dropped(t, outside(), http(vip, 80))
		dropped(t, outside(), udp(vip, 81))
	}
	patch(t, s, `{"spec":{"loadBalancerSourceRanges":null}}`)
	served(t, outside(), http(vip, 80), pods...)
	served(t, outside(), udp(vip, 81), pods...)
	for _, c := range clients {
		served(t, pod(c), http(vip, 80), pods...)
	}
}

// oneOf waits until all connections of a client are answered by the same pod, whichever it is.
func oneOf(t *testing.T, from place, to target) {
	t.Helper()
	eventually(t, whenSettled, func() error {
		r, err := ask(t, from, to, "hostname")
		if err == nil && (r.Failed > 0 || len(r.Answers) != 1) {
			err = fmt.Errorf("%s to %s: want one pod for one client, got %+v", from.name, to, r)
		}
		return err
	})
}

func loadBalancerAffinity(t *testing.T, ns string, changes ...func(*corev1.Service)) {
	pods := servers(t, ns, "web", []string{nodes[0], nodes[0], nodes[0]})
	s := service(t, ns, "web", append(changes, affinity)...)
	vip := address(t, s).Addr().String()
	oneOf(t, outside(), http(vip, 80))
	patch(t, s, `{"spec":{"sessionAffinity":"None","sessionAffinityConfig":null}}`)
	served(t, outside(), http(vip, 80), pods...)
	patch(t, s, `{"spec":{"sessionAffinity":"ClientIP"}}`)
	oneOf(t, outside(), http(vip, 80))
}

func withoutNodePorts(t *testing.T, ns string) {
	pods := servers(t, ns, "web", nodes[:2])
	s := service(t, ns, "web", func(s *corev1.Service) { s.Spec.AllocateLoadBalancerNodePorts = new(false) })
	vip := address(t, s).Addr().String()
	if port := portOf(s, "http").NodePort; port != 0 {
		t.Fatalf("node port %d was allocated", port)
	}
	served(t, outside(), http(vip, 80), pods...)
	patch(t, s, `{"spec":{"allocateLoadBalancerNodePorts":true}}`)
	everywhere(t, s, pods...)
	served(t, outside(), http(vip, 80), pods...)
}

func localKeepsTheSource(t *testing.T, ns string) {
	servers(t, ns, "web", nodes[:1])
	s := service(t, ns, "web", externalLocal)
	vip := address(t, s).Addr().String()
	seenAs(t, outside(), http(vip, 80), clientAddr)
	seenAs(t, outside(), udp(vip, 81), clientAddr)
	port := current(t, s).Spec.HealthCheckNodePort
	healthPort(t, nodes[0], port, 200)
	patch(t, s, `{"spec":{"type":"ClusterIP"}}`)
	for _, node := range nodes {
		healthPort(t, node, port, 0)
	}
}

func localFollowsTheEndpoints(t *testing.T, ns string) {
	s := service(t, ns, "web", externalLocal, selecting("web"))
	vip := address(t, s)
	port := current(t, s).Spec.HealthCheckNodePort
	for _, node := range nodes {
		healthPort(t, node, port, 503)
	}
	for i, node := range nodes[:2] {
		one := servers(t, ns, fmt.Sprintf("web-%d", i), []string{node}, func(p *corev1.Pod) { p.Labels["app"] = "web" })
		for _, n := range nodes {
			want := 503
			if n == node {
				want = 200
			}
			healthPort(t, n, port, want)
		}
		served(t, outside(), http(vip.Addr().String(), 80), one...)
		if got := owner(t, vip.Addr()); got != node {
			t.Errorf("%s announces, the endpoint is on %s", got, node)
		}
		remove(t, one...)
	}
}

func localFromPods(t *testing.T, ns string) {
	pods := servers(t, ns, "web", nodes[:1])
	clients := servers(t, ns, "client", nodes[:2])
	vip := address(t, service(t, ns, "web", externalLocal)).Addr().String()
	for _, c := range clients {
		served(t, pod(c), http(vip, 80), pods...)
		seenAs(t, pod(c), http(vip, 80), c.Status.PodIP)
	}
}

// At least 95 of 100 connections, as upstream asks for.
func localRollingUpdate(t *testing.T, ns string) {
	d := deployment(t, ns, "web", int32(len(nodes)), onePerNode)
	to := address(t, service(t, ns, "web", externalLocal))
	answers(t, to)
	wait := meanwhile(t, to, 20*time.Millisecond, 5*time.Second)
	patch(t, d, `{"spec":{"template":{"metadata":{"annotations":{"rolled":"once"}}}}}`)
	rolledOut(t, d)
	r := wait()
	if r.OK*100 < r.Attempts*95 {
		t.Errorf("%d of %d connections failed: %v", r.Failed, r.Attempts, r.Errors)
	}
	t.Logf("%d connections over a rolling update with policy Local, %d failed, longest gap %.0f ms", r.Attempts, r.Failed, r.LongestGap)
}

// The same number for TCP and UDP, from inside too.
func twoProtocols(t *testing.T, ns string) {
	pods := servers(t, ns, "web", nodes[:2])
	s := service(t, ns, "web", func(s *corev1.Service) { s.Spec.Ports[1].Port = 80 })
	vip := address(t, s).Addr().String()
	for _, from := range []place{outside(), pod(pods[0])} {
		served(t, from, http(vip, 80), pods...)
		served(t, from, udp(vip, 80), pods...)
		if from.name != outside().name {
			served(t, from, http(s.Spec.ClusterIP, 80), pods...)
			served(t, from, udp(s.Spec.ClusterIP, 80), pods...)
		}
	}
}
