package speaker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/datapath/tunnel"
	"github.com/fairlead-lb/fairlead/internal/view"
	"github.com/fairlead-lb/fairlead/lb"
)

// Tunnels asks the speakers of other nodes through the tunnels of direct server return; datapath/tunnel/probe's Probe is one. Set replaces
// the peers, and says whether this node can unpack what they tunnel to it; Results is what is known about those that are asked.
type Tunnels interface {
	Set(peers []tunnel.Peer, able bool)
	Results() []tunnel.Result
}

// ModuleSource knows which kernel modules direct server return lacks here, sorted; datapath/engine's Modules is one. It tries to load them.
type ModuleSource interface {
	Missing(ctx context.Context) ([]string, error)
}

// tunnelsAnyway is how often the tunnels are looked at without news, and how soon missing modules are tried again.
const tunnelsAnyway = 10 * time.Second

// tunnels is what is known about them.
type tunnels struct {
	read    time.Time
	ready   []lb.NodeName // the speakers that could answer
	wanted  bool          // a Service asks for direct server return
	results []tunnel.Result
	refused map[lb.NodeName]lb.Refusal // the nodes that take no part in it, and why; not written to

	tried   time.Time // when modules were looked for; zero = never
	missing []string
}

// TunnelsChanged tells that [Tunnels.Results] has news. It does not block.
func (s *Speaker) TunnelsChanged() {
	s.tunnelsChanged.Store(true)
	s.Trigger()
}

// TunnelledPods returns some endpoints of this node for which its datapath takes tunnelled packets. It may be called from any goroutine.
func (s *Speaker) TunnelledPods(family lb.Family) tunnel.Pods {
	s.mu.Lock()
	reached := s.report.reached
	s.mu.Unlock()
	return tunnel.PodsOf(reached, family)
}

// reviewTunnels returns the nodes that take no part in direct server return, and why, and has the probes ask who is in the snapshot.
func (s *Speaker) reviewTunnels(ctx context.Context, snap lb.Snapshot, now time.Time) map[lb.NodeName]lb.Refusal {
	t := &s.tunnels
	if s.o.Tunnels == nil || !s.haveFacts {
		return nil
	}
	news := s.tunnelsChanged.Swap(false) || s.heardAt != 0 || now.Sub(t.read) >= tunnelsAnyway
	ready := make([]lb.NodeName, 0, len(snap.Members))
	for _, m := range snap.Members {
		if m.Ready && !snap.Down[m.Node] {
			ready = append(ready, m.Node)
		}
	}
	if !news && slices.Equal(ready, t.ready) {
		return t.refused
	}
	t.read, t.ready = now, ready
	var own lb.Refusal
	var peers []tunnel.Peer
	if peers, t.wanted = tunnel.Peers(snap); t.wanted {
		own = s.lacks(ctx, now)
	}
	s.o.Tunnels.Set(peers, own.OK())
	t.results = s.o.Tunnels.Results()
	refused := tunnel.Refusals(t.results, snap.Nodes[s.o.Node].Addrs)
	if !own.OK() {
		refused[s.o.Node] = own
	}
	s.tellTunnels(t.refused, refused)
	t.refused = refused
	return refused
}

// lacks says what this node itself lacks. A kernel that has had all modules once is not asked again.
func (s *Speaker) lacks(ctx context.Context, now time.Time) lb.Refusal {
	t := &s.tunnels
	if s.o.Modules != nil && (t.tried.IsZero() || len(t.missing) > 0 && now.Sub(t.tried) >= tunnelsAnyway) {
		missing, err := s.o.Modules.Missing(ctx)
		if err != nil {
			s.o.Log.Warn("kernel modules not looked for", "err", err)
		}
		t.tried, t.missing = now, missing
	}
	return tunnel.Lacks(s.engineName(), t.missing)
}

// tellTunnels logs what has changed.
func (s *Speaker) tellTunnels(before, now map[lb.NodeName]lb.Refusal) {
	for _, node := range slices.Sorted(maps.Keys(now)) {
		if r := now[node]; before[node] != r {
			s.o.Log.Warn("node takes no part in direct server return", "node", node, "reason", r.Reason, "message", r.Message)
		}
	}
	for _, node := range slices.Sorted(maps.Keys(before)) {
		if now[node].OK() && s.tunnels.wanted {
			s.o.Log.Info("node takes part in direct server return again", "node", node)
		}
	}
}

// noTunnel says what is wrong with direct server return, of the nodes that take no part in it about this one, or else the first.
func noTunnel(self lb.NodeName, refused map[lb.NodeName]lb.Refusal) lb.Refusal {
	if r := refused[self]; !r.OK() {
		return lb.Refusal{Reason: r.Reason, Message: "this node takes no part in direct server return, because " + r.Message}
	}
	nodes := slices.Sorted(maps.Keys(refused))
	if len(nodes) == 0 {
		return lb.Refusal{}
	}
	r := refused[nodes[0]]
	message := fmt.Sprintf("Services with direct server return and endpoints on node %s are served with nat here, because %s", nodes[0], r.Message)
	if more := len(nodes) - 1; more > 0 {
		message += fmt.Sprintf("; so it is with %d other nodes", more)
	}
	return lb.Refusal{Reason: r.Reason, Message: message}
}

// addTunnels tells how the tunnels are.
func (st *Status) addTunnels(v *view.Datapath) {
	for _, r := range st.Tunnels {
		v.Tunnels = append(v.Tunnels, view.Tunnel{Node: r.Node, Host: r.Host, Pod: r.Pod, ToHost: string(r.ToHost), ToPod: string(r.ToPod)})
	}
	for _, node := range slices.Sorted(maps.Keys(st.NoTunnel)) {
		v.NoTunnel = append(v.NoTunnel, view.NoTunnel{Node: node, Reason: st.NoTunnel[node].Reason, Message: st.NoTunnel[node].Message})
	}
}
