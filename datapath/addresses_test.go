package datapath_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

func TestS40NodePortAddresses(t *testing.T) {
	v6 := netip.MustParseAddr("2001:db8:1::11")
	for name, tc := range map[string]struct {
		edit func(*lb.Snapshot)
		want string
	}{
		"all but loopback and link-local": {func(*lb.Snapshot) {}, "10.0.1.1 192.0.2.11 2001:db8:1::11"},
		"by prefix; the other family is not restricted": {func(s *lb.Snapshot) { s.Forwarding.NodePorts = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} },
			"192.0.2.11 2001:db8:1::11"},
		"the node's own": {func(s *lb.Snapshot) { s.Forwarding.NodePortsPrimary = true }, "192.0.2.11"},
		"not a VIP that somebody assigned": {func(s *lb.Snapshot) {
			s.Addrs = append(slices.Clone(s.Addrs), netip.MustParseAddr(vip))
		}, "10.0.1.1 192.0.2.11 2001:db8:1::11"},
		"not a ClusterIP either: kube-proxy's ipvs left them, a cache of DNS has one": {func(s *lb.Snapshot) {
			s.Addrs = append(slices.Clone(s.Addrs), netip.MustParseAddr(cip))
		}, "10.0.1.1 192.0.2.11 2001:db8:1::11"},
		"an external IP that is the node's second address": {func(s *lb.Snapshot) {
			s.Addrs = append(slices.Clone(s.Addrs), netip.MustParseAddr(eip))
		}, "10.0.1.1 192.0.2.11 203.0.113.50 2001:db8:1::11"},
		"a node's address that is an external IP too": {func(s *lb.Snapshot) { s.Services[0].ExternalIPs = []netip.Addr{netip.MustParseAddr(node)} },
			"10.0.1.1 192.0.2.11 2001:db8:1::11"},
		"an address that was added": {func(s *lb.Snapshot) { s.Addrs = append(slices.Clone(s.Addrs), netip.MustParseAddr("192.0.2.13")) },
			"10.0.1.1 192.0.2.11 192.0.2.13 2001:db8:1::11"},
	} {
		t.Run(name, func(t *testing.T) {
			s := full(shop(), here)
			s.Addrs = append(s.Addrs, v6)
			tc.edit(&s)
			if got := strings.Trim(fmt.Sprint(datapath.Desired(s).NodeAddrs), "[]"); got != tc.want {
				t.Errorf("node ports at %s, want %s", got, tc.want)
			}
		})
	}
	try(t, kernelOf(t, full(shop(), here)), "client 192.0.2.11:30080 = 10.0.1.1:8080 masqueraded", "client 192.0.2.11:22 = NOT OURS", "pod 127.0.0.1:30080 = NOT OURS")
}

func TestS42WithoutANodePort(t *testing.T) {
	none := func(s *lb.Service) { s.Ports[0].NodePort = 0 }
	try(t, kernelOf(t, full(shop(none), here)), "client 192.0.2.11:30080 = NOT OURS", "client 192.0.2.200:80 = 10.0.1.1:8080 masqueraded")
}

func TestS43ExternalIPs(t *testing.T) {
	ranges := func(s *lb.Service) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} }
	k := kernelOf(t, full(shop(ranges), here))
	try(t, k, "client 203.0.113.50:80 = 10.0.1.1:8080 masqueraded", "pod 203.0.113.50:80 = 10.0.1.1:8080 masqueraded", "client 192.0.2.200:80 = DROP")
}

