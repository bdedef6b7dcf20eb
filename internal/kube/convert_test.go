package kube

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

func ptr[T any](v T) *T { return &v }

var compareAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
var comparePrefixes = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
var compareAddrPorts = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// web is the Service that the tests start from.
func web(edits ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u1", ResourceVersion: "7", Annotations: map[string]string{}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			IPFamilyPolicy: ptr(corev1.IPFamilyPolicySingleStack),
			Selector:       map[string]string{"b": "2", "a": "1"},
			Ports:          []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
		},
	}
	for _, edit := range edits {
		edit(s)
	}
	return s
}

func annotated(pairs ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		for i := 0; i < len(pairs); i += 2 {
			s.Annotations[pairs[i]] = pairs[i+1]
		}
	}
}

func TestService(t *testing.T) {
	plain := func(edits ...func(*lb.Service)) lb.Service {
		s := lb.Service{
			Key: lb.ServiceKey{Namespace: "default", Name: "web"}, UID: "u1", NamespaceLabels: map[string]string{"team": "x"},
			Families: []lb.Family{lb.IPv4}, FamilyPolicy: lb.SingleStack, ExternalTrafficPolicy: lb.Cluster, InternalTrafficPolicy: lb.Cluster,
			Selector: "a=1,b=2", Ports: []lb.Port{{Name: "http", Protocol: lb.TCP, Port: 80}},
		}
		for _, edit := range edits {
			edit(&s)
		}
		return s
	}
	for name, c := range map[string]struct {
		in   *corev1.Service
		want lb.Service
	}{
		"plain": {web(), plain()},
		"everything": {
			web(func(s *corev1.Service) {
				s.Labels = map[string]string{"l": "v"}
				s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
				s.Spec.IPFamilyPolicy = ptr(corev1.IPFamilyPolicyRequireDualStack)
				s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
				s.Spec.HealthCheckNodePort = 30123
				s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
				s.Spec.LoadBalancerSourceRanges = []string{"10.0.0.0/8", " 2001:db8::/32", "010.1.2.3/16"}
				s.Spec.Selector = nil
				s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53}, corev1.ServicePort{Port: 81})
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}, {Hostname: "h"}, {IP: "2001:db8::1", IPMode: ptr(corev1.LoadBalancerIPModeProxy)}}
			}),
			plain(func(s *lb.Service) {
				s.Labels = map[string]string{"l": "v"}
				s.Families, s.FamilyPolicy, s.ExternalTrafficPolicy = []lb.Family{lb.IPv6, lb.IPv4}, lb.RequireDualStack, lb.Local
				s.HealthCheckNodePort = 30123
				s.SessionAffinity, s.Selector = 3*time.Hour, ""
				s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("10.1.0.0/16")}
				s.Ports = append(s.Ports, lb.Port{Name: "dns", Protocol: lb.UDP, Port: 53}, lb.Port{Protocol: lb.TCP, Port: 81})
				s.Ingress = []lb.Ingress{{Addr: addr("192.0.2.1"), Mode: lb.ModeVIP}, {Addr: addr("2001:db8::1"), Mode: lb.ModeProxy}}
			}),
		},
		"a health check node port without a use": { // while the policy changes
			web(func(s *corev1.Service) { s.Spec.HealthCheckNodePort = 30123 }),
			plain(),
		},
		"affinity with timeout": {
			web(func(s *corev1.Service) {
				s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
				s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(int32(60))}}
			}),
			plain(func(s *lb.Service) { s.SessionAffinity = time.Minute }),
		},
		"no families": {
			web(func(s *corev1.Service) { s.Spec.IPFamilies, s.Spec.ClusterIPs = nil, []string{"10.96.0.9"} }),
			plain(),
		},
		"release": {
			web(annotated("fairlead.dev/release", "true")),
			plain(func(s *lb.Service) { s.Release = true }),
		},
		"no release": {web(annotated("fairlead.dev/release", "false")), plain()},
		"wishes": {
			web(annotated("fairlead.dev/address-pool", "p", "fairlead.dev/loadBalancerIPs", "192.0.2.7, 2001:db8::7", "fairlead.dev/allow-shared-ip", "k", "fairlead.dev/ip-allocated-from-pool", "q")),
			plain(func(s *lb.Service) {
				s.RequestedPool, s.RequestedAddrs, s.SharingKey, s.Pool = "p", []netip.Addr{addr("192.0.2.7"), addr("2001:db8::7")}, "k", "q"
			}),
		},
		"MetalLB's names": {
			web(annotated("metallb.io/address-pool", "p", "metallb.universe.tf/loadBalancerIPs", "192.0.2.7", "metallb.universe.tf/allow-shared-ip", "k", "metallb.io/ip-allocated-from-pool", "q")),
			plain(func(s *lb.Service) {
				s.RequestedPool, s.RequestedAddrs, s.SharingKey, s.Pool = "p", []netip.Addr{addr("192.0.2.7")}, "k", "q"
			}),
		},
		"our report before MetalLB's": {
			web(annotated("fairlead.dev/ip-allocated-from-pool", "new", "metallb.io/ip-allocated-from-pool", "old")),
			plain(func(s *lb.Service) { s.Pool = "new" }),
		},
		"loadBalancerIP": {
			web(func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.7" }, annotated("metallb.io/loadBalancerIPs", "192.0.2.7")),
			plain(func(s *lb.Service) { s.RequestedAddrs = []netip.Addr{addr("192.0.2.7")} }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.Labels = c.in.Labels
			got, refusal := Service(c.in, map[string]string{"team": "x"})
			if diff := cmp.Diff(c.want, got, compareAddrs, comparePrefixes); diff != "" || !refusal.OK() {
				t.Errorf("refusal %q; -want +got:\n%s", refusal, diff)
			}
		})
	}
}

