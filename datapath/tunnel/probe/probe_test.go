package probe

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/datapath/tunnel"
	"github.com/fairlead-lb/fairlead/lb"
)

func options() Options {
	return Options{Node: "n1", Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Changed: func() {},
		Pods: func(lb.Family) tunnel.Pods { return tunnel.Pods{} }}
}

func TestOptions(t *testing.T) {
	for name, edit := range map[string]func(*Options){
		"no node":       func(o *Options) { o.Node = "" },
		"no log":        func(o *Options) { o.Log = nil },
		"no registerer": func(o *Options) { o.Registerer = nil },
		"no callback":   func(o *Options) { o.Changed = nil },
		"no pods":       func(o *Options) { o.Pods = nil },
	} {
		o := options()
		edit(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestSocketsAreForPeers: nothing is open before there is a peer, nor after it has gone, nor when Run has ended. Sockets need privileges that
// this test does not have to have: they are wanted then, and it is tried again later.
func TestSocketsAreForPeers(t *testing.T) {
	p, err := New(options())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- p.Run(ctx) }()
	wants := func(step string, families ...lb.Family) {
		t.Helper()
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.wanted) != len(families) {
			t.Errorf("%s: sockets of %v are wanted, want %v", step, p.wanted, families)
		}
		for family := range p.sockets {
			if !p.wanted[family] && len(families) > 0 {
				t.Errorf("%s: a socket of %s is open", step, family)
			}
		}
	}
	wants("at first")
	four := tunnel.Peer{Node: "n2", Self: netip.MustParseAddr("127.0.0.1"), Host: netip.MustParseAddr("127.0.0.2"), Asked: true}
	p.Set([]tunnel.Peer{four}, true)
	wants("a peer", lb.IPv4)
	if r := p.Results(); len(r) != 1 || r[0].ToPod != tunnel.Unknown {
		t.Errorf("results %+v, want one of which nothing is known", r)
	}
	p.Set(nil, true)
	wants("no peer")
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if len(p.sockets) > 0 {
		t.Errorf("sockets %v are open after Run", p.sockets)
	}
}
