package speaker

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/datapath/tunnel"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

// fakeTunnels is Tunnels and a ModuleSource. Guarded by the world's lock.
type fakeTunnels struct {
	w       *world
	peers   []tunnel.Peer
	able    bool
	passage tunnel.Passage // of everything
	missing []string
	tried   int
}

// Set implements Tunnels.
func (f *fakeTunnels) Set(peers []tunnel.Peer, able bool) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.peers, f.able = slices.Clone(peers), able
}

// Results implements Tunnels.
func (f *fakeTunnels) Results() (out []tunnel.Result) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	for _, p := range f.peers {
		if p.Asked {
			out = append(out, tunnel.Result{Peer: p, ToHost: f.passage, ToPod: f.passage})
		}
	}
	return out
}

// Missing implements ModuleSource.
func (f *fakeTunnels) Missing(context.Context) ([]string, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.tried++
	return f.missing, nil
}

// named is an Engine of another name.
type named struct {
	fakeEngine
	name string
}

// Name implements Engine.
func (n named) Name() string { return n.name }

// inTunnels runs script where n1 has the fake and an engine with a name, and the pod of Service web is on n2. No Service asks for direct
// server return yet.
func inTunnels(t *testing.T, engine string, script func(w *world, n *node, f *fakeTunnels), edits ...func(*node, *Options)) {
	t.Helper()
	f := &fakeTunnels{}
	inWorldOf(t, 2, func(t *testing.T, w *world) {
		w.change(func(k *kube.Facts) {
			for i, name := range []lb.NodeName{"n1", "n2"} {
				k.Nodes[name] = lb.Node{Name: name, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})}}
			}
			k.Endpoints.Set(web, []lb.Endpoint{endpoint("n2")})
		})
		pass(2 * tunnelsAnyway)
		script(w, w.nodes["n1"], f)
	}, append(edits, func(n *node, o *Options) {
		if f.w = n.world; n.name == "n1" {
			o.Tunnels, o.Modules, o.Engine = f, f, named{fakeEngine{n}, engine}
		}
	})...)
}

// asks has the Service ask for a method.
func asks(w *world, m lb.Method) {
	w.change(func(k *kube.Facts) { k.Services[0].Forwarding = m })
	pass(2 * tunnelsAnyway)
}

// TestTunnelsAreTriedWhileAServiceWantsThem, and a node that is not reached is told of: in status and metrics, with the way out.
func TestTunnelsAreTriedWhileAServiceWantsThem(t *testing.T) {
	inTunnels(t, "ipvs", func(w *world, n *node, f *fakeTunnels) {
		want := tunnel.Peer{Node: "n2", Self: netip.MustParseAddr("192.0.2.1"), Host: netip.MustParseAddr("192.0.2.2"), Asked: true}
		for i, step := range []struct {
			method  lb.Method
			passage tunnel.Passage
			asked   bool
			reason  lb.Reason
		}{
			{"", tunnel.Blocked, false, ""},
			{lb.DSR, tunnel.Unknown, true, ""},
			{lb.DSR, tunnel.Blocked, true, lb.TunnelBlocked},
			{lb.DSR, tunnel.Declined, true, lb.TunnelDeclined},
			{lb.DSR, tunnel.Passes, true, ""},
			{lb.DSR, tunnel.Blocked, true, lb.TunnelBlocked},
			{lb.NAT, tunnel.Blocked, false, ""},
		} {
			w.edit(func() { f.passage = step.passage })
			n.TunnelsChanged()
			asks(w, step.method)
			if got := slices.Contains(f.peers, want); got != step.asked || len(f.peers) > 0 != step.asked || !f.able {
				t.Errorf("step %d: peers %v, able: %t", i, f.peers, f.able)
			}
			p, st := n.selfReport().Problem, n.status.Load()
			if p.Reason != step.reason || p.Reason != "" && !strings.Contains(p.Message, "n2") || st.NoTunnel["n2"].Reason != step.reason {
				t.Errorf("step %d: problem %v, status %v, want %q", i, p, st.NoTunnel, step.reason)
			}
			series := 0
			if step.reason != "" {
				series = 1
			}
			if got := seriesOf(t, n, "fairlead_speaker_no_tunnel"); got != series {
				t.Errorf("step %d: %d series, want %d", i, got, series)
			}
			if v := n.datapathView(""); len(v.NoTunnel) != series || len(v.Tunnels) > 0 != step.asked {
				t.Errorf("step %d: the debug page tells of %v and %v", i, v.Tunnels, v.NoTunnel)
			}
		}
	})
}

