package datapath_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/datapath/datapathtest"
	"github.com/fairlead-lb/fairlead/lb"
)

// The addresses at which the Service of these tests is reached on node n1.
const (
	cip  = "10.96.0.10"
	eip  = "203.0.113.50"
	node = "192.0.2.11"
)

// who are the clients by name.
var who = map[string]string{"client": client, "stranger": stranger, "pod": "10.0.1.77", "farpod": "10.0.2.77", "host": node, "n2": "192.0.2.12"}

// shop is web at every kind of address.
func shop(edit ...func(*lb.Service)) lb.Service {
	return web(append([]func(*lb.Service){func(s *lb.Service) {
		s.Ports[0].NodePort = 30080
		s.ClusterIPs, s.ExternalIPs = []netip.Addr{netip.MustParseAddr(cip)}, []netip.Addr{netip.MustParseAddr(eip)}
	}}, edit...)...)
}

// external is what n1 knows in mode external; its pods are 10.0.1.0/24.
func external(svc lb.Service, eps ...lb.Endpoint) lb.Snapshot {
	s := snapshot(svc, eps...)
	s.Nodes = map[lb.NodeName]lb.Node{
		"n1": {Name: "n1", Addrs: []netip.Addr{netip.MustParseAddr(node)}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24")},
			Labels: map[string]string{"topology.kubernetes.io/zone": "a"}},
		"n2": {Name: "n2", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.12")}},
	}
	s.Forwarding.Pods.NodeCIDRs = true
	return s
}

// full is the same in mode full.
func full(svc lb.Service, eps ...lb.Endpoint) lb.Snapshot {
	s := external(svc, eps...)
	s.Forwarding.Full = true
	s.Addrs = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr(node), netip.MustParseAddr("10.0.1.1"), netip.MustParseAddr("fe80::1")}
	slices.SortFunc(s.Addrs, netip.Addr.Compare)
	return s
}

func kernelOf(t *testing.T, s lb.Snapshot) *datapathtest.Kernel {
	t.Helper()
	k := &datapathtest.Kernel{Host: s.Nodes[s.Self].Addrs, Now: t0}
	if _, err := k.Sync(context.Background(), datapath.Desired(s), t0); err != nil {
		t.Fatal(err)
	}
	return k
}

// try sends packets and compares their fate: "pod 10.96.0.10:80 = 10.0.1.1:8080 masqueraded", UDP with "/UDP" after the port.
func try(t *testing.T, k *datapathtest.Kernel, packets ...string) {
	t.Helper()
	for _, p := range packets {
		question, want, _ := strings.Cut(p, " = ")
		from, to, _ := strings.Cut(question, " ")
		to, protocol, _ := strings.Cut(to, "/")
		if a, ok := who[from]; ok {
			from = a
		}
		if protocol == "" {
			protocol = "TCP"
		}
		if got := k.Connect(from, to, lb.Protocol(protocol)).String(); got != want {
			t.Errorf("%s: got %s; the kernel holds\n%s", p, got, k.State())
		}
	}
}

var (
	here  = ep("10.0.1.1:8080", "n1", "rs")
	there = ep("10.0.2.1:8080", "n2", "rs")
)

func intLocal(s *lb.Service) { s.InternalTrafficPolicy = lb.Local }

// outsides are the addresses at which the outside reaches the Service in a mode.
func outsides(s lb.Snapshot) []string {
	if s.Forwarding.Full {
		return []string{vip + ":80", eip + ":80", node + ":30080"}
	}
	return []string{vip + ":80"}
}

// bothModes runs a test in mode external and full.
func bothModes(t *testing.T, run func(t *testing.T, mode func(lb.Service, ...lb.Endpoint) lb.Snapshot)) {
	t.Run("external", func(t *testing.T) { run(t, external) })
	t.Run("full", func(t *testing.T) { run(t, full) })
}

