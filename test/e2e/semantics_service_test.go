//go:build e2e

package e2e

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fairlead-lb/fairlead/test/cluster"
)

// After test/e2e/network/service.go, endpointslice.go and dual_stack.go, as far as Services, not endpoints, change.
var serviceSemantics = []semantic{
	{"several ports come and go", 2, severalPorts},
	{"named target ports differ", 2, namedTargetPorts},
	{"a ClusterIP keeps the source of a pod", 2, clusterIPKeepsTheSource},
	{"hairpin", 2, hairpin},
	{"services come and go beside others", 2, comeAndGo},
	{"external IPs", 2, externalIPs},
	{"external names", 2, externalNames},
	{"affinity is switched", 2, affinitySwitched},
	{"affinity times out", 2, affinityTimesOut},
	{"the label service-proxy-name", 2, proxyName},
	{"the label headless", 2, headlessLabel},
	{"internal policy Local", 2, internalPolicyLocal},
	{"node port, external policy Local", 2, nodePortLocal},
	{"external policy changes", 3, externalPolicyChanges},
	{"custom endpoint slices", 2, customSlices},
}

func clusterService(t *testing.T, ns, name string, changes ...func(*corev1.Service)) *corev1.Service {
	t.Helper()
	return service(t, ns, name, append([]func(*corev1.Service){ofType(corev1.ServiceTypeClusterIP)}, changes...)...)
}

func severalPorts(t *testing.T, ns string) {
	pods := servers(t, ns, "web", nodes[:2])
	s := clusterService(t, ns, "web", only("http"))
	from := pod(servers(t, ns, "client", nodes[:1])[0])
	served(t, from, http(s.Spec.ClusterIP, 80), pods...)
	refused(t, from, udp(s.Spec.ClusterIP, 81))
	patch(t, s, `{"spec":{"ports":[{"name":"http","port":80,"targetPort":8080},{"name":"udp","protocol":"UDP","port":81,"targetPort":8081}]}}`)
	served(t, from, udp(s.Spec.ClusterIP, 81), pods...)
	served(t, from, http(s.Spec.ClusterIP, 80), pods...)
	patch(t, s, `{"spec":{"ports":[{"name":"udp","protocol":"UDP","port":81,"targetPort":8081}]}}`)
	unserved(t, from, http(s.Spec.ClusterIP, 80))
	served(t, from, udp(s.Spec.ClusterIP, 81), pods...)
}

// namedPort gives the pod's HTTP port a name.
func namedPort(port int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		listening(int(port), 8081)(p)
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "web", ContainerPort: port}}
	}
}

func namedTargetPorts(t *testing.T, ns string) {
	one := servers(t, ns, "one", nodes[:1], namedPort(8080), func(p *corev1.Pod) { p.Labels["app"] = "web" })
	two := servers(t, ns, "two", nodes[1:2], namedPort(9090), func(p *corev1.Pod) { p.Labels["app"] = "web" })
	s := service(t, ns, "web", only("http"), func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("web") })
	vip := address(t, s).Addr().String()
	served(t, outside(), http(vip, 80), one[0], two[0])
	served(t, pod(one[0]), http(s.Spec.ClusterIP, 80), one[0], two[0])
}

func clusterIPKeepsTheSource(t *testing.T, ns string) {
	server := servers(t, ns, "web", nodes[:1])
	s := clusterService(t, ns, "web")
	for _, c := range servers(t, ns, "client", nodes[:2]) {
		served(t, pod(c), http(s.Spec.ClusterIP, 80), server...)
		seenAs(t, pod(c), http(s.Spec.ClusterIP, 80), c.Status.PodIP)
	}
}

func hairpin(t *testing.T, ns string) {
	self := servers(t, ns, "web", nodes[:1])
	s := service(t, ns, "web")
	vip := address(t, s).Addr().String()
	for _, to := range []target{http(s.Spec.ClusterIP, 80), udp(s.Spec.ClusterIP, 81), http(vip, 80), udp(vip, 81)} {
		served(t, pod(self[0]), to, self...)
	}
}

func comeAndGo(t *testing.T, ns string) {
	first, second := servers(t, ns, "first", nodes[:2]), servers(t, ns, "second", nodes[:2])
	a, b := service(t, ns, "first"), service(t, ns, "second")
	vipA, vipB := address(t, a).Addr().String(), address(t, b).Addr().String()
	served(t, outside(), http(vipA, 80), first...)
	served(t, outside(), http(vipB, 80), second...)
	served(t, pod(second[0]), http(a.Spec.ClusterIP, 80), first...)
	must(t, lab.Client.Delete(t.Context(), a))
	unserved(t, outside(), http(vipA, 80))
	unserved(t, pod(second[0]), http(a.Spec.ClusterIP, 80))
	served(t, outside(), http(vipB, 80), second...)
	served(t, pod(first[0]), http(b.Spec.ClusterIP, 80), second...)
	again := service(t, ns, "first")
	served(t, outside(), http(address(t, again).Addr().String(), 80), first...)
	served(t, pod(second[0]), http(again.Spec.ClusterIP, 80), first...)
}