// TestTheNodesThatAreAskedFollowTheEndpoints at once, also where nothing else is decided again.
func TestTheNodesThatAreAskedFollowTheEndpoints(t *testing.T) {
	inTunnels(t, "ipvs", func(w *world, n *node, f *fakeTunnels) {
		asks(w, lb.DSR)
		sets := n.sets
		for _, on := range []lb.NodeName{"n1", "n2"} {
			w.change(func(k *kube.Facts) { k.Endpoints.Set(web, []lb.Endpoint{endpoint(on)}) })
			pass(time.Second)
			if len(f.peers) != 1 || f.peers[0].Asked != (on == "n2") {
				t.Errorf("with an endpoint on %s the peers are %v", on, f.peers)
			}
		}
		if n.sets != sets {
			t.Error("the announcements were decided again")
		}
	})
}

// TestPodsAreTold: what other nodes may ask at is what the engine has reached.
func TestPodsAreTold(t *testing.T) {
	inTunnels(t, "ipvs", func(w *world, n *node, f *fakeTunnels) {
		w.change(func(k *kube.Facts) {
			k.Endpoints.Set(web, []lb.Endpoint{endpoint("n1")})
			for name, of := range k.Nodes { // so that pods are recognised
				of.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
				k.Nodes[name] = of
			}
		})
		asks(w, lb.DSR)
		if got, want := n.TunnelledPods(lb.IPv4), (tunnel.Pods{netip.MustParseAddr("10.244.1.2")}); got != want {
			t.Errorf("pods %v, want %v", got, want)
		}
	}, func(_ *node, o *Options) { o.Forwarding.Pods.NodeCIDRs = true })
}

// TestModulesThatAreMissing are the node's own fault, of which the other nodes hear by the answers to their probes. They are not tried all the time.
func TestModulesThatAreMissing(t *testing.T) {
	inTunnels(t, "ipvs", func(w *world, n *node, f *fakeTunnels) {
		if f.tried > 0 {
			t.Error("modules are tried though no Service needs them")
		}
		w.edit(func() { f.missing, f.passage = []string{"ip_vs_mh"}, tunnel.Passes })
		asks(w, lb.DSR)
		p := n.selfReport().Problem
		if p.Reason != lb.TunnelModules || !strings.Contains(p.Message, "ip_vs_mh") || f.able || n.status.Load().NoTunnel["n1"].Reason != lb.TunnelModules {
			t.Errorf("problem %v, able: %t", p, f.able)
		}
		if f.tried == 0 || f.tried > 3 {
			t.Errorf("tried %d times within %s", f.tried, 2*tunnelsAnyway)
		}
		w.edit(func() { f.missing = nil })
		pass(2 * stepAnyway)
		if p := n.selfReport().Problem; !p.OK() || !f.able {
			t.Errorf("mended: problem %v, able: %t", p, f.able)
		}
		tried := f.tried
		pass(10 * stepAnyway)
		if f.tried != tried {
			t.Errorf("tried %d times more when nothing was missing", f.tried-tried)
		}
	})
}

// TestAnEngineWithoutTunnels is as if modules were missing.
func TestAnEngineWithoutTunnels(t *testing.T) {
	inTunnels(t, "nft", func(w *world, n *node, f *fakeTunnels) {
		asks(w, lb.DSR)
		if p := n.selfReport().Problem; p.Reason != lb.EngineWithoutTunnel || !strings.Contains(p.Message, "datapath.engine") || f.able {
			t.Errorf("problem %v, able: %t", p, f.able)
		}
	})
}

func TestWhichNodeIsToldOfFirst(t *testing.T) {
	refused := map[lb.NodeName]lb.Refusal{"n3": {Reason: lb.TunnelBlocked, Message: "c"}, "n2": {Reason: lb.TunnelDeclined, Message: "b"}}
	if got := noTunnel("n1", refused); got.Reason != lb.TunnelDeclined || !strings.Contains(got.Message, "node n2") || !strings.Contains(got.Message, "1 other node") {
		t.Errorf("%v", got)
	}
	refused["n1"] = lb.Refusal{Reason: lb.TunnelModules, Message: "a"}
	if got := noTunnel("n1", refused); got.Reason != lb.TunnelModules {
		t.Errorf("%v", got)
	}
	if got := noTunnel("n1", nil); !got.OK() {
		t.Errorf("%v", got)
	}
}
