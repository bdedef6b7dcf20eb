package lb

import (
	"net/netip"
	"time"
)

// Snapshot is everything one speaker knows at one moment: the whole input of announce.Plan and datapath.Desired. Builders
// sort the slices; readers must not write.
type Snapshot struct {
	Self      NodeName
	Services  []Service // ours, sorted by key
	Others    []Service // in datapath mode full, those that we forward for and that are not ours, sorted by key
	Endpoints Endpoints
	Nodes     map[NodeName]Node
	Pools     []Pool // sorted by name
	L2        []L2Advertisement
	BGP       []BGPAdvertisement // sorted by name
	BGPPeers  []BGPPeer          // sorted by name
	Members   []Member           // living speakers, this one included, sorted by node
	Links     []Link             // of this node, sorted by name

	// Addrs are the addresses that this node's interfaces have, of whatever kind, sorted. Datapath mode full needs them.
	Addrs []netip.Addr

	// Programmed holds the addresses that this node's datapath has reported as able to forward. An address is announced
	// only while it is in here (the gate).
	Programmed map[netip.Addr]bool

	// Announced holds the addresses that this node answers for as of the last step, and the interfaces on which it does.
	Announced map[netip.Addr][]string

	// Down holds the nodes that enough of their watchers no longer hear: they announce nothing, and their endpoints get no new
	// connections. election.Down computes it from what the members suspect.
	Down map[NodeName]bool

	// Steady says for how long each member has been alive and ready without a break, as far as this node has seen.
	Steady map[NodeName]time.Duration

	// Conflicts holds the addresses that a station which is no speaker answers for on a segment of this node.
	Conflicts map[netip.Addr]MAC

	// Epochs holds the highest epoch of a claim to each address that this node knows of, whoever made it, also if that node is
	// dead by now. An address that is missing was never announced.
	Epochs map[netip.Addr]uint64

	// Settling holds the speakers that are awaited before addresses that were never announced find an owner here, sorted. It is
	// empty except for a short time after a cold start.
	Settling []NodeName

	// HealthChecks holds what the forwarder of this node (kube-proxy, Cilium) answers at the health check node ports that
	// announce.HealthPorts names, where Fairlead does not forward itself. One that is missing has not been asked yet.
	HealthChecks map[ServiceKey]HealthCheck

	// Fenced says that this process was asleep and has not heard since what has happened meanwhile.
	Fenced bool

	// Leaving says for how long this node has been about to leave by somebody's wish: drained, excluded, being deleted, or cordoned
	// where the policy is to leave then. It counts only while that is so.
	Leaving time.Duration

	// LeaveOnCordon is the policy for cordoned nodes: they hand their addresses over if another node can take them.
	LeaveOnCordon bool

	// Forwards is false where Fairlead announces only and somebody else forwards (datapath mode none): then the gate is
	// open for every address.
	Forwards bool

	// Forwarding is how it does where it does.
	Forwarding Forwarding

	// NoTunnel holds the nodes, this one perhaps among them, that cannot take part in direct server return, and why.
	NoTunnel map[NodeName]Refusal

	// Relays holds the other nodes that can be handed packets of connections that may be theirs, sorted by node: those whose speakers live,
	// and those that have lately lost theirs otherwise than by dying, because their kernels go on. RelaysKnown is false in the first moments of
	// a process, in which it has not met the others yet. RelaysInDoubt says that a node is missing that may only seem to have died.
	Relays        []Relay
	RelaysKnown   bool
	RelaysInDoubt bool

	// Segments are this node's links as the kernel has them, also those that cannot be announced on at this moment, sorted by name.
	Segments []Link
}

// Method is how connections reach their endpoints.
type Method string

// The methods.
const (
	NAT Method = "nat" // through the receiving node in both directions; they end with it
	DSR Method = "dsr" // endpoints on other nodes through a tunnel, and their nodes answer the client: connections outlive the receiving node
)

// Known reports whether m is one of the methods; "" is none.
func (m Method) Known() bool { return m == NAT || m == DSR }

// Forwarding is what the operator says about the datapath, on all nodes the same.
type Forwarding struct {
	// Full is datapath mode full: all Services, at all their addresses, as kube-proxy would. Otherwise it is our Services at the
	// addresses in their status whose ipMode is Proxy.
	Full bool

	// Method is that of load balancer addresses of which neither the Service nor the pool says any; "" = NAT.
	Method Method

	// HandOn lets nodes hand each other packets of connections that they do not know.
	HandOn bool

	// MasqueradeAll hides the clients of ClusterIPs from the endpoints, pods too.
	MasqueradeAll bool

	// NodePorts says at which of the node's addresses node ports are; those of a family without a prefix here are all good. With
	// NodePortsPrimary these are the addresses in the Node object instead.
	NodePorts        []netip.Prefix
	NodePortsPrimary bool

	Pods PodDetection
}

// PodDetection is how a node recognises its own pods as clients (S21). Without any of it they count as strangers.
type PodDetection struct {
	NodeCIDRs  bool           // by the node's spec.podCIDRs
	Ranges     []netip.Prefix // by ranges that hold the pods of the whole cluster
	Interfaces []string       // by the interface they come in through; "cali*" = every one whose name begins so
}

// HealthCheck is the answer of a forwarder at a Service's health check node port.
type HealthCheck struct {
	OK  bool   // it said 200: the node has endpoints and forwards to them
	Why string // what it said or did instead; "" if OK
}

// PoolOf returns the pool that contains addr.
func (s Snapshot) PoolOf(addr netip.Addr) (Pool, bool) {
	for _, p := range s.Pools {
		if p.Contains(addr) {
			return p, true
		}
	}
	return Pool{}, false
}