func TestServiceRefusesWhatItCannotRead(t *testing.T) {
	for name, c := range map[string]struct {
		in      *corev1.Service
		message string
	}{
		"no address":    {web(annotated("fairlead.dev/loadBalancerIPs", "web.example")), `annotation fairlead.dev/loadBalancerIPs is "web.example": "web.example" is not an IP address; write addresses separated by commas`},
		"zone":          {web(annotated("fairlead.dev/loadBalancerIPs", "fe80::1%eth0")), `annotation fairlead.dev/loadBalancerIPs is "fe80::1%eth0": "fe80::1%eth0" is not an IP address; write addresses separated by commas`},
		"twice":         {web(annotated("fairlead.dev/loadBalancerIPs", "192.0.2.7,192.0.2.7")), `annotation fairlead.dev/loadBalancerIPs is "192.0.2.7,192.0.2.7": 192.0.2.7 is listed twice; delete one`},
		"release":       {web(annotated("fairlead.dev/release", "yes")), `annotation fairlead.dev/release is "yes"; write "true" to have new addresses, or delete it`},
		"contradiction": {web(annotated("fairlead.dev/address-pool", "a", "metallb.io/address-pool", "b")), `annotation fairlead.dev/address-pool is "a" but metallb.io/address-pool is "b"; delete the second`},
		"two places": {
			web(annotated("fairlead.dev/loadBalancerIPs", "192.0.2.7"), func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.8" }),
			`annotation fairlead.dev/loadBalancerIPs is "192.0.2.7" but spec.loadBalancerIP is "192.0.2.8"; keep one of them`,
		},
		"loadBalancerIP": {web(func(s *corev1.Service) { s.Spec.LoadBalancerIP = "x" }), `spec.loadBalancerIP is "x": "x" is not an IP address; write addresses separated by commas`},
	} {
		got, refusal := Service(c.in, nil)
		if refusal.Reason != lb.BadRequest || refusal.Message != c.message {
			t.Errorf("%s: %q, want BadRequest: %s", name, refusal, c.message)
		}
		if got.Key.Name != "web" || len(got.Ports) != 1 {
			t.Errorf("%s: the rest of the Service is lost: %+v", name, got)
		}
	}
}

func TestOurs(t *testing.T) {
	class := func(c string) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.LoadBalancerClass = &c }
	}
	clusterIP := func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }
	for name, c := range map[string]struct {
		in   *corev1.Service
		opts Options
		want bool
	}{
		"no class":             {web(), Options{}, true},
		"no class, required":   {web(), Options{RequireClass: true}, false},
		"our class":            {web(class("fairlead.dev/lb")), Options{RequireClass: true}, true},
		"other class":          {web(class("other")), Options{}, false},
		"empty class":          {web(class("")), Options{}, false},
		"renamed class":        {web(class("example.org/edge")), Options{Class: "example.org/edge"}, true},
		"our class elsewhere":  {web(class("fairlead.dev/lb")), Options{Class: "example.org/edge"}, false},
		"not a load balancer":  {web(clusterIP), Options{}, false},
		"ClusterIP with class": {web(clusterIP, class("fairlead.dev/lb")), Options{}, false},
	} {
		if got := c.opts.Ours(c.in); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// slice makes an EndpointSlice of Service web with one port.
func slice(port int32, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("http"), Protocol: ptr(corev1.ProtocolTCP), Port: ptr(port)}},
		Endpoints:   endpoints,
	}
}

