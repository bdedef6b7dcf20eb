//go:build kernel

package kernel

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/datapath/engine"
	"github.com/fairlead-lb/fairlead/datapath/tunnel"
	"github.com/fairlead-lb/fairlead/datapath/tunnel/probe"
	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/lb"
)

// probed checks that what the speakers ask each other passes the rules of the engine, at the nodes' addresses and at the pods', and that the
// kernel is found to have all modules.
func (tr *tier) probed(t *testing.T) {
	t.Helper()
	var probes []*probe.Probe
	for i := range tr.engines {
		inNode(t, i, func() error {
			missing, err := engine.Modules{}.Missing(t.Context())
			if err == nil && len(missing) > 0 {
				err = fmt.Errorf("modules %v are missing", missing)
			}
			return err
		})
		probes = append(probes, tr.probe(t, i))
	}
	for i, p := range probes {
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			passes := 0
			for _, r := range p.Results() {
				if r.ToHost == tunnel.Passes && r.ToPod == tunnel.Passes {
					passes++
				}
			}
			if passes == 2 {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("t%d knows after %s: %+v", i+1, patience, p.Results())
			}
		}
	}
}

// probe starts what node i, counted from 0, asks and answers.
func (tr *tier) probe(t *testing.T, i int) *probe.Probe {
	t.Helper()
	key, err := keyring.New([]byte("the shared secret of these nodes"))
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("t%d", i+1)
	p, err := probe.New(probe.Options{Node: lb.NodeName(name), Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Changed: func() {},
		Pods: func(lb.Family) tunnel.Pods {
			return tunnel.Pods{netip.MustParseAddr(fmt.Sprintf(tr.family.pod, i+1, 1))}
		}})
	if err != nil {
		t.Fatal(err)
	}
	p.SetKeys([]keyring.Key{key})
	p.Set(tr.peers(i), true)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- within(name, func() error { return p.Run(ctx) }) }() // its sockets are of the thread that it begins on
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("probe of %s: %v", name, err)
		}
	})
	return p
}

// peers are the other nodes as node i, counted from 0, sees them.
func (tr *tier) peers(i int) (out []tunnel.Peer) {
	node := func(k int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf(tr.family.node, k+1)) }
	for k := range tr.engines {
		if k != i {
			out = append(out, tunnel.Peer{Node: lb.NodeName(fmt.Sprintf("t%d", k+1)), Self: node(i), Host: node(k), Asked: true})
		}
	}
	return out
}
