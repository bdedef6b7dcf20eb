package control

import (
	"net/netip"
	"time"

	"github.com/fairlead-lb/fairlead/lab/config"
	"github.com/fairlead-lb/fairlead/lab/topology"
)

// Step is one line of the progress of `up`.
type Step struct {
	Elapsed time.Duration `json:"elapsed"` // since the supervisor started
	Text    string        `json:"text"`
	Ready   bool          `json:"ready,omitempty"` // the last one: the lab is up
	Error   string        `json:"error,omitempty"` // the last one: the lab did not come up
}

// Status is the state of a lab.
type Status struct {
	Lab          config.Lab  `json:"lab"`
	Ready        bool        `json:"ready"` // `up` has finished
	Kubeconfig   string      `json:"kubeconfig"`
	ControlPlane []Component `json:"controlPlane"`
	Members      []Member    `json:"members"`
}

// Component is a process of the control plane.
type Component struct {
	Name   string `json:"name"`
	Pid    int    `json:"pid"`    // in the lab's pid namespace, 0 = stopped
	Health string `json:"health"` // "ok", "stopped" or what is wrong
}

// Member is a machine of the lab.
type Member struct {
	Name  string       `json:"name"`
	Up    bool         `json:"up"`
	Pid   int          `json:"pid"`   // of its init in the lab's pid namespace, 0 = none
	NetNS string       `json:"netns"` // path in the lab's mount namespace
	Addrs []netip.Addr `json:"addrs"`
	Links []Link       `json:"links"`
	Node  *Node        `json:"node,omitempty"` // only in Status, only of nodes
}

// Link is a cable of a member.
type Link struct {
	Name    string           `json:"name"`
	Segment topology.Segment `json:"segment"`
	Up      bool             `json:"up"` // the switch's port is on
}

// Node is what Kubernetes and Fairlead say of a node.
type Node struct {
	Ready  bool   `json:"ready"`
	Reason string `json:"reason"`           // of the Ready condition
	Engine string `json:"engine,omitempty"` // Fairlead's datapath engine, "" = no speaker answers
}
