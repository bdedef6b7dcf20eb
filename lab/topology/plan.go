package topology

import (
	"net"
	"net/netip"
)

// Segment is one layer 2 network: a bridge in the lab's switch namespace.
type Segment string

// The segments of a lab.
const (
	LAN  Segment = "lan"
	MGMT Segment = "mgmt"
)

// Member is one machine of the lab.
type Member struct {
	Name     string
	Sysctls  []Sysctl       // in the order in which they are to be set, before links exist
	Loopback []netip.Prefix // further addresses of lo
	Links    []Link
	Routes   []Route
}

// Sysctl is a kernel setting of the member's network namespace.
type Sysctl struct {
	Key      string // with dots, such as net.ipv4.ip_forward
	Value    string
	Optional bool // the kernel may lack it
}

// Link is a cable from a member to a segment.
type Link struct {
	Name    string // in the member
	Segment Segment
	Port    string // in the switch
	MAC     net.HardwareAddr
	Addrs   []netip.Prefix
}

// Route sends To through Via, a neighbour on Link.
type Route struct {
	To   netip.Prefix
	Via  netip.Addr
	Link string
}

// Plan returns the members of a lab with so many nodes: the control plane, the
// router, the client, then the nodes.
func Plan(nodes int, dualStack bool) []Member {
	members := []Member{controlPlane(nodes), router(), client()}
	for n := 1; n <= nodes; n++ {
		members = append(members, node(n, nodes, dualStack))
	}
	return members
}

func controlPlane(nodes int) Member {
	m := Member{
		Name:     ControlPlane,
		Sysctls:  baseSysctls(),
		Loopback: []netip.Prefix{netip.PrefixFrom(APIServerVIP(), 32)},
		Links:    []Link{mgmtLink(ControlPlane, controlPlaneHost)},
	}
	// Over the management links, so that the API server reaches kubelets and webhook
	// pods of a node whose LAN link is cut.
	for n := 1; n <= nodes; n++ {
		lan := NodeIPs(n, false)[0]
		m.Routes = append(m.Routes,
			Route{To: netip.PrefixFrom(lan, lan.BitLen()), Via: NodeMgmt(n), Link: "mgmt0"},
			Route{To: PodCIDRs(n, false)[0], Via: NodeMgmt(n), Link: "mgmt0"})
	}
	return m
}

func router() Member {
	return Member{
		Name: Router,
		Sysctls: append(forwardingSysctls(),
			// The client's way to an address behind a node stays through the router.
			Sysctl{Key: "net.ipv4.conf.all.send_redirects", Value: "0"},
			Sysctl{Key: "net.ipv4.conf.default.send_redirects", Value: "0"},
			// Spread by connection, as data centre routers do.
			Sysctl{Key: "net.ipv4.fib_multipath_hash_policy", Value: "1", Optional: true},
			Sysctl{Key: "net.ipv6.fib_multipath_hash_policy", Value: "1", Optional: true}),
		Links: []Link{lanLink(Router, routerHost)},
	}
}

func client() Member {
	return Member{
		Name:    Client,
		Sysctls: baseSysctls(),
		Links:   []Link{lanLink(Client, clientHost), mgmtLink(Client, clientHost)}, // it is the operator's machine too
		Routes:  defaultRoutes(),
	}
}

func node(n, nodes int, dualStack bool) Member {
	m := Member{
		Name:    NodeName(n),
		Sysctls: forwardingSysctls(),
		Links:   []Link{lanLink(NodeName(n), nodeHost+n), mgmtLink(NodeName(n), nodeHost+n)},
		Routes:  defaultRoutes(),
	}
	m.Routes = append(m.Routes, Route{To: netip.PrefixFrom(APIServerVIP(), 32), Via: ControlPlaneAddr(), Link: "mgmt0"})
	for other := 1; other <= nodes; other++ {
		if other == n {
			continue
		}
		ips := NodeIPs(other, dualStack)
		for i, cidr := range PodCIDRs(other, dualStack) {
			m.Routes = append(m.Routes, Route{To: cidr, Via: ips[i], Link: "eth0"})
		}
	}
	return m
}

func defaultRoutes() []Route {
	return []Route{
		{To: netip.MustParsePrefix("0.0.0.0/0"), Via: host4(LAN4(), routerHost), Link: "eth0"},
		{To: netip.MustParsePrefix("::/0"), Via: host6(LAN6(), routerHost), Link: "eth0"},
	}
}

func lanLink(member string, host int) Link {
	return Link{
		Name: "eth0", Segment: LAN, Port: member + "." + string(LAN), MAC: mac(1, host),
		Addrs: []netip.Prefix{
			netip.PrefixFrom(host4(LAN4(), host), LAN4().Bits()),
			netip.PrefixFrom(host6(LAN6(), host), LAN6().Bits()),
		},
	}
}

func mgmtLink(member string, host int) Link {
	port := member + "." + string(MGMT)
	if member == ControlPlane {
		port = "cp." + string(MGMT) // interface names have at most 15 bytes
	}
	return Link{
		Name: "mgmt0", Segment: MGMT, Port: port, MAC: mac(2, host),
		Addrs: []netip.Prefix{netip.PrefixFrom(host4(Mgmt(), host), Mgmt().Bits())},
	}
}

// mac is a locally administered address that tells segment and host number, so
// that a capture can be read without a table.
func mac(segment, host int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0xfa, 0x1e, 0xad, byte(segment), byte(host)}
}

// baseSysctls make a namespace independent of the settings of the machine's own
// one, which it would inherit.
func baseSysctls() []Sysctl {
	var settings []Sysctl
	for _, scope := range []string{"all", "default"} {
		v4, v6 := "net.ipv4.conf."+scope+".", "net.ipv6.conf."+scope+"."
		settings = append(settings,
			Sysctl{Key: v4 + "rp_filter", Value: "0"}, // replies may leave by the other link
			Sysctl{Key: v4 + "accept_redirects", Value: "0"},
			Sysctl{Key: v6 + "disable_ipv6", Value: "0"},
			Sysctl{Key: v6 + "accept_ra", Value: "0"},
			Sysctl{Key: v6 + "accept_redirects", Value: "0"})
	}
	return settings
}

func forwardingSysctls() []Sysctl {
	// First, because switching forwarding on resets other settings.
	forwarding := []Sysctl{
		{Key: "net.ipv4.ip_forward", Value: "1"},
		{Key: "net.ipv6.conf.all.forwarding", Value: "1"},
	}
	return append(forwarding, baseSysctls()...)
}
