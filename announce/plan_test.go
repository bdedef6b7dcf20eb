package announce

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/lb"
)

var (
	vip  = netip.MustParseAddr("192.0.2.200")
	vip2 = netip.MustParseAddr("192.0.2.201")
	web  = lb.ServiceKey{Namespace: "default", Name: "web"}
	dns  = lb.ServiceKey{Namespace: "default", Name: "dns"}
)

func link(name, prefix string) lb.Link {
	return lb.Link{Name: name, Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix(prefix)}}
}

func service(key lb.ServiceKey, policy lb.TrafficPolicy, addrs ...netip.Addr) lb.Service {
	s := lb.Service{Key: key, Ports: []lb.Port{{Name: "p", Protocol: lb.TCP, Port: 80}}, ExternalTrafficPolicy: policy, Pool: "main",
		Labels: map[string]string{"app": key.Name}}
	for _, a := range addrs {
		s.Ingress = append(s.Ingress, lb.Ingress{Addr: a, Mode: lb.ModeProxy})
	}
	return s
}

func endpoint(node lb.NodeName, ready, terminating bool) lb.Endpoint {
	return lb.Endpoint{PortName: "p", Protocol: lb.TCP, Addr: netip.MustParseAddrPort("10.244.1.2:8080"), Node: node,
		Ready: ready, Serving: true, Terminating: terminating}
}

// three returns a cluster of three nodes that are all able to announce vip for Service web, seen by node n1.
func three() lb.Snapshot {
	s := lb.Snapshot{
		Self:       "n1",
		Services:   []lb.Service{service(web, lb.Cluster, vip)},
		Endpoints:  lb.EndpointsOf(map[lb.ServiceKey][]lb.Endpoint{web: {endpoint("n2", true, false)}}),
		Nodes:      map[lb.NodeName]lb.Node{},
		Pools:      []lb.Pool{{Name: "main", Labels: map[string]string{"tier": "front"}, Ranges: []lb.Range{{From: vip, To: netip.MustParseAddr("192.0.2.239")}}}},
		L2:         []lb.L2Advertisement{{Name: "all"}},
		Links:      []lb.Link{link("eth0", "192.0.2.0/24"), link("mgmt0", "198.51.100.0/24")},
		Programmed: map[netip.Addr]bool{vip: true, vip2: true},
		Forwards:   true,
	}
	for _, n := range []lb.NodeName{"n1", "n2", "n3"} {
		s.Nodes[n] = lb.Node{Name: n, Labels: map[string]string{"name": string(n)}}
		s.Members = append(s.Members, lb.Member{Node: n, Ready: true, Links: slices.Clone(s.Links)})
	}
	return s
}

func only(nodes ...lb.NodeName) func(*lb.Snapshot) {
	return func(s *lb.Snapshot) {
		s.Members = slices.DeleteFunc(s.Members, func(m lb.Member) bool { return !slices.Contains(nodes, m.Node) })
	}
}

func claim(node lb.NodeName, epoch uint64) func(*lb.Snapshot) {
	return member(node, func(m *lb.Member) { m.Claims = []lb.Claim{{Addr: vip, Epoch: epoch}} })
}

func member(node lb.NodeName, change func(*lb.Member)) func(*lb.Snapshot) {
	return func(s *lb.Snapshot) {
		for i := range s.Members {
			if s.Members[i].Node == node {
				change(&s.Members[i])
			}
		}
	}
}

func node(name lb.NodeName, change func(*lb.Node)) func(*lb.Snapshot) {
	return func(s *lb.Snapshot) {
		n := s.Nodes[name]
		change(&n)
		s.Nodes[name] = n
	}
}

func down(name lb.NodeName) func(*lb.Snapshot) {
	return func(s *lb.Snapshot) { s.Down = map[lb.NodeName]bool{name: true} }
}

func cordoned(n *lb.Node)  { n.Cordoned = true }
func leave(s *lb.Snapshot) { s.LeaveOnCordon = true }

func settling(s *lb.Snapshot) { s.Settling = []lb.NodeName{"n2"} }
func conflict(s *lb.Snapshot) { s.Conflicts = map[netip.Addr]lb.MAC{vip: {2, 0, 0, 0, 0, 9}} }

// prefer makes node the owner of what nobody has claimed.
func prefer(node lb.NodeName) func(*lb.Snapshot) {
	return ads(lb.L2Advertisement{Preferred: []lb.Preference{{Weight: 10, Selector: name(string(node))[0]}}})
}

