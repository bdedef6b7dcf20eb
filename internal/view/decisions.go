package view

import (
	"net/netip"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// The paths of the views, on the port of a speaker that serves its health and metrics.
const (
	DecisionsPath = "/debug/decisions"
	DatapathPath  = "/debug/datapath"
)

// ServiceParam is the parameter of DatapathPath that limits the answer to the servers of one Service, namespace/name.
const ServiceParam = "service"

// Port is where the chart has the speakers serve them.
const Port = 9381

// Decisions is what one speaker decided about every address, and whom it knows.
type Decisions struct {
	Node      lb.NodeName `json:"node"`
	Draining  bool        `json:"draining"`
	Ready     bool        `json:"ready"`
	Members   []Member    `json:"members"`
	Decisions []Decision  `json:"decisions"`
	Changes   []Change    `json:"changes"` // the newest first, of the last hundred
}

// Change is that the node began to announce an address, or ended.
type Change struct {
	At       time.Time  `json:"at"`
	VIP      netip.Addr `json:"vip"`
	Via      string     `json:"via"`
	Services []string   `json:"services"` // namespace/name
	Announce bool       `json:"announce"`
	Reason   lb.Reason  `json:"reason,omitempty"` // why it ended
	Message  string     `json:"message,omitempty"`
}

// Member is a living speaker, as gossip knows it.
type Member struct {
	Node     lb.NodeName  `json:"node"`
	Draining bool         `json:"draining"`
	Ready    bool         `json:"ready"` // its datapath works
	Links    []Link       `json:"links"`
	Claims   int          `json:"claims"` // how many addresses it says it announces
	Failing  []netip.Addr `json:"failing,omitempty"`
}

// Link is a network interface of a member.
type Link struct {
	Name     string         `json:"name"`
	MAC      string         `json:"mac"`
	Up       bool           `json:"up"` // administratively up and with carrier
	Prefixes []netip.Prefix `json:"prefixes"`
}

// Decision is a row of announce.Plan: whether the node announces the address, and if not why not.
type Decision struct {
	VIP        netip.Addr  `json:"vip"`
	Via        string      `json:"via"`
	Services   []string    `json:"services"` // namespace/name
	Announce   bool        `json:"announce"`
	Owner      lb.NodeName `json:"owner"`
	Interfaces []string    `json:"interfaces,omitempty"`
	Peers      []string    `json:"peers,omitempty"` // with BGP: who is told
	Drain      bool        `json:"drain,omitempty"` // with BGP: they are asked to prefer other paths
	Epoch      uint64      `json:"epoch,omitempty"` // of the node's claim; 0 = none
	Reason     lb.Reason   `json:"reason,omitempty"`
	Message    string      `json:"message,omitempty"`
}