// The address is on no node; it is reached from pods and nodes.
func externalIPs(t *testing.T, ns string) {
	const ip = "203.0.113.250"
	pods := servers(t, ns, "web", nodes[:2])
	clusterService(t, ns, "web", func(s *corev1.Service) { s.Spec.ExternalIPs = []string{ip} })
	served(t, pod(pods[0]), http(ip, 80), pods...)
	served(t, pod(pods[1]), udp(ip, 81), pods...)
	served(t, host(nodes[0]), http(ip, 80), pods...)
}

func externalNames(t *testing.T, ns string) {
	pods := servers(t, ns, "web", nodes[:2])
	s := clusterService(t, ns, "web", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalName, s.Spec.Ports, s.Spec.Selector = corev1.ServiceTypeExternalName, "example.com", nil, nil
	})
	const ports = `"ports":[{"name":"http","port":80,"targetPort":8080},{"name":"udp","protocol":"UDP","port":81,"targetPort":8081}]`
	patch(t, s, `{"spec":{"type":"ClusterIP","externalName":null,"selector":{"app":"web"},`+ports+`}}`)
	ip := current(t, s).Spec.ClusterIP
	served(t, pod(pods[0]), http(ip, 80), pods...)
	patch(t, s, `{"spec":{"type":"ExternalName","externalName":"example.com","clusterIP":null,"clusterIPs":null,"ports":null,"ipFamilies":null,"ipFamilyPolicy":null}}`)
	unserved(t, pod(pods[0]), http(ip, 80))
	patch(t, s, `{"spec":{"type":"NodePort","externalName":null,`+ports+`}}`)
	everywhere(t, current(t, s), pods...)
	port := portOf(s, "http").NodePort
	patch(t, s, `{"spec":{"type":"ExternalName","externalName":"example.com","clusterIP":null,"clusterIPs":null,"ports":null,"ipFamilies":null,"ipFamilyPolicy":null,"internalTrafficPolicy":null,"externalTrafficPolicy":null}}`)
	unserved(t, outside(), http(nodeAddr(nodes[0]), port))
}

func affinitySwitched(t *testing.T, ns string) {
	pods := servers(t, ns, "web", []string{nodes[0], nodes[1], nodes[0]})
	from := pod(servers(t, ns, "client", nodes[:1])[0])
	s := service(t, ns, "web", ofType(corev1.ServiceTypeNodePort), affinity)
	clusterIP, nodePort := http(s.Spec.ClusterIP, 80), http(nodeAddr(nodes[1]), portOf(s, "http").NodePort)
	oneOf(t, from, clusterIP)
	oneOf(t, outside(), nodePort)
	patch(t, s, `{"spec":{"sessionAffinity":"None","sessionAffinityConfig":null}}`)
	served(t, from, clusterIP, pods...)
	served(t, outside(), nodePort, pods...)
	patch(t, s, `{"spec":{"sessionAffinity":"ClientIP"}}`)
	oneOf(t, from, clusterIP)
	oneOf(t, outside(), nodePort)
}

// Upstream waits for 130 s with a timeout of 125 s, for the sake of IPVS, whose memory of a client lives on with its closed
// connections for two minutes; those of these clients are in TIME_WAIT at the server.
func affinityTimesOut(t *testing.T, ns string) {
	servers(t, ns, "web", []string{nodes[0], nodes[1], nodes[0], nodes[1]})
	seconds := 2 * int32(cluster.Slow())
	vip := address(t, service(t, ns, "web", affinity, func(s *corev1.Service) {
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
	})).Addr().String()
	oneOf(t, outside(), http(vip, 80))
	if engine() == "ipvs" { // it looks once a minute whether the last of them is gone
		seconds = 190
	}
	differs(t, http(vip, 80), seconds)
}

// A Service with the label is left to others, while it has it.
func proxyName(t *testing.T, ns string) {
	const label = "service.kubernetes.io/service-proxy-name"
	pods := servers(t, ns, "web", nodes[:2])
	from := pod(pods[0])
	with := clusterService(t, ns, "web", func(s *corev1.Service) { s.Labels = map[string]string{label: "somebody"} })
	without := clusterService(t, ns, "other", selecting("web"))
	served(t, from, http(without.Spec.ClusterIP, 80), pods...)
	unserved(t, from, http(with.Spec.ClusterIP, 80))
	patch(t, with, fmt.Sprintf(`{"metadata":{"labels":{%q:null}}}`, label))
	served(t, from, http(with.Spec.ClusterIP, 80), pods...)
	patch(t, with, fmt.Sprintf(`{"metadata":{"labels":{%q:"somebody"}}}`, label))
	unserved(t, from, http(with.Spec.ClusterIP, 80))
	served(t, from, http(without.Spec.ClusterIP, 80), pods...)
}