func handing(node lb.NodeName, epoch uint64, to lb.NodeName) func(*lb.Snapshot) {
	return member(node, func(m *lb.Member) { m.Claims = []lb.Claim{{Addr: vip, Epoch: epoch, To: to}} })
}

func draining(m *lb.Member) { m.Draining = true }
func excluded(n *lb.Node)   { n.Excluded = true }

func name(values ...string) []lb.Selector {
	return []lb.Selector{{{Key: "name", Op: lb.In, Values: values}}}
}

func endpoints(eps ...lb.Endpoint) func(*lb.Snapshot) {
	return func(s *lb.Snapshot) { s.Endpoints.Set(web, eps) }
}

func local(s *lb.Snapshot) { s.Services[0].ExternalTrafficPolicy = lb.Local }

func ads(list ...lb.L2Advertisement) func(*lb.Snapshot) {
	return func(s *lb.Snapshot) { s.L2 = list }
}

// also gives this node another link.
func also(l lb.Link) func(*lb.Snapshot) {
	return func(s *lb.Snapshot) { s.Links = append(s.Links, l) }
}

func onEth0(s *lb.Snapshot) { s.Announced = map[netip.Addr][]string{vip: {"eth0"}} }

func eth1On(node lb.NodeName) func(*lb.Snapshot) {
	return member(node, func(m *lb.Member) { m.Links = []lb.Link{link("eth1", "192.0.2.0/24")} })
}

func noPools(s *lb.Snapshot) { s.Pools = nil }