func TestS44WhoseAddresses(t *testing.T) {
	mode := func(m lb.IPMode) func(*lb.Service) { return func(s *lb.Service) { s.Ingress[0].Mode = m } }
	foreign := func(s lb.Snapshot) lb.Snapshot { s.Others, s.Services = s.Services, nil; return s }
	for name, tc := range map[string]struct {
		s    lb.Snapshot
		want string
	}{
		"external, ours, Proxy":   {external(shop(mode(lb.ModeProxy)), here), "10.0.1.1:8080 masqueraded"},
		"S45 external, ours, VIP": {external(shop(mode(lb.ModeVIP)), here), "10.0.1.1:8080 masqueraded"},
		"full, ours, Proxy":       {full(shop(mode(lb.ModeProxy)), here), "10.0.1.1:8080 masqueraded"},
		"full, ours, VIP":         {full(shop(mode(lb.ModeVIP)), here), "10.0.1.1:8080 masqueraded"},
		"full, foreign, VIP":      {foreign(full(shop(mode(lb.ModeVIP)), here)), "10.0.1.1:8080 masqueraded"},
		"full, foreign, Proxy":    {foreign(full(shop(mode(lb.ModeProxy)), here)), "NOT OURS"},
		"external, foreign":       {foreign(external(shop(mode(lb.ModeProxy)), here)), "NOT OURS"},
	} {
		t.Run(name, func(t *testing.T) { try(t, kernelOf(t, tc.s), "client 192.0.2.200:80 = "+tc.want) })
	}
}

func TestS46OtherPorts(t *testing.T) {
	try(t, kernelOf(t, external(shop(), here)), "client 192.0.2.200:22 = REJECT", "client 192.0.2.200:80/UDP = REJECT", "host 192.0.2.200:10250 = REJECT")
	try(t, kernelOf(t, full(shop(), here)), "pod 10.96.0.10:22 = REJECT", "client 203.0.113.50:22 = REJECT", "client 192.0.2.200:30080 = REJECT")
}

func TestS47AddressesOfNodesAreNotTakenAsAWhole(t *testing.T) {
	nodes := func(s *lb.Service) {
		s.ExternalIPs = []netip.Addr{netip.MustParseAddr(node), netip.MustParseAddr("192.0.2.12")}
	}
	k := kernelOf(t, full(shop(nodes), here))
	try(t, k, "client 192.0.2.11:80 = 10.0.1.1:8080 masqueraded", "host 192.0.2.12:80 = 10.0.1.1:8080 masqueraded",
		"client 192.0.2.11:22 = NOT OURS", "host 192.0.2.12:10250 = NOT OURS", "client 192.0.2.11:30080 = 10.0.1.1:8080 masqueraded")
}

func TestS48S49SourceRangesAreForLoadBalancerAddresses(t *testing.T) {
	ranges := func(s *lb.Service) {
		s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	}
	bothModes(t, func(t *testing.T, mode func(lb.Service, ...lb.Endpoint) lb.Snapshot) {
		s := mode(shop(ranges, local), here)
		k := kernelOf(t, s)
		try(t, k, "client 192.0.2.200:80 = DROP", "stranger 192.0.2.200:80 = 10.0.1.1:8080", "pod 192.0.2.200:80 = DROP", "host 192.0.2.200:80 = DROP")
		for _, to := range outsides(s)[1:] {
			try(t, k, "client "+to+" = 10.0.1.1:8080")
		}
		try(t, kernelOf(t, mode(shop(ranges, local))), "client 192.0.2.200:80 = DROP", "stranger 192.0.2.200:80 = REJECT")
	})
}

func TestS50TheVIPAsASource(t *testing.T) {
	bothModes(t, func(t *testing.T, mode func(lb.Service, ...lb.Endpoint) lb.Snapshot) {
		in := func(p string) func(*lb.Service) {
			return func(s *lb.Service) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix(p)} }
		}
		try(t, kernelOf(t, mode(shop(in("192.0.2.11/32")), here)), "host 192.0.2.200:80 = 10.0.1.1:8080 masqueraded", vip+" 192.0.2.200:80 = 10.0.1.1:8080 masqueraded")
		try(t, kernelOf(t, mode(shop(in("192.0.2.12/32")), here)), "host 192.0.2.200:80 = DROP", vip+" 192.0.2.200:80 = DROP", "n2 192.0.2.200:80 = 10.0.1.1:8080 masqueraded")
	})
}

