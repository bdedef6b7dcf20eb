package lb

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// ServiceKey names a Service in the cluster.
type ServiceKey struct {
	Namespace string
	Name      string
}

// String returns "namespace/name".
func (k ServiceKey) String() string { return k.Namespace + "/" + k.Name }

// Compare orders keys by namespace, then name.
func (k ServiceKey) Compare(o ServiceKey) int {
	return cmp.Or(strings.Compare(k.Namespace, o.Namespace), strings.Compare(k.Name, o.Name))
}

// Protocol is a transport protocol by its Kubernetes name.
type Protocol string

// The protocols a Service port may have.
const (
	TCP  Protocol = "TCP"
	UDP  Protocol = "UDP"
	SCTP Protocol = "SCTP"
)

// Number returns the protocol's number in IP headers (IANA's registry of protocol numbers); what is unknown counts as TCP.
func (p Protocol) Number() uint8 {
	switch p {
	case UDP:
		return 17
	case SCTP:
		return 132
	}
	return 6
}

// ProtocolOf returns the protocol with the number, and false for one that no Service port can have.
func ProtocolOf(number uint8) (Protocol, bool) {
	for _, p := range []Protocol{TCP, UDP, SCTP} {
		if p.Number() == number {
			return p, true
		}
	}
	return "", false
}

// TrafficPolicy is the value of externalTrafficPolicy or internalTrafficPolicy.
type TrafficPolicy string

// Cluster uses endpoints on every node, Local only those on the node that received the packet.
const (
	Cluster TrafficPolicy = "Cluster"
	Local   TrafficPolicy = "Local"
)

// IPMode says who forwards an ingress address (KEP-1860).
type IPMode string

// ModeVIP leaves forwarding to kube-proxy or Cilium, ModeProxy claims it for Fairlead's datapath.
const (
	ModeVIP   IPMode = "VIP"
	ModeProxy IPMode = "Proxy"
)

// Family is an IP family.
type Family uint8

// The two IP families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// String returns "IPv4" or "IPv6", the words Kubernetes uses.
func (f Family) String() string { return fmt.Sprintf("IPv%d", uint8(f)) }

// FamilyOf returns the family of a; an IPv4-mapped IPv6 address counts as IPv4.
func FamilyOf(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// CountOf returns how many of addrs are of the family.
func CountOf(addrs []netip.Addr, f Family) int {
	n := 0
	for _, addr := range addrs {
		if FamilyOf(addr) == f {
			n++
		}
	}
	return n
}

// FamilyPolicy is the value of ipFamilyPolicy.
type FamilyPolicy string

// How many families a Service wants; the words are Kubernetes'.
const (
	SingleStack      FamilyPolicy = "SingleStack"
	PreferDualStack  FamilyPolicy = "PreferDualStack"
	RequireDualStack FamilyPolicy = "RequireDualStack"
)

// Port is one port of a Service. Name ties it to the endpoints' port of the same name.
type Port struct {
	Name     string
	Protocol Protocol
	Port     uint16
	NodePort uint16 // 0 = none
}

// Quota is how many addresses of all pools together the Services of one namespace may own; one that several of them share
// counts once.
type Quota struct {
	Max    int    // 0 = any number
	Source string // where it is raised, in words that follow "raise"
}

// Ingress is one address in a Service's status.
type Ingress struct {
	Addr netip.Addr
	Mode IPMode
}

// Service is a Service of type LoadBalancer that belongs to Fairlead, or, in [Snapshot.Others], one that it merely forwards for.
type Service struct {
	Key             ServiceKey
	UID             string
	Labels          map[string]string
	NamespaceLabels map[string]string

	Families     []Family // in order of preference; what spec.ipFamilies says
	FamilyPolicy FamilyPolicy
	Ports        []Port

	ExternalTrafficPolicy TrafficPolicy
	InternalTrafficPolicy TrafficPolicy  // concerns ClusterIPs only
	HealthCheckNodePort   uint16         // with externalTrafficPolicy Local: where nodes say whether they have endpoints; else 0 (H1)
	SessionAffinity       time.Duration  // 0 = none; else the ClientIP timeout, 1 s to 24 h
	SourceRanges          []netip.Prefix // loadBalancerSourceRanges; empty = everybody
	Scheduler             string         // what the annotation asks for; "" = the datapath's default
	Forwarding            Method         // what the annotation asks for, whatever it is; "" = what the address's pool says
	Selector              string         // the pod selector in canonical form; "" = endpoints come from custom slices

	// Where else it is reached. Known in datapath mode full only.
	ClusterIPs  []netip.Addr
	ExternalIPs []netip.Addr

	// What the user asked the allocator for.
	RequestedAddrs []netip.Addr
	RequestedPool  string
	SharingKey     string
	PerFamily      int  // how many addresses of each family, 1 to 16; 0 counts as 1
	Release        bool // give up what it has for what today's pools give it

	Quota Quota // of its namespace, over all pools

	Ingress []Ingress // status.loadBalancer.ingress as it is in the API server
	Pool    string    // the pool annotation of the last allocation, "" if none
}

// Addrs returns the addresses in the Service's status, in their order.
func (s Service) Addrs() []netip.Addr {
	out := make([]netip.Addr, 0, len(s.Ingress))
	for _, in := range s.Ingress {
		out = append(out, in.Addr)
	}
	return out
}

// HasAddr reports whether addr is in the Service's status.
func (s Service) HasAddr(addr netip.Addr) bool { return slices.Contains(s.Addrs(), addr) }