func TestPlan(t *testing.T) {
	type change = func(*lb.Snapshot)
	tests := []struct {
		name   string
		change []change
		want   lb.Reason
		owner  lb.NodeName // checked where not ""
		on     []string    // default eth0
	}{
		{name: "alone", change: []change{only("n1")}, owner: "n1"},
		{name: "elected by its claim", change: []change{claim("n1", 1)}, owner: "n1"},
		{name: "NotOwner", change: []change{claim("n2", 1)}, want: lb.NotOwner, owner: "n2"},
		{name: "NotAMember", change: []change{only("n2")}, want: lb.NotAMember, owner: "n2"},
		{name: "NotAMember, and no other", change: []change{only()}, want: lb.NotAMember},
		{name: "NodeDraining", change: []change{member("n1", draining)}, want: lb.NodeDraining},
		{name: "NodeUnavailable: unknown", change: []change{only("n1"), func(s *lb.Snapshot) { delete(s.Nodes, "n1") }}, want: lb.NodeUnavailable},
		{name: "NodeUnavailable: condition", change: []change{claim("n1", 1), node("n1", func(n *lb.Node) { n.NetworkUnavailable = true })}, want: lb.NodeUnavailable},
		{name: "NodeUnavailable: deleting", change: []change{node("n1", func(n *lb.Node) { n.Deleting = true })}, want: lb.NodeUnavailable},
		{name: "NodeExcluded", change: []change{node("n1", excluded)}, want: lb.NodeExcluded},
		{name: "cordon alone does nothing", change: []change{claim("n1", 1), node("n1", func(n *lb.Node) { n.Cordoned = true })}, owner: "n1"},
		{name: "DatapathNotReady", change: []change{claim("n1", 1), member("n1", func(m *lb.Member) { m.Ready = false })}, want: lb.DatapathNotReady},
		{name: "NotProgrammed: not yet", change: []change{claim("n1", 1), func(s *lb.Snapshot) { s.Programmed = nil }}, want: lb.NotProgrammed, owner: "n1"},
		{name: "NotProgrammed: failed, others take over", change: []change{claim("n1", 1), member("n1", func(m *lb.Member) { m.Failing = []netip.Addr{vip} })}, want: lb.NotProgrammed},
		{name: "without a datapath the gate is open", change: []change{claim("n1", 1), func(s *lb.Snapshot) { s.Programmed, s.Forwards = nil, false }}, owner: "n1"},
		{name: "NotProgrammed: kube-proxy alone does not open it", change: []change{claim("n1", 1), func(s *lb.Snapshot) { s.Programmed, s.Services[0].Ingress[0].Mode = nil, lb.ModeVIP }}, want: lb.NotProgrammed, owner: "n1"},

		{name: "NodeDown: the claim of a dead node counts for nothing", change: []change{only("n1", "n2"), claim("n2", 5), down("n2")}, owner: "n1"},
		{name: "NodeDown: taken for dead by others, but alive", change: []change{claim("n1", 5), down("n1")}, owner: "n1"},

		{name: "NotAdvertised: no advertisement", change: []change{ads()}, want: lb.NotAdvertised},
		{name: "NotAdvertised: other pool", change: []change{ads(lb.L2Advertisement{Pools: []string{"other"}})}, want: lb.NotAdvertised},
		{name: "NotAdvertised: other Services", change: []change{ads(lb.L2Advertisement{ServiceSelectors: []lb.Selector{{{Key: "app", Op: lb.In, Values: []string{"dns"}}}}})}, want: lb.NotAdvertised},
		{name: "pool by label", change: []change{claim("n1", 1), ads(lb.L2Advertisement{PoolSelectors: []lb.Selector{{{Key: "tier", Op: lb.In, Values: []string{"front"}}}}})}, owner: "n1"},
		{name: "NodeNotSelected", change: []change{ads(lb.L2Advertisement{NodeSelectors: name("n2", "n3")})}, want: lb.NodeNotSelected},
		{name: "preference", change: []change{ads(lb.L2Advertisement{Preferred: []lb.Preference{{Weight: 10, Selector: name("n1")[0]}}})}, owner: "n1"},
		{name: "a second advertisement adds nodes", change: []change{only("n1"), ads(lb.L2Advertisement{Name: "a", NodeSelectors: name("n2")}, lb.L2Advertisement{Name: "b", NodeSelectors: name("n1")})}, owner: "n1"},

		{name: "NoInterface: down", change: []change{claim("n1", 1), func(s *lb.Snapshot) { s.Links[0].Up = false }}, want: lb.NoInterface},
		{name: "NoInterface: other subnet", change: []change{claim("n1", 1), func(s *lb.Snapshot) { s.Links = s.Links[1:] }}, want: lb.NoInterface},
		{name: "NoInterface: not allowed", change: []change{claim("n1", 1), ads(lb.L2Advertisement{Interfaces: []string{"mgmt0"}})}, want: lb.NoInterface},
		{name: "two interfaces in the subnet: one answers", change: []change{claim("n1", 1), also(link("eth1", "192.0.2.0/24"))}, owner: "n1"},
		{name: "two interfaces in the subnet: the other one answers while the first is down", change: []change{claim("n1", 1), also(link("eth1", "192.0.2.0/24")), func(s *lb.Snapshot) { s.Links[0].Up = false }}, owner: "n1", on: []string{"eth1"}},
		{name: "two interfaces in the subnet: both are named", change: []change{claim("n1", 1), also(link("eth1", "192.0.2.0/24")), ads(lb.L2Advertisement{Interfaces: []string{"eth0", "eth1"}})}, owner: "n1", on: []string{"eth0", "eth1"}},
		{name: "two interfaces in the subnet: the one that is named by another advertisement", change: []change{claim("n1", 1), also(link("eth1", "192.0.2.0/24")), ads(lb.L2Advertisement{Name: "a"}, lb.L2Advertisement{Name: "b", Interfaces: []string{"eth1"}})}, owner: "n1", on: []string{"eth1"}},
		{name: "two interfaces in subnets of different size are on different segments", change: []change{claim("n1", 1), also(link("eth1", "192.0.0.0/16"))}, owner: "n1", on: []string{"eth0", "eth1"}},
		{name: "interfaces of several advertisements are added", change: []change{claim("n1", 1), ads(lb.L2Advertisement{Name: "a", Interfaces: []string{"eth1"}}, lb.L2Advertisement{Name: "b", Interfaces: []string{"eth0"}}),
			also(link("eth1", "192.0.2.0/24"))}, owner: "n1", on: []string{"eth0", "eth1"}},

		{name: "NoEndpoints: none", change: []change{endpoints()}, want: lb.NoEndpoints},
		{name: "NoEndpoints: not ready", change: []change{endpoints(endpoint("n1", false, false))}, want: lb.NoEndpoints},
		{name: "NoEndpoints: of another port", change: []change{func(s *lb.Snapshot) { s.Endpoints.Of(web)[0].PortName = "q" }}, want: lb.NoEndpoints},
		{name: "terminating endpoints will do", change: []change{claim("n1", 1), endpoints(endpoint("n2", false, true))}, owner: "n1"},
		{name: "NoLocalEndpoint", change: []change{claim("n1", 1), local}, want: lb.NoLocalEndpoint, owner: "n2"},
		{name: "local endpoint", change: []change{local, endpoints(endpoint("n1", true, false))}, owner: "n1"},
		{name: "NoLocalEndpoint: only a terminating one while another node has a ready one", change: []change{local, endpoints(endpoint("n1", false, true), endpoint("n2", true, false))}, want: lb.NoLocalEndpoint, owner: "n2"},
		{name: "the local endpoints terminate: answer until the successor's claim", change: []change{claim("n1", 1), local, endpoints(endpoint("n1", false, true), endpoint("n2", true, false))}, owner: "n2"},
		{name: "the local endpoints terminate: stop at the successor's claim", change: []change{claim("n1", 1), claim("n2", 2), local, endpoints(endpoint("n1", false, true), endpoint("n2", true, false))}, want: lb.NoLocalEndpoint, owner: "n2"},
		{name: "local and terminating where nothing is ready", change: []change{local, endpoints(endpoint("n1", false, true))}, owner: "n1"},

		{name: "draining: answer until the successor's claim", change: []change{claim("n1", 3), member("n1", draining)}},
		{name: "draining: stop at the successor's claim", change: []change{only("n1", "n2"), claim("n1", 3), member("n1", draining), claim("n2", 4)}, want: lb.NodeDraining, owner: "n2"},
		{name: "draining: nobody can take it", change: []change{only("n1"), claim("n1", 3), member("n1", draining)}},
		{name: "draining: not what it never announced", change: []change{only("n1"), member("n1", draining)}, want: lb.NodeDraining},
		{name: "draining: not what it cannot serve", change: []change{claim("n1", 3), member("n1", draining), func(s *lb.Snapshot) { s.Links = nil }}, want: lb.NodeDraining},
		{name: "excluded: answer until the successor's claim", change: []change{claim("n1", 3), node("n1", excluded)}},
		{name: "excluded: nobody can take it, stop", change: []change{only("n1"), claim("n1", 3), node("n1", excluded)}, want: lb.NodeExcluded},
		{name: "no longer selected: answer until the successor's claim", change: []change{claim("n1", 3), ads(lb.L2Advertisement{NodeSelectors: name("n2")})}, owner: "n2"},
		{name: "no longer selected: stop at the successor's claim", change: []change{claim("n1", 3), claim("n2", 4), ads(lb.L2Advertisement{NodeSelectors: name("n2")})}, want: lb.NodeNotSelected, owner: "n2"},
		{name: "no longer selected: nobody can take it, stop", change: []change{only("n1"), claim("n1", 3), ads(lb.L2Advertisement{NodeSelectors: name("n2")})}, want: lb.NodeNotSelected},
		{name: "no longer selected: not on an interface that is not allowed", change: []change{claim("n1", 3), ads(lb.L2Advertisement{Interfaces: []string{"eth1"}, NodeSelectors: name("n2")}),
			member("n2", func(m *lb.Member) { m.Links = []lb.Link{link("eth1", "192.0.2.0/24")} })}, want: lb.NodeNotSelected, owner: "n2"},
		{name: "interface no longer allowed: answer until the successor's claim", change: []change{claim("n1", 3), onEth0, ads(lb.L2Advertisement{Interfaces: []string{"eth1"}}), eth1On("n2")}, owner: "n2"},
		{name: "interface no longer allowed: stop at the successor's claim", change: []change{claim("n1", 3), onEth0, ads(lb.L2Advertisement{Interfaces: []string{"eth1"}}), eth1On("n2"), claim("n2", 4)}, want: lb.NoInterface, owner: "n2"},
		{name: "interface no longer allowed: nobody can take it, stop", change: []change{claim("n1", 3), onEth0, ads(lb.L2Advertisement{Interfaces: []string{"eth1"}})}, want: lb.NoInterface},
		{name: "interface no longer allowed and down: stop", change: []change{claim("n1", 3), onEth0, ads(lb.L2Advertisement{Interfaces: []string{"eth1"}}), eth1On("n2"), func(s *lb.Snapshot) { s.Links[0].Up = false }}, want: lb.NoInterface, owner: "n2"},
		{name: "interface no longer allowed: the node has one that is", change: []change{claim("n1", 3), onEth0, also(link("eth1", "192.0.2.0/24")), ads(lb.L2Advertisement{Interfaces: []string{"eth1"}})}, owner: "n1", on: []string{"eth1"}},
		{name: "losing the local endpoint: the old owner can serve nobody, stop", change: []change{claim("n1", 3), local, endpoints(endpoint("n2", true, false))}, want: lb.NoLocalEndpoint, owner: "n2"},
		{name: "NodeCordoned: answer until the successor's claim", change: []change{claim("n1", 3), leave, node("n1", cordoned)}},
		{name: "NodeCordoned: stop at the successor's claim", change: []change{claim("n1", 3), claim("n2", 4), leave, node("n1", cordoned)}, want: lb.NodeCordoned, owner: "n2"},
		{name: "NodeCordoned: not elected either", change: []change{only("n1", "n2"), leave, node("n1", cordoned)}, want: lb.NodeCordoned, owner: "n2"},
		{name: "cordoned: with the policy keep it stays", change: []change{claim("n1", 3), node("n1", cordoned)}, owner: "n1"},
		{name: "cordoned: all of them are better than none", change: []change{claim("n1", 3), leave, node("n1", cordoned), node("n2", cordoned), node("n3", cordoned)}, owner: "n1"},
		{name: "cordoned: the only one that serves goes on", change: []change{claim("n1", 3), leave, node("n1", cordoned), local, endpoints(endpoint("n1", true, false))}, owner: "n1"},
		{name: "handing over: answer until the successor's claim", change: []change{handing("n1", 3, "n2")}, owner: "n2"},
		{name: "handing over: stop at the successor's claim", change: []change{handing("n1", 3, "n2"), claim("n2", 4)}, want: lb.NotOwner, owner: "n2"},
		{name: "handing over: the successor died, stay", change: []change{handing("n1", 3, "n2"), down("n2")}, owner: "n1"},
		{name: "handing over: taken", change: []change{handing("n2", 3, "n1")}, owner: "n1"},
		{name: "handing over: not before the datapath has it", change: []change{handing("n2", 3, "n1"), func(s *lb.Snapshot) { s.Programmed = nil }}, want: lb.NotProgrammed, owner: "n1"},

		{name: "Settling", change: []change{prefer("n1"), settling}, want: lb.Settling, owner: "n1"},
		{name: "Settling: not what this node announces already", change: []change{claim("n1", 1), settling}, owner: "n1"},
		{name: "Settling: not what a dead node held", change: []change{prefer("n1"), settling, func(s *lb.Snapshot) { s.Epochs = map[netip.Addr]uint64{vip: 4} }}, owner: "n1"},
		{name: "Settling: not what a leaving node still holds", change: []change{only("n1", "n2"), claim("n2", 4), member("n2", draining), settling}, owner: "n1"},
		{name: "AddressConflict", change: []change{prefer("n1"), conflict}, want: lb.AddressConflict, owner: "n1"},
		{name: "AddressConflict: what is announced stays, it is an alarm", change: []change{claim("n1", 1), conflict}, owner: "n1"},
		{name: "Fenced", change: []change{claim("n1", 1), func(s *lb.Snapshot) { s.Fenced = true }}, want: lb.Fenced, owner: "n1"},

		{name: "ForwarderNotReady: not asked yet", change: []change{announceOnly, local, onN1}, want: lb.ForwarderNotReady, owner: "n1"},
		{name: "ForwarderNotReady: not asked yet, but announced: the policy was Cluster until now", change: []change{announceOnly, local, onN1, claim("n1", 1)}, owner: "n1"},
		{name: "ForwarderNotReady: no", change: []change{announceOnly, local, onN1, claim("n1", 1), answered(refuses)}, want: lb.ForwarderNotReady},
		{name: "ForwarderNotReady: no, others take over", change: []change{announceOnly, local, endpoints(endpoint("n1", true, false), endpoint("n2", true, false)), claim("n1", 1), answered(refuses)},
			want: lb.ForwarderNotReady, owner: "n2"},
		{name: "ForwarderNotReady: another node's says no", change: []change{announceOnly, local, endpoints(endpoint("n1", true, false), endpoint("n2", true, false)), claim("n2", 1),
			member("n2", func(m *lb.Member) { m.Failing = []netip.Addr{vip} }), answered(serves)}, owner: "n1"},
		{name: "the forwarder says yes", change: []change{announceOnly, local, onN1, answered(serves)}, owner: "n1"},
		{name: "the forwarder is not asked with policy Cluster", change: []change{announceOnly, claim("n1", 1), answered(refuses)}, owner: "n1"},
		{name: "nor without a health check node port", change: []change{announceOnly, local, onN1, func(s *lb.Snapshot) { s.Services[0].HealthCheckNodePort = 0 }}, owner: "n1"},
		{name: "nor where Fairlead forwards", change: []change{local, onN1, answered(refuses)}, owner: "n1"},
		{name: "the local endpoints terminate: what the forwarder says does not end the handover", change: []change{announceOnly, claim("n1", 1), local,
			endpoints(endpoint("n1", false, true), endpoint("n2", true, false)), answered(refuses)}, owner: "n2"},

		{name: "the younger claim of another wins", change: []change{claim("n1", 3), claim("n3", 4)}, want: lb.NotOwner, owner: "n3"},

		{name: "outside the pools: unrestricted advertisement", change: []change{only("n1"), noPools}, owner: "n1"},
		{name: "outside the pools: the pool it came from is still named", change: []change{noPools, ads(lb.L2Advertisement{Name: "a", Pools: []string{"main"}, NodeSelectors: name("n2")}, lb.L2Advertisement{Name: "b", Pools: []string{"other"}})}, want: lb.NodeNotSelected, owner: "n2"},
		{name: "outside the pools: edited, its labels still count", change: []change{func(s *lb.Snapshot) { s.Pools[0].Ranges = nil },
			ads(lb.L2Advertisement{Name: "a", PoolSelectors: []lb.Selector{{{Key: "tier", Op: lb.Exists}}}, NodeSelectors: name("n2")}, lb.L2Advertisement{Name: "b", Pools: []string{"other"}})}, want: lb.NodeNotSelected, owner: "n2"},
		{name: "outside the pools: any advertisement rather than silence", change: []change{only("n1"), noPools, ads(lb.L2Advertisement{Pools: []string{"other"}})}, owner: "n1"},
		{name: "outside the pools: not for other Services", change: []change{only("n1"), noPools, ads(lb.L2Advertisement{ServiceSelectors: []lb.Selector{{{Key: "app", Op: lb.In, Values: []string{"dns"}}}}})}, want: lb.NotAdvertised},
	}
	seen := map[lb.Reason]bool{}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := three()
			for _, c := range tt.change {
				c(&s)
			}
			got := Plan(s)
			if len(got) != 1 {
				t.Fatalf("%d decisions, want 1", len(got))
			}
			d := got[0]
			seen[d.Reason] = true
			if d.Reason != tt.want || d.Announce != (tt.want == "") {
				t.Errorf("got %s, want reason %q", d, tt.want)
			}
			if tt.owner != "" && d.Owner != tt.owner {
				t.Errorf("owner %q, want %q", d.Owner, tt.owner)
			}
			on := tt.on
			if on == nil && d.Announce {
				on = []string{"eth0"}
			}
			if diff := cmp.Diff(on, d.Interfaces); diff != "" {
				t.Errorf("interfaces (-want +got):\n%s", diff)
			}
			if !d.Announce && d.Message == "" {
				t.Error("a no without a sentence")
			}
		})
	}
	for _, r := range []lb.Reason{lb.NotAdvertised, lb.NoEndpoints, lb.NoLocalEndpoint, lb.NodeExcluded, lb.NodeUnavailable, lb.NodeNotSelected,
		lb.NodeDraining, lb.NoInterface, lb.DatapathNotReady, lb.NotProgrammed, lb.NotOwner, lb.NotAMember,
		lb.NodeCordoned, lb.Settling, lb.AddressConflict, lb.Fenced, lb.ForwarderNotReady} {
		if !seen[r] {
			t.Errorf("no row gives %s", r)
		}
	}
}