func TestS2FamilyWithoutAClusterIPIsNotServed(t *testing.T) {
	v6 := ep("[fd00::1]:8080", "n1", "rs")
	s := shop(func(s *lb.Service) {
		s.Ingress = append(s.Ingress, lb.Ingress{Addr: netip.MustParseAddr("2001:db8::200"), Mode: lb.ModeProxy})
		s.ExternalIPs = append(s.ExternalIPs, netip.MustParseAddr("2001:db8::50"))
	})
	k := kernelOf(t, full(s, here, v6))
	try(t, k, "2001:db8::1 [2001:db8::200]:80 = NOT OURS", "2001:db8::1 [2001:db8::50]:80 = NOT OURS", "client 192.0.2.200:80 = 10.0.1.1:8080 masqueraded")
	s.ClusterIPs = append(s.ClusterIPs, netip.MustParseAddr("fd96::10"))
	k = kernelOf(t, full(s, here, v6))
	try(t, k, "2001:db8::1 [2001:db8::200]:80 = [fd00::1]:8080 masqueraded", "2001:db8::1 [2001:db8::50]:80 = [fd00::1]:8080 masqueraded",
		"2001:db8::1 [fd96::10]:80 = [fd00::1]:8080 masqueraded", "client 192.0.2.200:80 = 10.0.1.1:8080 masqueraded")
}

func TestS3OneNumberForTCPAndUDPAtEveryAddress(t *testing.T) {
	s := shop(func(s *lb.Service) {
		s.Ports = []lb.Port{{Name: "dns-tcp", Protocol: lb.TCP, Port: 53, NodePort: 30053}, {Name: "dns", Protocol: lb.UDP, Port: 53, NodePort: 30053}}
	})
	k := kernelOf(t, full(s, ep("10.0.1.1:53", "n1", "rs", port("dns-tcp")), ep("10.0.2.1:5353", "n2", "rs", port("dns"), udp)))
	for _, to := range []string{cip + ":53", vip + ":53", eip + ":53", node + ":30053"} {
		try(t, k, "client "+to+" = 10.0.1.1:53 masqueraded", "client "+to+"/UDP = 10.0.2.1:5353 masqueraded")
	}
}

func TestS8NothingIsServedBeforeFactsAreKnown(t *testing.T) {
	if s := datapath.Desired(lb.Snapshot{Self: "n1", Forwards: true, Forwarding: lb.Forwarding{Full: true}}); !s.Equal(datapath.State{}) {
		t.Errorf("from no facts:\n%s", s)
	}
}

func TestS14EndpointsAnywhereDecideBetweenRejectAndDrop(t *testing.T) {
	bothModes(t, func(t *testing.T, mode func(lb.Service, ...lb.Endpoint) lb.Snapshot) {
		try(t, kernelOf(t, mode(shop(local), ep("10.0.2.1:8080", "n2", "st"))), "client 192.0.2.200:80 = DROP")
		try(t, kernelOf(t, mode(shop(local), ep("10.0.2.1:8080", "n2", "t"))), "client 192.0.2.200:80 = REJECT")
	})
}

func TestS17HintsKeepTrafficNear(t *testing.T) {
	hint := func(zones, nodes string) func(*lb.Endpoint) {
		return func(e *lb.Endpoint) { e.ForZones, e.ForNodes = zones, nodes }
	}
	a, b := ep("10.0.1.1:8080", "n1", "rs", hint("a", "n1")), ep("10.0.2.1:8080", "n2", "rs", hint("b", "n2"))
	aToo := ep("10.0.3.1:8080", "n3", "rs", hint("a,c", "n3"))
	onlyZones := func(e lb.Endpoint) lb.Endpoint { e.ForNodes = ""; return e }
	bare := ep("10.0.4.1:8080", "n2", "rs")
	bothModes(t, func(t *testing.T, mode func(lb.Service, ...lb.Endpoint) lb.Snapshot) {
		for name, tc := range map[string]struct {
			eps  []lb.Endpoint
			want string // the endpoints that one after another are chosen
		}{
			"node":                      {[]lb.Endpoint{a, b, aToo}, "10.0.1.1 10.0.1.1"},
			"S19 no node: zone":         {[]lb.Endpoint{b, aToo}, "10.0.3.1 10.0.3.1"},
			"zone":                      {[]lb.Endpoint{onlyZones(a), onlyZones(b), onlyZones(aToo)}, "10.0.1.1 10.0.3.1 10.0.1.1"},
			"S19 neither: all":          {[]lb.Endpoint{b, ep("10.0.5.1:8080", "n5", "rs", hint("b", "n5"))}, "10.0.2.1 10.0.5.1"},
			"one without hints: all":    {[]lb.Endpoint{a, b, bare}, "10.0.1.1 10.0.2.1 10.0.4.1"},
			"one without a node's hint": {[]lb.Endpoint{onlyZones(a), b, aToo}, "10.0.1.1 10.0.3.1"},
			"only ready ones count":     {[]lb.Endpoint{a, b, ep("10.0.4.1:8080", "n2", "st")}, "10.0.1.1 10.0.1.1"},
			"not while all terminate":   {[]lb.Endpoint{ep("10.0.1.1:8080", "n1", "st", hint("a", "n1")), ep("10.0.2.1:8080", "n2", "st", hint("b", "n2"))}, "10.0.1.1 10.0.2.1"},
		} {
			t.Run(name, func(t *testing.T) {
				k := kernelOf(t, mode(shop(), tc.eps...))
				for want := range strings.FieldsSeq(tc.want) {
					try(t, k, "client 192.0.2.200:80 = "+want+":8080 masqueraded")
				}
			})
		}
		t.Run("S12 never under Local", func(t *testing.T) {
			k := kernelOf(t, mode(shop(local), ep("10.0.1.1:8080", "n1", "rs", hint("b", "n2")), b))
			try(t, k, "client 192.0.2.200:80 = 10.0.1.1:8080")
		})
	})
}

