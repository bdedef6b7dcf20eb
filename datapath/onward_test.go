package datapath_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// TestOnward names nodes n1 to n9, which are on the segment of n2 and have both families there, m1, which has no IPv6, and r1, behind a router.
func TestOnward(t *testing.T) {
	for _, tt := range []struct {
		name, self, relays string
		want               string // first and next hop in IPv4, and in IPv6
	}{
		{"alone", "n2", "", "- - / - -"},
		{"the first of two", "n1", "n2", "n2 n2 / n2 n2"},
		{"the last of two", "n2", "n1", "n1 - / n1 -"},
		{"the first of three", "n1", "n2 n3", "n2 n2 / n2 n2"},
		{"the middle", "n2", "n1 n3", "n1 n3 / n1 n3"},
		{"the last", "n3", "n1 n2", "n1 - / n1 -"},
		{"without IPv6", "n2", "m1 n3", "m1 n3 / n3 n3"},
		{"behind a router", "n2", "r1 n1", "n1 - / n1 -"},
		{"nobody but behind a router", "n2", "r1", "- - / - -"},
		{"one that the API server does not know", "n2", "n1 x1", "n1 - / n1 -"},
		{"more than a walk takes", "n9", "a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 b0 b1 b2 b3 b4 b5 b6", "a0 - / a0 -"},
		{"at its end", "a7", "a0 a1 a2 a3 a4 a5 a6 a8 a9 b0 b1 b2 b3 b4 b5 b6 b7", "a0 a8 / a0 a8"},
		{"the last that it takes", "b5", "a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 b0 b1 b2 b3 b4 b6", "a0 - / a0 -"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := crowd(tt.self, strings.Fields(tt.relays)...)
			got := datapath.Desired(s).Onward
			names := map[datapath.Hop]string{{}: "-"}
			for name, n := range s.Nodes {
				for _, a := range n.Addrs {
					names[datapath.Hop{Addr: a, Link: 7}] = string(name)
				}
			}
			if text := fmt.Sprint(names[got.IPv4.First], " ", names[got.IPv4.Next], " / ", names[got.IPv6.First], " ", names[got.IPv6.Next]); text != tt.want {
				t.Errorf("%s, want %s", text, tt.want)
			}
			if !got.Known {
				t.Error("it is not known")
			}
		})
	}
}

// TestOnwardWalks has every node of a cluster get a packet that nobody knows: it comes to all others, and to none of them twice.
func TestOnwardWalks(t *testing.T) {
	all := strings.Fields("n1 n2 n3 n4 n5")
	node := map[netip.Addr]string{}
	ways := map[string]datapath.Way{}
	for _, self := range all {
		var others []string
		for _, n := range all {
			if n != self {
				others = append(others, n)
			}
		}
		s := crowd(self, others...)
		node[s.Nodes[lb.NodeName(self)].Addrs[0]] = self
		ways[self] = datapath.Desired(s).Onward.IPv4
	}
	for _, start := range all {
		seen := map[string]int{}
		hop := ways[start].First
		for hops := 0; hop != (datapath.Hop{}); hops++ {
			if hops > len(all) {
				t.Fatalf("from %s it walks on and on: %v", start, seen)
			}
			at := node[hop.Addr]
			seen[at]++
			hop = ways[at].Next
		}
		for _, n := range all {
			if seen[n] != 1 && (n != start || seen[n] > 1) {
				t.Errorf("from %s it comes %d times to %s", start, seen[n], n)
			}
		}
	}
}

func TestOnwardIsUnknownAtFirst(t *testing.T) {
	s := crowd("n1")
	s.RelaysKnown = false
	if got := datapath.Desired(s).Onward; got != (datapath.Onward{}) {
		t.Errorf("%+v", got)
	}
}

func TestOnwardIsToBeWanted(t *testing.T) {
	s := crowd("n1", "n2")
	s.Forwarding.HandOn = false
	if got := datapath.Desired(s).Onward; got != (datapath.Onward{Known: true}) {
		t.Errorf("%+v", got)
	}
}

// TestOnwardGivesWayToDirect: with IPVS's sloppy_tcp a packet that is handed on would be caught.
func TestOnwardGivesWayToDirect(t *testing.T) {
	d := &datapath.Decider{}
	s := crowd("n1", "n2")
	s.Forwarding.Pods.NodeCIDRs = true
	n := s.Nodes["n1"]
	n.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}
	s.Nodes["n1"] = n
	if got := d.Desired(s).Onward; got.IPv4.First.Addr != s.Nodes["n2"].Addrs[0] {
		t.Errorf("with nat: %+v", got)
	}
	svc := s.Services[0]
	svc.Forwarding = lb.DSR
	s.Services = []lb.Service{svc}
	if got := d.Desired(s).Onward; got != (datapath.Onward{Known: true}) {
		t.Errorf("with dsr: %+v", got)
	}
}

// TestOnwardNews: a copy that one node takes for a connection is worse than an old connection that is not forgotten.
func TestOnwardNews(t *testing.T) {
	s := crowd("n2", "n1", "n3")
	for i := range s.Relays {
		if datapath.Desired(s).Onward.News {
			t.Errorf("all are told of new connections, of which %d can be told", i)
		}
		s.Relays[i].News = true
	}
	before := datapath.Desired(s).Onward
	s.Relays[0].News = false
	if after := datapath.Desired(s).Onward; !before.News || after == before {
		t.Errorf("%+v where all can be told, %+v where one cannot", before, after)
	}
}

// crowd is a cluster as one node sees it, with a Service.
func crowd(self string, relays ...string) lb.Snapshot {
	s := snapshot(web(), ep("10.0.0.1:80", "n2", "rs"))
	s.Forwarding.HandOn = true
	s.Self, s.RelaysKnown, s.Nodes = lb.NodeName(self), true, map[lb.NodeName]lb.Node{}
	s.Segments = []lb.Link{
		{Name: "eth1", Index: 6, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, // down
		{Name: "eth0", Index: 7, Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("fd00::/64")}},
	}
	for i, name := range append([]string{self}, relays...) {
		id := int(name[0])<<8 | int(name[1])
		n := lb.Node{Name: lb.NodeName(name), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, name[0]&0x0f<<4 | name[1]&0x0f})}}
		switch name[0] {
		case 'r':
			n.Addrs = []netip.Addr{netip.MustParseAddr("198.51.100.1")}
		case 'm':
		default:
			n.Addrs = append(n.Addrs, netip.MustParseAddr(fmt.Sprintf("fd00::%x", id)))
		}
		if name[0] != 'x' {
			s.Nodes[n.Name] = n
		}
		if i > 0 {
			s.Relays = append(s.Relays, lb.Relay{Node: n.Name})
		}
	}
	return s
}