func TestANodeThatIsDownIsRefusedByItsWatchersNames(t *testing.T) {
	s := three()
	s.Down = map[lb.NodeName]bool{"n3": true}
	for _, watcher := range []lb.NodeName{"n1", "n2"} {
		member(watcher, func(m *lb.Member) { m.Suspects = []lb.NodeName{"n3"} })(&s)
	}
	got := stand(s, s.Members[2]).refusal
	if want := (lb.Refusal{Reason: lb.NodeDown, Message: "the heartbeats of n3 no longer reach n1, n2"}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// shared returns a cluster in which web and dns hold the same address, both with externalTrafficPolicy Local.
func shared(webOn, dnsOn []lb.NodeName) lb.Snapshot {
	s := three()
	s.Services = []lb.Service{service(dns, lb.Local, vip), service(web, lb.Local, vip)}
	s.Endpoints = nil
	for _, n := range webOn {
		s.Endpoints.Set(web, append(s.Endpoints.Of(web), endpoint(n, true, false)))
	}
	for _, n := range dnsOn {
		s.Endpoints.Set(dns, append(s.Endpoints.Of(dns), endpoint(n, true, false)))
	}
	return s
}

func TestSharedAddressIsElectedOnce(t *testing.T) {
	type nodes = []lb.NodeName
	tests := []struct {
		name       string
		web, dns   nodes
		mayOwn     nodes
		serveParts bool
	}{
		{name: "the node that serves both", web: nodes{"n1", "n2"}, dns: nodes{"n2", "n3"}, mayOwn: nodes{"n2"}},
		{name: "a Service without endpoints has no vote", web: nodes{"n3"}, mayOwn: nodes{"n3"}},
		{name: "nobody serves both: one of them rather than silence", web: nodes{"n1"}, dns: nodes{"n3"}, mayOwn: nodes{"n1", "n3"}, serveParts: true},
		{name: "no endpoints at all", mayOwn: nodes{""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			announcing := 0
			for _, self := range []lb.NodeName{"n1", "n2", "n3"} {
				s := shared(tt.web, tt.dns)
				s.Self = self
				got := Plan(s)
				if len(got) != 1 || !slices.Equal(got[0].Services, []lb.ServiceKey{dns, web}) {
					t.Fatalf("got %v, want one decision for both Services", got)
				}
				if !slices.Contains(tt.mayOwn, got[0].Owner) {
					t.Errorf("owner %q, want one of %v", got[0].Owner, tt.mayOwn)
				}
				if got[0].Announce {
					announcing++
					if self != got[0].Owner || (got[0].Message != "") != tt.serveParts {
						t.Errorf("%s announces: %s", self, got[0])
					}
				}
			}
			if want := min(1, len(tt.web)+len(tt.dns)); announcing != want {
				t.Errorf("%d nodes announce, want %d", announcing, want)
			}
		})
	}
}

func TestSharedAddressAndServiceSelectors(t *testing.T) {
	s := shared([]lb.NodeName{"n1", "n2"}, []lb.NodeName{"n1", "n2"})
	app := func(name string) []lb.Selector {
		return []lb.Selector{{{Key: "app", Op: lb.In, Values: []string{name}}}}
	}
	s.L2 = []lb.L2Advertisement{{Name: "web", ServiceSelectors: app("web"), NodeSelectors: name("n1", "n2")}, {Name: "dns", ServiceSelectors: app("dns"), NodeSelectors: name("n2")}}
	if d := Plan(s)[0]; d.Owner != "n2" {
		t.Errorf("%s, owner %s; want n2, the only one that both advertisements select", d, d.Owner)
	}
}

// TestEveryNodeNamesTheSameOwner looks at one cluster from each node.
func TestEveryNodeNamesTheSameOwner(t *testing.T) {
	s := three()
	s.Services = []lb.Service{service(dns, lb.Cluster, vip2), service(web, lb.Cluster, vip)}
	s.Endpoints.Set(dns, s.Endpoints.Of(web))
	owners := map[lb.NodeName]map[netip.Addr]lb.NodeName{}
	for n := range s.Nodes {
		s.Self = n
		owners[n] = map[netip.Addr]lb.NodeName{}
		for _, d := range Plan(s) {
			owners[n][d.VIP] = d.Owner
			if d.Announce != (d.Owner == n) {
				t.Errorf("%s: %s, but the owner is %s", n, d, d.Owner)
			}
		}
	}
	for n, o := range owners {
		if !maps.Equal(o, owners["n1"]) || len(o) != 2 {
			t.Errorf("%s says %v, n1 says %v", n, o, owners["n1"])
		}
	}
}

func TestPlanIsSortedByAddress(t *testing.T) {
	s := three()
	s.Services[0] = service(web, lb.Cluster, vip2, vip)
	got := Plan(s)
	if len(got) != 2 || got[0].VIP != vip || got[1].VIP != vip2 {
		t.Errorf("got %v", got)
	}
}