func TestS18PoliciesDoNotMix(t *testing.T) {
	k := kernelOf(t, full(shop(intLocal), there))
	try(t, k, "pod 10.96.0.10:80 = DROP", "client 192.0.2.200:80 = 10.0.2.1:8080 masqueraded", "client 192.0.2.11:30080 = 10.0.2.1:8080 masqueraded")
	k = kernelOf(t, full(shop(local), there))
	try(t, k, "pod 10.96.0.10:80 = 10.0.2.1:8080", "client 192.0.2.200:80 = DROP", "client 192.0.2.11:30080 = DROP")
}

func TestS20ClusterIP(t *testing.T) {
	k := kernelOf(t, full(shop(), there))
	try(t, k, "pod 10.96.0.10:80 = 10.0.2.1:8080", "host 10.96.0.10:80 = 10.0.2.1:8080 masqueraded",
		"farpod 10.96.0.10:80 = 10.0.2.1:8080 masqueraded", "client 10.96.0.10:80 = 10.0.2.1:8080 masqueraded")
	all := full(shop(), there)
	all.Forwarding.MasqueradeAll = true
	try(t, kernelOf(t, all), "pod 10.96.0.10:80 = 10.0.2.1:8080 masqueraded", "client 10.96.0.10:80 = 10.0.2.1:8080 masqueraded")
}

func TestS21Detectors(t *testing.T) {
	for name, tc := range map[string]struct {
		pods    lb.PodDetection
		packets []string // to an address with externalTrafficPolicy Local whose endpoint is elsewhere, and to the ClusterIP
	}{
		"none": {lb.PodDetection{}, []string{"pod 192.0.2.200:80 = DROP", "pod 10.96.0.10:80 = 10.0.2.1:8080", "client 10.96.0.10:80 = 10.0.2.1:8080",
			"host 192.0.2.200:80 = 10.0.2.1:8080 masqueraded"}},
		"the node's own range": {lb.PodDetection{NodeCIDRs: true}, []string{"pod 192.0.2.200:80 = 10.0.2.1:8080", "farpod 192.0.2.200:80 = DROP", "client 10.96.0.10:80 = 10.0.2.1:8080 masqueraded"}},
		"the cluster's range": {lb.PodDetection{Ranges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}}, []string{"pod 192.0.2.200:80 = 10.0.2.1:8080",
			"farpod 192.0.2.200:80 = 10.0.2.1:8080", "farpod 10.96.0.10:80 = 10.0.2.1:8080", "client 192.0.2.200:80 = DROP"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := full(shop(local), there)
			s.Forwarding.Pods = tc.pods
			try(t, kernelOf(t, s), tc.packets...)
		})
	}
	s := full(shop(local), there)
	s.Forwarding.Pods = lb.PodDetection{Interfaces: []string{"cali*", "cni0"}}
	k := kernelOf(t, s)
	for via, want := range map[string]string{"cali123": "10.0.2.1:8080", "cni0": "10.0.2.1:8080", "cni01": "DROP", "eth0": "DROP", "": "DROP"} {
		p := datapathtest.Packet{From: netip.MustParseAddrPort("10.9.9.9:4000"), To: netip.MustParseAddrPort(vip + ":80"), Protocol: lb.TCP, Via: via}
		if got := k.Send(p).String(); got != want {
			t.Errorf("through %q: %s, want %s", via, got, want)
		}
	}
}