// pod makes an endpoint; conditions are given as "r" ready, "s" serving, "t" terminating, upper case for false, absent for
// nil.
func pod(ip, node, conditions string) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{ip}}
	if node != "" {
		e.NodeName = &node
	}
	for _, c := range conditions {
		switch c {
		case 'r', 'R':
			e.Conditions.Ready = ptr(c == 'r')
		case 's', 'S':
			e.Conditions.Serving = ptr(c == 's')
		case 't', 'T':
			e.Conditions.Terminating = ptr(c == 't')
		}
	}
	return e
}

func TestEndpoints(t *testing.T) {
	edit := func(s *discoveryv1.EndpointSlice, f func(*discoveryv1.EndpointSlice)) *discoveryv1.EndpointSlice {
		f(s)
		return s
	}
	want := func(ip string, port uint16, node lb.NodeName, ready, serving, terminating bool) lb.Endpoint {
		return lb.Endpoint{PortName: "http", Protocol: lb.TCP, Addr: netip.AddrPortFrom(addr(ip), port), Node: node, Ready: ready, Serving: serving, Terminating: terminating}
	}
	for name, c := range map[string]struct {
		in   []*discoveryv1.EndpointSlice
		want []lb.Endpoint
	}{
		"S4: several slices, whoever manages them": {
			[]*discoveryv1.EndpointSlice{slice(8080, pod("10.0.0.2", "n1", "rsT")), edit(slice(8080, pod("10.0.0.1", "n2", "rsT")), func(s *discoveryv1.EndpointSlice) {
				s.Labels[discoveryv1.LabelManagedBy] = "me"
			})},
			[]lb.Endpoint{want("10.0.0.1", 8080, "n2", true, true, false), want("10.0.0.2", 8080, "n1", true, true, false)},
		},
		"S4: address types": {
			[]*discoveryv1.EndpointSlice{
				edit(slice(80, pod("web.example", "", "r")), func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeFQDN }),
				edit(slice(80, pod("10.0.0.1", "", "r")), func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeIPv6 }),
				edit(slice(80, pod("fd00::1", "", "r")), func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeIPv6 }),
			},
			[]lb.Endpoint{want("fd00::1", 80, "", true, true, false)},
		},
		"S4: ports without name or number, first address only": {
			[]*discoveryv1.EndpointSlice{edit(slice(80, discoveryv1.Endpoint{Addresses: []string{"10.0.0.1", "10.0.0.9"}}, discoveryv1.Endpoint{}), func(s *discoveryv1.EndpointSlice) {
				s.Ports = append(s.Ports, discoveryv1.EndpointPort{Port: ptr(int32(1))}, discoveryv1.EndpointPort{Name: ptr("x")}, discoveryv1.EndpointPort{Name: ptr("y"), Port: ptr(int32(0))})
			})},
			[]lb.Endpoint{want("10.0.0.1", 80, "", true, true, false)},
		},
		"S4: protocol defaults to TCP, names tell ports apart": {
			[]*discoveryv1.EndpointSlice{edit(slice(80, pod("10.0.0.1", "", "")), func(s *discoveryv1.EndpointSlice) {
				s.Ports[0].Protocol = nil
				s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: ptr(""), Protocol: ptr(corev1.ProtocolUDP), Port: ptr(int32(53))})
			})},
			[]lb.Endpoint{
				{Protocol: lb.UDP, Addr: netip.MustParseAddrPort("10.0.0.1:53"), Ready: true, Serving: true},
				want("10.0.0.1", 80, "", true, true, false),
			},
		},
		"S5: the port number is the slice's": {
			[]*discoveryv1.EndpointSlice{slice(8080, pod("10.0.0.1", "", "")), slice(9090, pod("10.0.0.2", "", ""))},
			[]lb.Endpoint{want("10.0.0.1", 8080, "", true, true, false), want("10.0.0.2", 9090, "", true, true, false)},
		},
		"S6: absent conditions": {
			[]*discoveryv1.EndpointSlice{slice(80, pod("10.0.0.1", "", ""), pod("10.0.0.2", "", "R"), pod("10.0.0.3", "", "Rst"), pod("10.0.0.4", "", "rS"))},
			[]lb.Endpoint{
				want("10.0.0.1", 80, "", true, true, false), want("10.0.0.2", 80, "", false, false, false),
				want("10.0.0.3", 80, "", false, true, true), want("10.0.0.4", 80, "", true, false, false),
			},
		},
		"S7: one address in several slices": {
			[]*discoveryv1.EndpointSlice{
				slice(80, pod("10.0.0.1", "n1", "Rst"), pod("10.0.0.2", "n1", "R"), pod("10.0.0.3", "", "r")),
				slice(80, pod("10.0.0.1", "n1", "rsT"), pod("10.0.0.2", "n1", "r"), pod("10.0.0.3", "n3", "r")),
				slice(80, pod("10.0.0.1", "n1", "Rst"), pod("10.0.0.2", "n1", "R"), pod("10.0.0.3", "", "r")),
			},
			[]lb.Endpoint{
				want("10.0.0.1", 80, "n1", true, true, false), want("10.0.0.2", 80, "n1", true, true, false), want("10.0.0.3", 80, "n3", true, true, false),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, refusal := Endpoints(c.in)
			if diff := cmp.Diff(c.want, got, compareAddrPorts); diff != "" || !refusal.OK() {
				t.Errorf("refusal %q; -want +got:\n%s", refusal, diff)
			}
		})
	}
}

