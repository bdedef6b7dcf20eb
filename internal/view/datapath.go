package view

import (
	"net/netip"

	"github.com/fairlead-lb/fairlead/lb"
)

// Datapath is what one speaker's datapath has reached in the kernel.
type Datapath struct {
	Engine     string       `json:"engine"`
	Ready      bool         `json:"ready"`
	Error      string       `json:"error,omitempty"`
	Programmed []netip.Addr `json:"programmed"` // addresses that the node can forward
	Failing    []netip.Addr `json:"failing,omitempty"`
	Differs    []string     `json:"differs,omitempty"` // servers that the kernel does not hold as they are wanted
	LeftOut    []LeftOut    `json:"leftOut,omitempty"`
	Servers    []Server     `json:"servers"`

	Onward   []string `json:"onward,omitempty"` // where packets of connections that the node does not know go, one line for each family
	HandedOn uint64   `json:"handedOn"`         // how many have gone there

	Tunnels  []Tunnel   `json:"tunnels,omitempty"`  // to the nodes with endpoints of Services with direct server return
	NoTunnel []NoTunnel `json:"noTunnel,omitempty"` // the nodes that take no part in it
}

// Tunnel is the way from one node to another for tunnelled packets of a family: unknown "", passes, blocked or declined.
type Tunnel struct {
	Node   lb.NodeName `json:"node"`
	Host   netip.Addr  `json:"host"`
	Pod    netip.Addr  `json:"pod"` // that was asked last, of those that the node has told of
	ToHost string      `json:"toHost,omitempty"`
	ToPod  string      `json:"toPod,omitempty"`
}

// NoTunnel is a node that takes no part in direct server return, and why.
type NoTunnel struct {
	Node    lb.NodeName `json:"node"`
	Reason  lb.Reason   `json:"reason"`
	Message string      `json:"message"`
}

// LeftOut is what the datapath does not do for a Service, and why.
type LeftOut struct {
	Service string    `json:"service"` // namespace/name
	Reason  lb.Reason `json:"reason"`
	Message string    `json:"message"`
}

// Server is one address and port that is forwarded.
type Server struct {
	Listener     string         `json:"listener"`
	Service      string         `json:"service"` // namespace/name
	Scheduler    string         `json:"scheduler"`
	Verdict      string         `json:"verdict"`
	Direct       bool           `json:"direct,omitempty"`    // the first tier of direct server return
	Tunnelled    bool           `json:"tunnelled,omitempty"` // the second: only for what other nodes have sent through the tunnel
	Affinity     string         `json:"affinity,omitempty"`
	Masquerade   string         `json:"masquerade"` // whose addresses the pods do not see: everybody, nobody, or of outside, pods and host
	SourceRanges []netip.Prefix `json:"sourceRanges,omitempty"`
	Destinations []Destination  `json:"destinations"`
}

// Destination is a pod that a server forwards to.
type Destination struct {
	Addr   netip.AddrPort `json:"addr"`
	Weight int            `json:"weight"` // 0 = no new connections
	Method string         `json:"method"`
	Conns  int            `json:"conns"` // that are open now

	Opened uint64 `json:"opened"` // connections since the speaker began to count
	Bytes  uint64 `json:"bytes"`  // of IP packets, both directions
}
