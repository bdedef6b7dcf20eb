package datapath_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// TestEndpointsOnANodeThatIsDown names endpoints by their node; a node may have several. Self is n1.
func TestEndpointsOnANodeThatIsDown(t *testing.T) {
	for _, tt := range []struct {
		name, endpoints, down string
		policy                lb.TrafficPolicy
		want                  string // the weights in the order of the endpoints
	}{
		{"nobody is down", "n1 n2 n3", "", lb.Cluster, "1 1 1"},
		{"one of three", "n1 n2 n3", "n2", lb.Cluster, "1 0 1"},
		{"one of two", "n1 n2", "n2", lb.Cluster, "1 0"},
		{"both of two: one stays, in case we are wrong", "n2 n3", "n2 n3", lb.Cluster, "0 1"},
		{"the only one stays", "n2", "n2", lb.Cluster, "1"},
		{"two of three: one stays", "n1 n2 n3", "n2 n3", lb.Cluster, "1 0 1"},
		{"several on one node", "n1 n2 n2 n3", "n2", lb.Cluster, "1 0 0 1"},
		{"most on one node: not more than half", "n2 n2 n2 n1 n3", "n2", lb.Cluster, "0 0 1 1 1"},
		{"a node without endpoints", "n1 n3", "n2", lb.Cluster, "1 1"},
		{"Local looks at this node only", "n1 n2", "n2", lb.Local, "1 0"},
		{"an endpoint without a node", "n1 -", "n2", lb.Cluster, "1 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var eps []lb.Endpoint
			for i, node := range strings.Fields(tt.endpoints) {
				eps = append(eps, ep(fmt.Sprintf("10.0.0.%d:80", i+1), strings.Trim(node, "-"), "rs"))
			}
			s := snapshot(web(func(s *lb.Service) { s.ExternalTrafficPolicy = tt.policy }), eps...)
			before := weights(s)
			slices.Reverse(eps) // the order must not matter
			s.Down = map[lb.NodeName]bool{}
			for _, node := range strings.Fields(tt.down) {
				s.Down[lb.NodeName(node)] = true
			}
			if got := weights(s); got != tt.want {
				t.Errorf("weights %s, want %s", got, tt.want)
			}
			s.Down = nil
			if got := weights(s); got != before || tt.policy == lb.Cluster && strings.Contains(got, "0") {
				t.Errorf("weights %s after all came back, %s before", got, before)
			}
		})
	}
}

// TestHintsOfEndpointsOnANodeThatIsDown: half of all endpoints may be left out, however few of them are near, and where none near is left all
// others serve (S17). Endpoints are written node/zone; self is n1, in zone a.
func TestHintsOfEndpointsOnANodeThatIsDown(t *testing.T) {
	for _, tt := range []struct{ name, endpoints, down, want string }{
		{"nobody is down", "n2/a n3/b n4/c", "", "1 0 0"},
		{"the only one of the zone", "n2/a n3/b n4/c", "n2", "0 1 1"},
		{"one of two of the zone", "n2/a n5/a n3/b n4/c", "n2", "0 1 0 0"},
		{"all of the zone", "n2/a n5/a n3/b n4/c", "n2 n5", "0 0 1 1"},
		{"more than half: what is left of the zone serves", "n2/a n5/a n3/b", "n2 n5", "0 1 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var eps []lb.Endpoint
			for i, word := range strings.Fields(tt.endpoints) {
				node, zone, _ := strings.Cut(word, "/")
				eps = append(eps, ep(fmt.Sprintf("10.0.0.%d:80", i+1), node, "rs", func(e *lb.Endpoint) { e.ForZones = zone }))
			}
			s := external(web(), eps...)
			s.Down = map[lb.NodeName]bool{}
			for _, node := range strings.Fields(tt.down) {
				s.Down[lb.NodeName(node)] = true
			}
			if got := weights(s); got != tt.want {
				t.Errorf("weights %s, want %s", got, tt.want)
			}
		})
	}
}

func weights(s lb.Snapshot) string {
	var out []string
	for _, d := range datapath.Desired(s).Servers[0].Destinations {
		out = append(out, fmt.Sprint(d.Weight))
	}
	return strings.Join(out, " ")
}
