package healthnodeport

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/lb"
)

var web = lb.ServiceKey{Namespace: "default", Name: "web"}

// endpoint is ready, serving and on node n1, on the port named p.
func endpoint(addr string, changes ...func(*lb.Endpoint)) lb.Endpoint {
	e := lb.Endpoint{PortName: "p", Protocol: lb.TCP, Addr: netip.MustParseAddrPort(addr), Node: "n1", Ready: true, Serving: true}
	for _, c := range changes {
		c(&e)
	}
	return e
}

func terminating(e *lb.Endpoint) { e.Ready, e.Terminating = false, true }
func onN2(e *lb.Endpoint)        { e.Node = "n2" }
func portQ(e *lb.Endpoint)       { e.PortName = "q" }

// local returns a snapshot of node n1 with Service web, externalTrafficPolicy Local and health check node port 30123.
func local(changes ...func(*lb.Snapshot)) lb.Snapshot {
	s := lb.Snapshot{Self: "n1", Forwarding: lb.Forwarding{Full: true}, Services: []lb.Service{{
		Key: web, Families: []lb.Family{lb.IPv4}, ExternalTrafficPolicy: lb.Local, HealthCheckNodePort: 30123,
		Ports: []lb.Port{{Name: "p", Protocol: lb.TCP, Port: 80}, {Name: "q", Protocol: lb.TCP, Port: 81}},
	}}}
	for _, c := range changes {
		c(&s)
	}
	return s
}

func endpoints(eps ...lb.Endpoint) func(*lb.Snapshot) {
	return func(s *lb.Snapshot) { s.Endpoints.Set(web, eps) }
}

func dualStack(s *lb.Snapshot) { s.Services[0].Families = []lb.Family{lb.IPv4, lb.IPv6} }

