package topology

import (
	"fmt"
	"net/netip"
	"strconv"
)

// Names of members.
const (
	ControlPlane = "control-plane"
	Router       = "router"
	Client       = "client"
	NodePrefix   = "node-" // followed by the node's number
)

// Host numbers on the segments; node-N has nodeHost+N.
const (
	controlPlaneHost = 1
	routerHost       = 1
	clientHost       = 100
	nodeHost         = 10
)

// LAN4 is the IPv4 range of the LAN segment. Ranges are the same in every lab,
// because nothing of a lab exists outside its own namespaces.
func LAN4() netip.Prefix { return netip.MustParsePrefix("192.0.2.0/24") }

// LAN6 is the IPv6 range of the LAN segment.
func LAN6() netip.Prefix { return netip.MustParsePrefix("2001:db8:0:1::/64") }

// Mgmt is the range of the management segment.
func Mgmt() netip.Prefix { return netip.MustParsePrefix("198.51.100.0/24") }

// ServiceCIDRs are the ranges of cluster IPs, IPv4 first.
func ServiceCIDRs(dualStack bool) []netip.Prefix {
	return families(dualStack, "10.96.0.0/16", "fd00:10:96::/112")
}

// ClusterCIDRs hold the pod ranges of all nodes, IPv4 first.
func ClusterCIDRs(dualStack bool) []netip.Prefix {
	return families(dualStack, "10.244.0.0/16", "fd00:10:244::/48")
}

// APIServerVIP is the cluster IP of the Service kubernetes.default.
func APIServerVIP() netip.Addr { return netip.MustParseAddr("10.96.0.1") }

// DNSAddr is the cluster IP of the Service kube-dns, if the lab has one.
func DNSAddr() netip.Addr { return netip.MustParseAddr("10.96.0.10") }

// ControlPlaneAddr is where the control plane is on the management segment.
func ControlPlaneAddr() netip.Addr { return host4(Mgmt(), controlPlaneHost) }

// RouterAddr is where the router is on the LAN segment.
func RouterAddr() netip.Addr { return host4(LAN4(), routerHost) }

// ClientAddr is where the client is on the LAN segment.
func ClientAddr() netip.Addr { return host4(LAN4(), clientHost) }

// NodeName is the name of node n, counted from 1.
func NodeName(n int) string { return NodePrefix + strconv.Itoa(n) }

// NodeIPs are the addresses of node n on the LAN segment, IPv4 first: the
// addresses of its Node object.
func NodeIPs(n int, dualStack bool) []netip.Addr {
	ips := []netip.Addr{host4(LAN4(), nodeHost+n)}
	if dualStack {
		ips = append(ips, host6(LAN6(), nodeHost+n))
	}
	return ips
}

// NodeMgmt is the address of node n on the management segment.
func NodeMgmt(n int) netip.Addr { return host4(Mgmt(), nodeHost+n) }

// PodCIDRs are the pod ranges of node n, IPv4 first.
func PodCIDRs(n int, dualStack bool) []netip.Prefix {
	return families(dualStack, fmt.Sprintf("10.244.%d.0/24", n), fmt.Sprintf("fd00:10:244:%d::/64", n))
}

func families(dualStack bool, v4, v6 string) []netip.Prefix {
	prefixes := []netip.Prefix{netip.MustParsePrefix(v4)}
	if dualStack {
		prefixes = append(prefixes, netip.MustParsePrefix(v6))
	}
	return prefixes
}

func host4(network netip.Prefix, host int) netip.Addr {
	a := network.Addr().As4()
	a[3] = byte(host)
	return netip.AddrFrom4(a)
}

// host6 writes the host number's decimal digits as the last group.
func host6(network netip.Prefix, host int) netip.Addr {
	a := network.Addr().As16()
	group, err := strconv.ParseUint(strconv.Itoa(host), 16, 16)
	if err != nil {
		panic("topology: host number " + strconv.Itoa(host) + " is not four digits")
	}
	a[14], a[15] = byte(group>>8), byte(group)
	return netip.AddrFrom16(a)
}