func TestServiceOf(t *testing.T) {
	for name, c := range map[string]struct {
		labels map[string]string
		want   bool
	}{
		"ours":     {map[string]string{discoveryv1.LabelServiceName: "web"}, true},
		"no label": {nil, false},
		"headless": {map[string]string{discoveryv1.LabelServiceName: "web", corev1.IsHeadlessService: ""}, false},
	} {
		s := slice(80)
		s.Labels = c.labels
		if key, ok := ServiceOf(s); ok != c.want || ok && key != (lb.ServiceKey{Namespace: "default", Name: "web"}) {
			t.Errorf("%s: %s, %v", name, key, ok)
		}
	}
}

func TestNode(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*corev1.Node)
		want lb.Node
	}{
		"plain": {func(n *corev1.Node) {
			n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "n1"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.11"}, {Type: corev1.NodeExternalIP, Address: "203.0.113.1"}}
		}, lb.Node{Addrs: []netip.Addr{addr("192.0.2.11")}}},
		"excluded":            {func(n *corev1.Node) { n.Labels = map[string]string{corev1.LabelNodeExcludeBalancers: ""} }, lb.Node{Excluded: true}},
		"excluded by garbage": {func(n *corev1.Node) { n.Labels = map[string]string{corev1.LabelNodeExcludeBalancers: "nope"} }, lb.Node{Excluded: true}},
		"not excluded":        {func(n *corev1.Node) { n.Labels = map[string]string{corev1.LabelNodeExcludeBalancers: "false"} }, lb.Node{}},
		"cordoned":            {func(n *corev1.Node) { n.Spec.Unschedulable = true }, lb.Node{Cordoned: true}},
		"deleting":            {func(n *corev1.Node) { n.DeletionTimestamp = &metav1.Time{Time: time.Now()} }, lb.Node{Deleting: true}},
		"about to be deleted": {func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler"}} }, lb.Node{Deleting: true}},
		"not ready is not us": {func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}}
		}, lb.Node{}},
		"no network": {func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue}}
		}, lb.Node{NetworkUnavailable: true}},
		"network unknown is up": {func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionUnknown}}
		}, lb.Node{}},
	} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
		c.edit(n)
		c.want.Name, c.want.Labels = "n1", n.Labels
		if diff := cmp.Diff(c.want, Node(n), compareAddrs); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