func TestS22ClusterMasqueradesEverybody(t *testing.T) {
	bothModes(t, func(t *testing.T, mode func(lb.Service, ...lb.Endpoint) lb.Snapshot) {
		s := mode(shop(), there)
		k := kernelOf(t, s)
		for _, to := range outsides(s) {
			for _, from := range []string{"client", "pod", "host", "farpod", "n2"} {
				try(t, k, from+" "+to+" = 10.0.2.1:8080 masqueraded")
			}
		}
	})
}

func TestS23S24S25S26LocalTellsClientsApart(t *testing.T) {
	bothModes(t, func(t *testing.T, mode func(lb.Service, ...lb.Endpoint) lb.Snapshot) {
		s := mode(shop(local), here, there)
		for _, to := range outsides(s) {
			k := kernelOf(t, s)
			try(t, k, "client "+to+" = 10.0.1.1:8080", "client "+to+" = 10.0.1.1:8080", "farpod "+to+" = 10.0.1.1:8080", "n2 "+to+" = 10.0.1.1:8080",
				"pod "+to+" = 10.0.1.1:8080", "pod "+to+" = 10.0.2.1:8080", "host "+to+" = 10.0.1.1:8080 masqueraded", "host "+to+" = 10.0.2.1:8080 masqueraded")
		}
	})
}

func TestS27PodsAndTheHostAreServedInPlace(t *testing.T) {
	bothModes(t, func(t *testing.T, mode func(lb.Service, ...lb.Endpoint) lb.Snapshot) {
		s := mode(shop(local), there) // no announcement from here: no endpoint
		try(t, kernelOf(t, s), "pod 192.0.2.200:80 = 10.0.2.1:8080", "host 192.0.2.200:80 = 10.0.2.1:8080 masqueraded")
	})
}

func TestS28Hairpin(t *testing.T) {
	self := ep("10.0.1.77:8080", "n1", "rs") // the pod that also is the client
	bothModes(t, func(t *testing.T, mode func(lb.Service, ...lb.Endpoint) lb.Snapshot) {
		s := mode(shop(local), self)
		for _, to := range outsides(s) {
			try(t, kernelOf(t, s), "pod "+to+" = 10.0.1.77:8080 masqueraded", "client "+to+" = 10.0.1.77:8080")
		}
	})
	try(t, kernelOf(t, full(shop(), self)), "pod 10.96.0.10:80 = 10.0.1.77:8080 masqueraded", "10.0.1.78 10.96.0.10:80 = 10.0.1.77:8080")
}

// TestS33RepliesComeBack: whom a far endpoint sees must be this node, or a pod of it.
func TestS33RepliesComeBack(t *testing.T) {
	bothModes(t, func(t *testing.T, mode func(lb.Service, ...lb.Endpoint) lb.Snapshot) {
		for _, edit := range []func(*lb.Service){local, intLocal, func(*lb.Service) {}} {
			s := mode(shop(edit), here, there, ep("10.0.2.2:8080", "n2", "rs"))
			k := kernelOf(t, s)
			for _, to := range append(outsides(s), cip+":80") {
				for _, from := range []string{"client", "farpod", "n2", "host"} {
					for range 3 {
						fate := k.Connect(who[from], to, lb.TCP)
						if fate.Dest.IsValid() && fate.Dest != here.Addr && !fate.Masquerade {
							t.Errorf("%s -> %s: %s sees %s", from, to, fate.Dest, who[from])
						}
					}
				}
			}
		}
	})
}