func TestS51PodsAreFilteredLikeOthers(t *testing.T) {
	bothModes(t, func(t *testing.T, mode func(lb.Service, ...lb.Endpoint) lb.Snapshot) {
		k := kernelOf(t, mode(shop(), here))
		for _, step := range []struct{ ranges, a, b string }{{"10.0.1.77/32", "10.0.1.1:8080 masqueraded", "DROP"}, {"10.0.1.78/32", "DROP", "10.0.1.1:8080 masqueraded"},
			{"", "10.0.1.1:8080 masqueraded", "10.0.1.1:8080 masqueraded"}} {
			s := shop(func(s *lb.Service) {
				if step.ranges != "" {
					s.SourceRanges = []netip.Prefix{netip.MustParsePrefix(step.ranges)}
				}
			})
			if _, err := k.Sync(context.Background(), datapath.Desired(mode(s, here)), t0); err != nil {
				t.Fatal(err)
			}
			try(t, k, "10.0.1.77 192.0.2.200:80 = "+step.a, "10.0.1.78 192.0.2.200:80 = "+step.b)
		}
	})
}

func TestS52S53S54S57Verdicts(t *testing.T) {
	notReady := ep("10.0.1.1:8080", "n1", "")
	nowhere, elsewhere := []lb.Endpoint{notReady}, []lb.Endpoint{notReady, there}
	for _, to := range []string{cip + ":80", vip + ":80", eip + ":80", node + ":30080"} {
		for _, edit := range []func(*lb.Service){func(*lb.Service) {}, local, intLocal} {
			k := kernelOf(t, full(shop(edit), nowhere...))
			try(t, k, "client "+to+" = REJECT", "pod "+to+" = REJECT", "host "+to+" = REJECT") // S52, S55
		}
		k := kernelOf(t, full(shop(local, intLocal), elsewhere...))
		if to == cip+":80" {
			try(t, k, "client "+to+" = DROP", "pod "+to+" = DROP", "host "+to+" = DROP") // S53
			continue
		}
		try(t, k, "client "+to+" = DROP", "farpod "+to+" = DROP", "pod "+to+" = 10.0.2.1:8080", "host "+to+" = 10.0.2.1:8080 masqueraded") // S57, S54, S56
	}
	k := kernelOf(t, external(shop(local), elsewhere...))
	try(t, k, "client 192.0.2.200:80 = DROP", "pod 192.0.2.200:80 = 10.0.2.1:8080", "host 192.0.2.200:80 = 10.0.2.1:8080 masqueraded")
}

func TestS58OnlyEndpointsWithoutWeightRefuse(t *testing.T) {
	bothModes(t, func(t *testing.T, mode func(lb.Service, ...lb.Endpoint) lb.Snapshot) {
		k := kernelOf(t, mode(shop(), here))
		if _, err := k.Sync(context.Background(), datapath.Desired(mode(shop(), ep("10.0.1.1:8080", "n1", ""))), t0); err != nil {
			t.Fatal(err)
		}
		try(t, k, "client 192.0.2.200:80 = REJECT")
	})
}

func TestS62SCTP(t *testing.T) {
	sctp := func(e *lb.Endpoint) { e.Protocol = lb.SCTP }
	s := shop(func(s *lb.Service) { s.Ports[0].Protocol = lb.SCTP })
	k := kernelOf(t, full(s, ep("10.0.1.1:8080", "n1", "rs", sctp)))
	for _, to := range []string{cip + ":80", vip + ":80", eip + ":80", node + ":30080"} {
		try(t, k, "client "+to+"/SCTP = 10.0.1.1:8080 masqueraded")
	}
	try(t, k, "client 192.0.2.200:80 = REJECT", "client 192.0.2.11:30080 = NOT OURS")
}
