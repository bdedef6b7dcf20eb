package speaker

import (
	"net/netip"
	"time"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/datapath/tunnel"
	"github.com/fairlead-lb/fairlead/lb"
)

// Status is what the last step saw and decided. It is never written to once published.
type Status struct {
	Node      lb.NodeName
	Draining  bool
	Ready     bool // the facts are known and the datapath works
	Eligible  bool // the API server knows the node, and it is not about to be deleted (H9)
	Joined    bool // the other speakers are known, or known to be absent
	Members   []lb.Member
	Decisions []announce.Decision // about layer 2
	Claims    []lb.Claim

	// Routes are the decisions about BGP, as the report of the sessions bears them out.
	Routes   []announce.Decision
	Sessions []bgp.Session

	PeerAddrs map[string]string // of the BGP peers, or the interfaces of unnumbered ones, by name

	Opening  bool          // the first sessions are still awaited
	Speaking bool          // there is somebody to tell by BGP
	Farewell bool          // nothing more is wanted of the peers, but for those that are kept over a restart
	Told     bool          // they have been told everything
	DrainBy  time.Duration // how long the drain of BGP may take at most

	// Strangers are the stations that are no speakers and use an address of a Service, announced here or not.
	Strangers map[netip.Addr]lb.MAC

	Rivals []string // what there is of another proxy for the same Services; set in mode full only

	// NoTunnel are the nodes that take no part in direct server return, and why, while a Service asks for it; Tunnels is what is known about
	// the way to each other node that has endpoints of such a Service.
	NoTunnel map[lb.NodeName]lb.Refusal
	Tunnels  []tunnel.Result

	// KernelAnswers says for which addresses this node's kernel answers itself, and why.
	KernelAnswers map[netip.Addr]string
}

// awaitsTakers reports whether an address is still announced here that somebody else is about to take.
func (st *Status) awaitsTakers() bool {
	for _, d := range st.Decisions {
		if d.Announce && d.Owner != "" && d.Owner != st.Node {
			return true
		}
	}
	return false
}

// Ready reports whether this node could announce something: the first facts are there, the others are known, and the
// datapath works, and the BGP sessions have been up or waited for.
func (s *Speaker) Ready() bool {
	st := s.status.Load()
	return st.Ready && st.Joined && !st.Draining && !st.Opening
}
