package topology_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/lab/config"
	"github.com/fairlead-lb/fairlead/lab/topology"
)

// text prints a plan without its sysctls.
func text(members []topology.Member) string {
	var b strings.Builder
	for _, m := range members {
		fmt.Fprintf(&b, "%s %v\n", m.Name, m.Loopback)
		for _, l := range m.Links {
			fmt.Fprintf(&b, "  link %s %s %s %s %v\n", l.Name, l.Segment, l.Port, l.MAC, l.Addrs)
		}
		for _, r := range m.Routes {
			fmt.Fprintf(&b, "  route %s via %s %s\n", r.To, r.Via, r.Link)
		}
	}
	return b.String()
}

func TestPlan(t *testing.T) {
	const want = `control-plane [10.96.0.1/32]
  link mgmt0 mgmt cp.mgmt 02:fa:1e:ad:02:01 [198.51.100.1/24]
  route 192.0.2.11/32 via 198.51.100.11 mgmt0
  route 10.244.1.0/24 via 198.51.100.11 mgmt0
  route 192.0.2.12/32 via 198.51.100.12 mgmt0
  route 10.244.2.0/24 via 198.51.100.12 mgmt0
router []
  link eth0 lan router.lan 02:fa:1e:ad:01:01 [192.0.2.1/24 2001:db8:0:1::1/64]
client []
  link eth0 lan client.lan 02:fa:1e:ad:01:64 [192.0.2.100/24 2001:db8:0:1::100/64]
  link mgmt0 mgmt client.mgmt 02:fa:1e:ad:02:64 [198.51.100.100/24]
  route 0.0.0.0/0 via 192.0.2.1 eth0
  route ::/0 via 2001:db8:0:1::1 eth0
node-1 []
  link eth0 lan node-1.lan 02:fa:1e:ad:01:0b [192.0.2.11/24 2001:db8:0:1::11/64]
  link mgmt0 mgmt node-1.mgmt 02:fa:1e:ad:02:0b [198.51.100.11/24]
  route 0.0.0.0/0 via 192.0.2.1 eth0
  route ::/0 via 2001:db8:0:1::1 eth0
  route 10.96.0.1/32 via 198.51.100.1 mgmt0
  route 10.244.2.0/24 via 192.0.2.12 eth0
  route fd00:10:244:2::/64 via 2001:db8:0:1::12 eth0
node-2 []
  link eth0 lan node-2.lan 02:fa:1e:ad:01:0c [192.0.2.12/24 2001:db8:0:1::12/64]
  link mgmt0 mgmt node-2.mgmt 02:fa:1e:ad:02:0c [198.51.100.12/24]
  route 0.0.0.0/0 via 192.0.2.1 eth0
  route ::/0 via 2001:db8:0:1::1 eth0
  route 10.96.0.1/32 via 198.51.100.1 mgmt0
  route 10.244.1.0/24 via 192.0.2.11 eth0
  route fd00:10:244:1::/64 via 2001:db8:0:1::11 eth0
`
	if diff := cmp.Diff(want, text(topology.Plan(2, true))); diff != "" {
		t.Errorf("Plan(2, dual stack) (-want +got):\n%s", diff)
	}
}

func TestPlanSingleStack(t *testing.T) {
	if got := text(topology.Plan(3, false)); strings.Contains(got, "fd00:") {
		t.Errorf("a single-stack plan has IPv6 pod ranges:\n%s", got)
	}
}

// The largest lab has no address, port or MAC twice, no interface name that the
// kernel refuses, and no gateway that is not a neighbour.
func TestPlanConsistent(t *testing.T) {
	members := topology.Plan(config.MaxNodes, true)
	addrs, ports, macs := map[netip.Addr]string{}, map[string]string{}, map[string]string{}
	for _, m := range members {
		for _, l := range m.Links {
			unique(t, ports, l.Port, m.Name)
			unique(t, macs, l.MAC.String(), m.Name)
			if len(l.Port) > 15 {
				t.Errorf("port %s has %d bytes, the kernel takes 15", l.Port, len(l.Port))
			}
			for _, a := range l.Addrs {
				unique(t, addrs, a.Addr(), m.Name)
			}
		}
	}
	for _, m := range members {
		for _, r := range m.Routes {
			owner, known := addrs[r.Via]
			if !known || owner == m.Name || !onLink(m, r) {
				t.Errorf("%s: route to %s via %s (%s) has no neighbour as its gateway", m.Name, r.To, r.Via, owner)
			}
		}
	}
}

func unique[K comparable](t *testing.T, seen map[K]string, key K, owner string) {
	t.Helper()
	if other, twice := seen[key]; twice {
		t.Errorf("%v belongs to %s and to %s", key, other, owner)
	}
	seen[key] = owner
}

func onLink(m topology.Member, r topology.Route) bool {
	for _, l := range m.Links {
		for _, a := range l.Addrs {
			if l.Name == r.Link && a.Contains(r.Via) {
				return true
			}
		}
	}
	return false
}

func TestNodeAddresses(t *testing.T) {
	tests := []struct {
		n    int
		dual bool
		want string
	}{
		{1, false, "[192.0.2.11] 198.51.100.11 [10.244.1.0/24]"},
		{1, true, "[192.0.2.11 2001:db8:0:1::11] 198.51.100.11 [10.244.1.0/24 fd00:10:244:1::/64]"},
		{64, true, "[192.0.2.74 2001:db8:0:1::74] 198.51.100.74 [10.244.64.0/24 fd00:10:244:64::/64]"},
	}
	for _, tt := range tests {
		got := fmt.Sprint(topology.NodeIPs(tt.n, tt.dual), " ", topology.NodeMgmt(tt.n), " ", topology.PodCIDRs(tt.n, tt.dual))
		if got != tt.want {
			t.Errorf("node %d, dual stack %v: %s, want %s", tt.n, tt.dual, got, tt.want)
		}
		for i, cidr := range topology.PodCIDRs(tt.n, tt.dual) {
			if cluster := topology.ClusterCIDRs(tt.dual)[i]; !cluster.Overlaps(cidr) {
				t.Errorf("%s is not in %s", cidr, cluster)
			}
		}
	}
}

// Forwarding comes first: the kernel resets other settings when it changes.
func TestSysctls(t *testing.T) {
	forwards := map[string]bool{topology.Router: true, "node-1": true}
	for _, m := range topology.Plan(1, false) {
		if first := m.Sysctls[0].Key == "net.ipv4.ip_forward"; first != forwards[m.Name] {
			t.Errorf("%s: forwarding is set first: %v, want %v", m.Name, first, forwards[m.Name])
		}
	}
}
