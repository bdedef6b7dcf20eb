//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/test/cluster"
)

// After test/e2e/network/service.go and traffic_distribution.go, as far as endpoints change or are chosen.
var endpointSemantics = []semantic{
	{"refused without endpoints", 2, refusedWithoutEndpoints},
	{"refused after an eviction", 2, refusedAfterAnEviction},
	{"unready endpoints", 2, unreadyEndpoints},
	{"terminating endpoints, internal policies", 2, terminatingInternal},
	{"terminating endpoints, external policies", 2, terminatingExternal},
	{"the health check fails while endpoints terminate", 2, healthWhileTerminating},
	{"the same zone", 3, func(t *testing.T, ns string) { sameZone(t, ns, corev1.ServiceTrafficDistributionPreferSameZone) }},
	{"the same zone by its older name", 3, func(t *testing.T, ns string) { sameZone(t, ns, corev1.ServiceTrafficDistributionPreferClose) }},
	{"the same node", 2, sameNode},
}

func refusedWithoutEndpoints(t *testing.T, ns string) {
	from := servers(t, ns, "client", nodes[:1])[0]
	s := service(t, ns, "web", ofType(corev1.ServiceTypeNodePort), func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"203.0.113.251"} })
	for _, at := range []place{pod(from), host(nodes[0])} {
		refused(t, at, http(s.Spec.ClusterIP, 80))
		refused(t, at, udp(s.Spec.ClusterIP, 81))
		refused(t, at, http(nodeAddr(nodes[0]), portOf(s, "http").NodePort))
		refused(t, at, http("203.0.113.251", 80))
	}
	refused(t, outside(), http(nodeAddr(nodes[0]), portOf(s, "http").NodePort))
	refused(t, outside(), udp(nodeAddr(nodes[1]), portOf(s, "udp").NodePort))
}

func refusedAfterAnEviction(t *testing.T, ns string) {
	from := servers(t, ns, "client", nodes[:1])[0]
	server := servers(t, ns, "web", nodes[:1])
	s := clusterService(t, ns, "web")
	served(t, pod(from), http(s.Spec.ClusterIP, 80), server...)
	_, err := lab.Fairlab(t.Context(), "kubectl", "delete", "pod", "-n", ns, server[0].Name, "--wait=false") // as an eviction does
	must(t, err)
	refused(t, pod(from), http(s.Spec.ClusterIP, 80))
}

func unreadyEndpoints(t *testing.T, ns string) {
	from := servers(t, ns, "client", nodes[:1])[0]
	unready := servers(t, ns, "web", nodes[1:2], neverReady, lingering)
	s := service(t, ns, "web", ofType(corev1.ServiceTypeNodePort), func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true })
	to := []target{http(s.Spec.ClusterIP, 80), http(nodeAddr(nodes[0]), portOf(s, "http").NodePort)}
	all := func(check func(target)) {
		for _, x := range to {
			check(x)
		}
	}
	all(func(x target) { served(t, pod(from), x, unready...) })
	patch(t, s, `{"spec":{"publishNotReadyAddresses":false}}`)
	all(func(x target) { refused(t, pod(from), x) })
	remove(t, unready...) // terminating and not ready: only if published
	time.Sleep(time.Second)
	all(func(x target) { refused(t, pod(from), x) })
	patch(t, s, `{"spec":{"publishNotReadyAddresses":true}}`)
	all(func(x target) { served(t, pod(from), x, unready...) })
}

// terminatingServers runs two servers that are told to stop and serve on.
func terminatingServers(t *testing.T, ns string, on []string) []*corev1.Pod {
	t.Helper()
	pods := servers(t, ns, "web", on, lingering)
	remove(t, pods...)
	return pods
}

func terminatingInternal(t *testing.T, ns string) {
	clients := servers(t, ns, "client", nodes[:2])
	everyNode, here := clusterService(t, ns, "web"), clusterService(t, ns, "local", selecting("web"), internalLocal)
	last := terminatingServers(t, ns, nodes[:1])
	for _, c := range clients {
		served(t, pod(c), http(everyNode.Spec.ClusterIP, 80), last...)
	}
	served(t, pod(clients[0]), http(here.Spec.ClusterIP, 80), last...)
	dropped(t, pod(clients[1]), http(here.Spec.ClusterIP, 80))
}

func terminatingExternal(t *testing.T, ns string) {
	everyNode, here := service(t, ns, "web"), service(t, ns, "local", selecting("web"), externalLocal)
	vip := address(t, everyNode).Addr().String()
	local := current(t, here)
	last := terminatingServers(t, ns, nodes[:1])
	for _, node := range nodes[:2] {
		served(t, outside(), http(nodeAddr(node), portOf(everyNode, "http").NodePort), last...)
	}
	served(t, outside(), http(vip, 80), last...)
	served(t, outside(), http(nodeAddr(nodes[0]), portOf(local, "http").NodePort), last...)
	dropped(t, outside(), http(nodeAddr(nodes[1]), portOf(local, "http").NodePort))
}

func healthWhileTerminating(t *testing.T, ns string) {
	s := service(t, ns, "web", externalLocal)
	address(t, s)
	pods := servers(t, ns, "web", nodes[:1], lingering)
	port := s.Spec.HealthCheckNodePort
	healthPort(t, nodes[0], port, 200)
	remove(t, pods...)
	healthPort(t, nodes[0], port, 503)
	served(t, outside(), http(nodeAddr(nodes[0]), portOf(s, "http").NodePort), pods...)
}

// zoned puts the nodes into zones: the first is alone in its own.
func zoned(t *testing.T) {
	t.Helper()
	for i, node := range nodes {
		zone := "b"
		if i == 0 {
			zone = "a"
		}
		patch(t, &corev1.Node{ObjectMeta: objectMeta(client.ObjectKey{Name: node})}, fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, corev1.LabelTopologyZone, zone))
	}
}

func distributed(how string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.TrafficDistribution = &how }
}

func sameZone(t *testing.T, ns, how string) {
	zoned(t)
	pods := servers(t, ns, "web", nodes[:2])
	s := clusterService(t, ns, "web", distributed(how))
	for i, c := range servers(t, ns, "client", nodes[:3]) {
		served(t, pod(c), http(s.Spec.ClusterIP, 80), pods[min(i, 1)])
	}
}

func sameNode(t *testing.T, ns string) {
	pods := servers(t, ns, "web", nodes[:2])
	s := clusterService(t, ns, "web", distributed(corev1.ServiceTrafficDistributionPreferSameNode))
	clients := servers(t, ns, "client", nodes[:2])
	for i, c := range clients {
		served(t, pod(c), http(s.Spec.ClusterIP, 80), pods[i])
	}
	remove(t, pods[0])
	served(t, pod(clients[0]), http(s.Spec.ClusterIP, 80), pods[1])
}

// differs waits for longer than the timeout of the affinity, again and again, until another pod answers: one in four is the same
// by chance.
func differs(t *testing.T, to target, seconds int32) {
	t.Helper()
	seen := map[string]bool{}
	for range 12 {
		r, err := ask(t, outside(), to, "hostname")
		must(t, err)
		for answer := range r.Answers {
			seen[answer] = true
		}
		if len(seen) > 1 {
			return
		}
		time.Sleep(time.Duration(seconds)*time.Second + time.Second*cluster.Slow())
	}
	t.Errorf("%s: only %v answered in 12 rounds, each after the affinity has ended", to, slices.Collect(maps.Keys(seen)))
}