func TestS34AffinityEndsAfterItsLastUse(t *testing.T) {
	bothModes(t, func(t *testing.T, mode func(lb.Service, ...lb.Endpoint) lb.Snapshot) {
		k := kernelOf(t, mode(shop(func(s *lb.Service) { s.SessionAffinity = time.Minute }), here, there))
		try(t, k, "client 192.0.2.200:80 = 10.0.1.1:8080 masqueraded", "stranger 192.0.2.200:80 = 10.0.2.1:8080 masqueraded")
		for range 3 { // each new connection prolongs it
			k.Now = k.Now.Add(59 * time.Second)
			try(t, k, "client 192.0.2.200:80 = 10.0.1.1:8080 masqueraded")
		}
		k.Now = k.Now.Add(time.Minute)
		try(t, k, "stranger 192.0.2.200:80 = 10.0.1.1:8080 masqueraded", "client 192.0.2.200:80 = 10.0.2.1:8080 masqueraded")
	})
}

func TestS35AffinityIsSharedByTheAddressesOfAPort(t *testing.T) {
	two := func(s *lb.Service) {
		s.SessionAffinity = time.Hour
		s.Ports = append(s.Ports, lb.Port{Name: "alt", Protocol: lb.TCP, Port: 81})
	}
	k := kernelOf(t, full(shop(two), here, there, ep("10.0.1.1:8081", "n1", "rs", port("alt")), ep("10.0.2.1:8081", "n2", "rs", port("alt"))))
	try(t, k, "stranger 192.0.2.200:80 = 10.0.1.1:8080 masqueraded", "client 192.0.2.200:80 = 10.0.2.1:8080 masqueraded")
	for _, to := range []string{cip + ":80", eip + ":80", node + ":30080"} {
		try(t, k, "client "+to+" = 10.0.2.1:8080 masqueraded")
	}
	try(t, k, "client 192.0.2.200:81 = 10.0.1.1:8081 masqueraded") // another port, another memory
}

func TestS36AffinityYieldsToAnEndpointThatLeaves(t *testing.T) {
	bothModes(t, func(t *testing.T, mode func(lb.Service, ...lb.Endpoint) lb.Snapshot) {
		sticky := shop(func(s *lb.Service) { s.SessionAffinity = time.Hour })
		k := kernelOf(t, mode(sticky, here, there))
		try(t, k, "client 192.0.2.200:80 = 10.0.1.1:8080 masqueraded")
		if _, err := k.Sync(context.Background(), datapath.Desired(mode(sticky, ep("10.0.1.1:8080", "n1", "st"), there)), t0); err != nil {
			t.Fatal(err)
		}
		try(t, k, "client 192.0.2.200:80 = 10.0.2.1:8080 masqueraded")
	})
}

func TestS38AffinityIsSwitchedLive(t *testing.T) {
	bothModes(t, func(t *testing.T, mode func(lb.Service, ...lb.Endpoint) lb.Snapshot) {
		k := kernelOf(t, mode(shop(), here, there))
		for _, step := range []struct {
			affinity time.Duration
			hosts    int
		}{{0, 2}, {time.Hour, 1}, {0, 2}} {
			s := mode(shop(func(s *lb.Service) { s.SessionAffinity = step.affinity }), here, there)
			if _, err := k.Sync(context.Background(), datapath.Desired(s), t0); err != nil {
				t.Fatal(err)
			}
			seen := map[netip.AddrPort]bool{}
			for range 15 {
				seen[k.Connect(client, vip+":80", lb.TCP).Dest] = true
			}
			if len(seen) != step.hosts {
				t.Errorf("affinity %s: %d endpoints answer 15 connections, want %d", step.affinity, len(seen), step.hosts)
			}
		}
	})
}

func TestS39AffinityStaysOnTheNodeUnderLocal(t *testing.T) {
	bothModes(t, func(t *testing.T, mode func(lb.Service, ...lb.Endpoint) lb.Snapshot) {
		k := kernelOf(t, mode(shop(local, func(s *lb.Service) { s.SessionAffinity = time.Hour }), ep("10.0.2.0:8080", "n2", "rs"), here, ep("10.0.1.2:8080", "n1", "rs")))
		try(t, k, "client 192.0.2.200:80 = 10.0.1.1:8080", "stranger 192.0.2.200:80 = 10.0.1.2:8080", "client 192.0.2.200:80 = 10.0.1.1:8080")
	})
}