func TestPool(t *testing.T) {
	got, refusal := Pool(&v1beta1.IPAddressPool{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: map[string]string{"zone": "a"}},
		Spec: v1beta1.IPAddressPoolSpec{
			Addresses:                  []string{"192.0.2.9-192.0.2.1", "192.0.2.0/30", "192.0.2.3/32", "2001:db8::/64"},
			AvoidBuggyIPs:              true,
			AllowCrossNamespaceSharing: true,
			Forwarding:                 "dsr",
			AddressRest:                &metav1.Duration{Duration: time.Minute},
			ServiceAllocation: &v1beta1.ServiceAllocation{
				Priority: 3, MaxAddressesPerNamespace: ptr(int32(7)), Namespaces: []string{"prod"},
				NamespaceSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"b": "2", "a": "1"}}},
				ServiceSelectors:   []metav1.LabelSelector{{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "k", Operator: "Near", Values: []string{"v"}}}}},
			},
		},
	})
	want := lb.Pool{
		Name: "p", Labels: map[string]string{"zone": "a"}, AutoAssign: true, AvoidBuggyIPs: true, ShareAcross: true, Forwarding: lb.DSR, Rest: ptr(time.Minute), Priority: 3, MaxPerNamespace: 7,
		Ranges:            []lb.Range{{From: addr("192.0.2.0"), To: addr("192.0.2.3")}, {From: addr("2001:db8::"), To: addr("2001:db8::ffff:ffff:ffff:ffff")}},
		Namespaces:        []string{"prod"},
		NamespaceSelector: []lb.Selector{{{Key: "a", Op: lb.In, Values: []string{"1"}}, {Key: "b", Op: lb.In, Values: []string{"2"}}}},
		ServiceSelectors:  []lb.Selector{{{Key: "k", Op: "Near", Values: []string{"v"}}}},
	}
	if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got.Admits(lb.Service{Key: lb.ServiceKey{Namespace: "prod"}, Labels: map[string]string{"k": "v"}}) {
		t.Error("a selector that cannot be evaluated matches")
	}
	const message = `spec.addresses[0]: Invalid value: "192.0.2.9-192.0.2.1": ends before it starts; write 192.0.2.1-192.0.2.9; ` +
		`spec.addresses[2]: Invalid value: "192.0.2.3/32": overlaps "192.0.2.0/30" at spec.addresses[1]; keep each address in one entry; ` +
		`spec.serviceAllocation.serviceSelectors[0].matchExpressions[0].operator: Invalid value: "Near": not a valid selector operator`
	if refusal.Reason != lb.InvalidSpec || refusal.Message != message {
		t.Errorf("refusal %q, want %s", refusal, message)
	}
}

func TestL2Advertisement(t *testing.T) {
	got, refusal := L2Advertisement(&v1beta1.L2Advertisement{
		ObjectMeta: metav1.ObjectMeta{Name: "a"},
		Spec: v1beta1.L2AdvertisementSpec{
			IPAddressPools: []string{"p"}, Interfaces: []string{"eth0"},
			IPAddressPoolSelectors: []metav1.LabelSelector{{}},
			NodeSelectors:          []metav1.LabelSelector{{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "k", Operator: metav1.LabelSelectorOpExists}}}},
			PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{{Weight: 7, Preference: metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}}},
			Failback:               "30s",
		},
	})
	want := lb.L2Advertisement{
		Name: "a", Pools: []string{"p"}, Interfaces: []string{"eth0"},
		PoolSelectors: []lb.Selector{{}}, NodeSelectors: []lb.Selector{{{Key: "k", Op: lb.Exists}}},
		Preferred: []lb.Preference{{Weight: 7, Selector: lb.Selector{{Key: "a", Op: lb.In, Values: []string{"b"}}}}},
		Failback:  ptr(30 * time.Second),
	}
	if diff := cmp.Diff(want, got); diff != "" || !refusal.OK() {
		t.Errorf("refusal %q; -want +got:\n%s", refusal, diff)
	}
}

func TestFailbackThatCannotBeReadIsNever(t *testing.T) {
	for text, refused := range map[string]bool{"": false, "Never": false, "soon": true, "1ms": true} {
		got, refusal := L2Advertisement(&v1beta1.L2Advertisement{Spec: v1beta1.L2AdvertisementSpec{Failback: text}})
		if got.Failback != nil || refusal.OK() == refused {
			t.Errorf("%q: failback %v, refusal %q", text, got.Failback, refusal)
		}
	}
}

func TestOverlaps(t *testing.T) {
	pool := func(name, from, to string) lb.Pool {
		return lb.Pool{Name: name, Ranges: []lb.Range{{From: addr(from), To: addr(to)}}}
	}
	got := Overlaps([]lb.Pool{pool("a", "192.0.2.0", "192.0.2.9"), pool("b", "192.0.2.9", "192.0.2.20"), pool("c", "192.0.2.5", "192.0.2.6"), pool("d", "2001:db8::", "2001:db8::9")})
	want := map[string][]string{"a": {"b", "c"}, "b": {"a"}, "c": {"a"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