func dualStackNode(s *lb.Snapshot) {
	s.Addrs = addrs("127.0.0.1", "192.0.2.11", "::1", "2001:db8::11", "fe80::1")
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// forwarded is a kernel that forwards everything.
func forwarded(*lb.Service, lb.Family) bool { return true }

// want writes the expectation as "address:port" -> count.
func desired(t *testing.T, s lb.Snapshot, on []netip.Addr, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	for key, check := range Desired(s, on, forwarded) {
		if key.Service != web {
			t.Errorf("key %v is of another Service", key)
		}
		got[key.Addr.String()] = check.Endpoints
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestH1OnlyServicesThatHaveThePort(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*lb.Snapshot)
		want   map[string]int
	}{
		"policy Local":               {func(*lb.Snapshot) {}, map[string]int{"0.0.0.0:30123": 0}},
		"policy Cluster":             {func(s *lb.Snapshot) { s.Services[0].ExternalTrafficPolicy = lb.Cluster }, map[string]int{}},
		"no port: of another type":   {func(s *lb.Snapshot) { s.Services[0].HealthCheckNodePort = 0 }, map[string]int{}},
		"another port":               {func(s *lb.Snapshot) { s.Services[0].HealthCheckNodePort = 30124 }, map[string]int{"0.0.0.0:30124": 0}},
		"of another class":           {func(s *lb.Snapshot) { s.Services, s.Others = nil, s.Services }, map[string]int{"0.0.0.0:30123": 0}},
		"without an address as well": {func(s *lb.Snapshot) { s.Services[0].Ingress = nil }, map[string]int{"0.0.0.0:30123": 0}},
	} {
		t.Run(name, func(t *testing.T) { desired(t, local(tt.change), nil, tt.want) })
	}
}

func TestH2OneSocketPerFamilyOrNodePortAddress(t *testing.T) {
	for name, tt := range map[string]struct {
		s    lb.Snapshot
		on   []netip.Addr
		want map[string]int
	}{
		"IPv4":                     {local(), nil, map[string]int{"0.0.0.0:30123": 0}},
		"IPv6":                     {local(func(s *lb.Snapshot) { s.Services[0].Families = []lb.Family{lb.IPv6} }), nil, map[string]int{"[::]:30123": 0}},
		"IPv4 on a node with both": {local(dualStackNode, endpoints(endpoint("10.244.1.2:8080"))), nil, map[string]int{"0.0.0.0:30123": 1, "[::]:30123": 1}},
		"IPv6 on a node with both": {local(dualStackNode, func(s *lb.Snapshot) { s.Services[0].Families = []lb.Family{lb.IPv6} }, endpoints(endpoint("[fd00::2]:8080"))), nil,
			map[string]int{"0.0.0.0:30123": 1, "[::]:30123": 1}},
		"both":                        {local(dualStack), nil, map[string]int{"0.0.0.0:30123": 0, "[::]:30123": 0}},
		"nodePort addresses":          {local(dualStack), addrs("192.0.2.11", "198.51.100.11", "2001:db8::11"), map[string]int{"192.0.2.11:30123": 0, "198.51.100.11:30123": 0, "[2001:db8::11]:30123": 0}},
		"none of a family: all (S40)": {local(dualStack), addrs("192.0.2.11"), map[string]int{"192.0.2.11:30123": 0, "[::]:30123": 0}},
	} {
		t.Run(name, func(t *testing.T) { desired(t, tt.s, tt.on, tt.want) })
	}
}

func TestH4CountsDistinctLocalReadyAddresses(t *testing.T) {
	for name, tt := range map[string]struct {
		s    lb.Snapshot
		want map[string]int
	}{
		"one":                      {local(endpoints(endpoint("10.244.1.2:8080"))), map[string]int{"0.0.0.0:30123": 1}},
		"two":                      {local(endpoints(endpoint("10.244.1.2:8080"), endpoint("10.244.1.3:8080"))), map[string]int{"0.0.0.0:30123": 2}},
		"one behind two ports":     {local(endpoints(endpoint("10.244.1.2:8080"), endpoint("10.244.1.2:8081", portQ))), map[string]int{"0.0.0.0:30123": 1}},
		"two behind a port each":   {local(endpoints(endpoint("10.244.1.2:8080"), endpoint("10.244.1.3:8081", portQ))), map[string]int{"0.0.0.0:30123": 2}},
		"another node's":           {local(endpoints(endpoint("10.244.1.2:8080", onN2))), map[string]int{"0.0.0.0:30123": 0}},
		"terminating":              {local(endpoints(endpoint("10.244.1.2:8080", terminating))), map[string]int{"0.0.0.0:30123": 0}},
		"not ready, but published": {local(endpoints(endpoint("10.244.1.2:8080", func(e *lb.Endpoint) { e.Serving = false }))), map[string]int{"0.0.0.0:30123": 1}},
		"of a port that the Service does not have": {local(endpoints(endpoint("10.244.1.2:8080", func(e *lb.Endpoint) { e.PortName = "other" }))),
			map[string]int{"0.0.0.0:30123": 0}},
		"each family its own (S2)": {local(dualStack, endpoints(endpoint("10.244.1.2:8080"), endpoint("10.244.1.3:8080"), endpoint("[fd00::2]:8080"))),
			map[string]int{"0.0.0.0:30123": 2, "[::]:30123": 1}},
	} {
		t.Run(name, func(t *testing.T) { desired(t, tt.s, nil, tt.want) })
	}
}

// TestOnlyWhatTheKernelForwardsCounts: who is told of endpoints sends connections.
func TestOnlyWhatTheKernelForwardsCounts(t *testing.T) {
	s := local(dualStack, endpoints(endpoint("10.244.1.2:8080"), endpoint("[fd00::2]:8080")))
	for name, tt := range map[string]struct {
		change func(*lb.Snapshot)
		served func(*lb.Service, lb.Family) bool
		want   map[string]int
		asked  string
	}{
		"everything": {func(*lb.Snapshot) {}, forwarded, map[string]int{"0.0.0.0:30123": 1, "[::]:30123": 1}, "web/IPv4 web/IPv6"},
		"nothing": {func(*lb.Snapshot) {}, func(*lb.Service, lb.Family) bool { return false },
			map[string]int{"0.0.0.0:30123": 0, "[::]:30123": 0}, "web/IPv4 web/IPv6"},
		"one family": {func(*lb.Snapshot) {}, func(_ *lb.Service, f lb.Family) bool { return f == lb.IPv6 },
			map[string]int{"0.0.0.0:30123": 0, "[::]:30123": 1}, "web/IPv4 web/IPv6"},
		"sockets of a family that the Service lacks": {func(s *lb.Snapshot) {
			dualStackNode(s)
			s.Services = slices.Clone(s.Services)
			s.Services[0].Families = []lb.Family{lb.IPv4}
		}, func(_ *lb.Service, f lb.Family) bool { return f == lb.IPv4 }, map[string]int{"0.0.0.0:30123": 1, "[::]:30123": 1}, "web/IPv4 web/IPv4"},
		"no endpoint, nothing to ask": {endpoints(endpoint("10.244.1.2:8080", onN2)), forwarded, map[string]int{"0.0.0.0:30123": 0, "[::]:30123": 0}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := s
			tt.change(&s)
			var asked []string
			got := map[string]int{}
			for key, check := range Desired(s, nil, func(svc *lb.Service, f lb.Family) bool {
				asked = append(asked, svc.Key.Name+"/"+f.String())
				return tt.served(svc, f)
			}) {
				got[key.Addr.String()] = check.Endpoints
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || strings.Join(asked, " ") != tt.asked {
				t.Errorf("asked about %q, want %q; -want +got:\n%s", asked, tt.asked, diff)
			}
		})
	}
}

func TestH3StatusFollowsEndpointsAndHealth(t *testing.T) {
	for _, tt := range []struct {
		count   int
		healthy bool
		want    int
	}{{0, true, 503}, {1, true, 200}, {7, true, 200}, {1, false, 503}, {0, false, 503}} {
		if got := Answer(web, Check{tt.count}, tt.healthy).Status; got != tt.want {
			t.Errorf("%d endpoints, healthy %v: %d, want %d", tt.count, tt.healthy, got, tt.want)
		}
	}
}

func TestH15NothingIsBoundBesideKubeProxy(t *testing.T) {
	desired(t, local(endpoints(endpoint("10.244.1.2:8080")), func(s *lb.Snapshot) { s.Forwarding.Full = false }), nil, map[string]int{})
}

// Whether the node is eligible is no argument of the answer, so that it cannot matter; what is an argument all matters.
func TestH5H6HeadersAndBody(t *testing.T) {
	for _, healthy := range []bool{true, false} {
		for _, count := range []int{0, 3} {
			r := Answer(web, Check{count}, healthy)
			for header, want := range map[string]string{
				"Content-Type": "application/json", "X-Content-Type-Options": "nosniff", "X-Load-Balancing-Endpoint-Weight": strconv.Itoa(count),
			} {
				if got := r.Header.Get(header); got != want {
					t.Errorf("%s is %q, want %q", header, got, want)
				}
			}
			var body struct {
				Service             struct{ Namespace, Name string }
				LocalEndpoints      *int
				ServiceProxyHealthy *bool
			}
			if err := json.Unmarshal([]byte(r.Body), &body); err != nil {
				t.Fatalf("%v in body %s", err, r.Body)
			}
			if body.Service.Namespace != "default" || body.Service.Name != "web" || *body.LocalEndpoints != count || *body.ServiceProxyHealthy != healthy {
				t.Errorf("body %s, want default/web, %d endpoints, healthy %v", r.Body, count, healthy)
			}
		}
	}
}
