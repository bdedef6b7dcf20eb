package announce

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-lb/fairlead/lb"
)

var (
	serves  = lb.HealthCheck{OK: true}
	refuses = lb.HealthCheck{Why: "answers 503 Service Unavailable"}
)

// announceOnly has somebody else forward, and gives the Service a health check node port.
func announceOnly(s *lb.Snapshot) {
	s.Programmed, s.Forwards = nil, false
	s.Services[0].HealthCheckNodePort = 30123
}

func onN1(s *lb.Snapshot) { s.Endpoints.Set(web, []lb.Endpoint{endpoint("n1", true, false)}) }

func answered(c lb.HealthCheck) func(*lb.Snapshot) {
	return func(s *lb.Snapshot) { s.HealthChecks = map[lb.ServiceKey]lb.HealthCheck{web: c} }
}

func TestForwarderNotReadySaysWhoAndWhat(t *testing.T) {
	s := three()
	for _, change := range []func(*lb.Snapshot){announceOnly, local, onN1, answered(refuses)} {
		change(&s)
	}
	message := Plan(s)[0].Message
	for _, want := range []string{"n1", "default/web", "30123", refuses.Why} {
		if !strings.Contains(message, want) {
			t.Errorf("message %q does not name %q", message, want)
		}
	}
}

func TestHealthPorts(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change []func(*lb.Snapshot)
		asked  bool
	}{
		{"a ready endpoint here", []func(*lb.Snapshot){announceOnly, local, onN1}, true},
		{"terminating endpoints here, none ready anywhere", []func(*lb.Snapshot){announceOnly, local, endpoints(endpoint("n1", false, true))}, true},
		{"terminating here, ready elsewhere", []func(*lb.Snapshot){announceOnly, local, endpoints(endpoint("n1", false, true), endpoint("n2", true, false))}, false},
		{"no endpoint here", []func(*lb.Snapshot){announceOnly, local}, false},
		{"no address", []func(*lb.Snapshot){announceOnly, local, onN1, func(s *lb.Snapshot) { s.Services[0].Ingress = nil }}, false},
		{"policy Cluster", []func(*lb.Snapshot){announceOnly, onN1}, false},
		{"Fairlead forwards", []func(*lb.Snapshot){announceOnly, local, onN1, func(s *lb.Snapshot) { s.Forwards = true }}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := three()
			for _, c := range tt.change {
				c(&s)
			}
			want := map[lb.ServiceKey]uint16{}
			if tt.asked {
				want[web] = 30123
			}
			if got := HealthPorts(s); !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestUnserved(t *testing.T) {
	services := []lb.Service{service(dns, lb.Local, vip2), service(web, lb.Local, vip2, vip)}
	for name, tt := range map[string]struct {
		checks map[lb.ServiceKey]lb.HealthCheck
		want   []netip.Addr
	}{
		"nothing known": {nil, nil},
		"all well":      {map[lb.ServiceKey]lb.HealthCheck{web: serves, dns: serves}, nil},
		"one":           {map[lb.ServiceKey]lb.HealthCheck{web: serves, dns: refuses}, []netip.Addr{vip2}},
		"both":          {map[lb.ServiceKey]lb.HealthCheck{web: refuses, dns: refuses}, []netip.Addr{vip, vip2}},
	} {
		if got := Unserved(services, tt.checks); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}