// A slice with the label does not count, while it has it.
func headlessLabel(t *testing.T, ns string) {
	p := servers(t, ns, "web", nodes[:1])
	from := pod(servers(t, ns, "client", nodes[1:2])[0])
	s := clusterService(t, ns, "web", only("http"), func(s *corev1.Service) { s.Spec.Selector = nil })
	slice := handMade(t, ns, "web", "web", 8080, p[0])
	served(t, from, http(s.Spec.ClusterIP, 80), p...)
	patch(t, slice, `{"metadata":{"labels":{"service.kubernetes.io/headless":""}}}`)
	refused(t, from, http(s.Spec.ClusterIP, 80))
	patch(t, slice, `{"metadata":{"labels":{"service.kubernetes.io/headless":null}}}`)
	served(t, from, http(s.Spec.ClusterIP, 80), p...)
}

// handMade makes an EndpointSlice with one pod behind the port http of a Service.
func handMade(t *testing.T, ns, service, name string, port int32, p *corev1.Pod) *discoveryv1.EndpointSlice {
	t.Helper()
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: ns, Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Protocol: new(corev1.ProtocolTCP), Port: &port}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{p.Status.PodIP}, NodeName: &p.Spec.NodeName}},
	}
	create(t, slice)
	return slice
}

func internalPolicyLocal(t *testing.T, ns string) {
	server := servers(t, ns, "web", nodes[:1])
	clients := servers(t, ns, "client", nodes[:2])
	s := clusterService(t, ns, "web", internalLocal)
	served(t, pod(clients[0]), http(s.Spec.ClusterIP, 80), server...)
	served(t, host(nodes[0]), http(s.Spec.ClusterIP, 80), server...)
	dropped(t, pod(clients[1]), http(s.Spec.ClusterIP, 80))
	dropped(t, host(nodes[1]), http(s.Spec.ClusterIP, 80))

	onHost := servers(t, ns, "host", nodes[:1], hostNetwork(18080, 18081))
	h := clusterService(t, ns, "host", internalLocal, func(s *corev1.Service) {
		s.Spec.Ports[0].TargetPort, s.Spec.Ports[1].TargetPort = intstr.FromInt32(18080), intstr.FromInt32(18081)
	})
	served(t, pod(clients[0]), http(h.Spec.ClusterIP, 80), onHost...)
	served(t, host(nodes[0]), http(h.Spec.ClusterIP, 80), onHost...)
	dropped(t, pod(clients[1]), http(h.Spec.ClusterIP, 80))
}

// A client on one node reaches the node port of the endpoint's node and is not masqueraded there.
func nodePortLocal(t *testing.T, ns string) {
	server := servers(t, ns, "web", nodes[:1])
	s := service(t, ns, "web", ofType(corev1.ServiceTypeNodePort), externalLocal)
	to := http(nodeAddr(nodes[0]), portOf(s, "http").NodePort)
	served(t, host(nodes[1]), to, server...)
	seenAs(t, host(nodes[1]), to, nodeAddr(nodes[1]))
	seenAs(t, outside(), to, clientAddr)
	dropped(t, outside(), http(nodeAddr(nodes[1]), portOf(s, "http").NodePort))
}

// NodePort and HealthCheckNodePort across changes of the policy: nodes[0] has the endpoint, nodes[1] the client.
func externalPolicyChanges(t *testing.T, ns string) {
	server := servers(t, ns, "web", nodes[:1])
	s := service(t, ns, "web", externalLocal)
	address(t, s)
	port, health := portOf(s, "http").NodePort, s.Spec.HealthCheckNodePort
	local := func() {
		t.Helper()
		healthPort(t, nodes[0], health, 200)
		healthPort(t, nodes[1], health, 503)
		healthPort(t, nodes[2], health, 503)
		from := host(nodes[1])
		served(t, from, http(nodeAddr(nodes[0]), port), server...)
		served(t, from, http(nodeAddr(nodes[1]), port), server...) // its own node serves its own clients from everywhere
		dropped(t, from, http(nodeAddr(nodes[2]), port))
	}
	local()
	patch(t, s, `{"spec":{"externalTrafficPolicy":"Cluster","healthCheckNodePort":0}}`)
	for _, node := range nodes[:3] {
		healthPort(t, node, health, 0)
		served(t, host(nodes[1]), http(nodeAddr(node), port), server...)
	}
	patch(t, s, fmt.Sprintf(`{"spec":{"externalTrafficPolicy":"Local","healthCheckNodePort":%d}}`, health))
	local()
}

// One Service is fed by two slices of its own, with other addresses and other ports.
func customSlices(t *testing.T, ns string) {
	one := servers(t, ns, "one", nodes[:1])
	two := servers(t, ns, "two", nodes[1:2], listening(9090, 9091))
	s := service(t, ns, "web", only("http"), func(s *corev1.Service) { s.Spec.Selector = nil })
	handMade(t, ns, "web", "one", 8080, one[0])
	handMade(t, ns, "web", "two", 9090, two[0])
	served(t, outside(), http(address(t, s).Addr().String(), 80), one[0], two[0])
	served(t, pod(one[0]), http(s.Spec.ClusterIP, 80), one[0], two[0])
}
