package netlab

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/election/gossip"
	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/internal/speaker"
	"github.com/fairlead-lb/fairlead/lb"
)

const (
	eth0       = "eth0"
	gossipPort = 7947
)

// node is a machine, and the speaker that runs on it, if one does.
type node struct {
	cluster *cluster
	name    lb.NodeName
	addr    netip.Addr
	mac     lb.MAC

	*process // nil = no speaker runs
}

// process is one run of a speaker with what it stands on.
type process struct {
	host      *host
	gossip    *gossip.Gossip
	heartbeat *heartbeat
	announcer *announcer
	speaker   *speaker.Speaker
	shutdown  context.CancelFunc // gracefully
	ended     chan struct{}

	mu      sync.Mutex
	changed func()          // the speaker's watch on its links
	onward  datapath.Onward // that the kernel has
}

// start begins a new process.
func (n *node) start() error {
	p := &process{ended: make(chan struct{})}
	var t *transport
	p.host = n.cluster.lan.newHost(string(n.name), n.addr, func(from *host, what any) {
		switch what := what.(type) {
		case beat:
			p.heartbeat.take(what)
		case arp:
			p.announcer.take(what)
		default:
			t.take(from, what)
		}
	})
	t = newTransport(p.host, gossipPort)
	p.announcer = &announcer{host: p.host, mayAnswer: func() bool { return p.speaker.MayAnswer() }}
	trigger := func() { p.speaker.Trigger() }
	p.heartbeat = newHeartbeat(p.host, n.name, trigger, func() { p.gossip.Rejoin() })
	log := slog.New(slog.DiscardHandler)
	var err error
	p.gossip, err = gossip.New(gossip.Options{Node: n.name, Bind: netip.AddrPortFrom(n.addr, gossipPort), Keys: []keyring.Key{{ID: 1, Secret: [keyring.Size]byte{1}}}, Log: log, Heard: p.heartbeat.hears,
		Peers: n.cluster.peers, Changed: trigger, Transport: t})
	if err != nil {
		return fmt.Errorf("setting up the gossip of %s: %w", n.name, err)
	}
	p.speaker, err = speaker.New(speaker.Options{Node: n.name, Facts: n.cluster, Gossip: p.gossip, Links: linkSource{n, p}, Announcer: p.announcer,
		Forwarding: lb.Forwarding{HandOn: true}, Engine: p, Heartbeat: p.heartbeat, Events: n.cluster, Log: log, Registerer: prometheus.NewRegistry(), LeaveOnCordon: n.cluster.leave})
	if err != nil {
		return fmt.Errorf("setting up the speaker of %s: %w", n.name, err)
	}
	n.process = p
	n.cluster.lan.connect(p.host)
	p.run()
	return nil
}

// run starts everything. The speaker stops first, while the others still carry its goodbye, as in the real process.
func (p *process) run() {
	ctx, shutdown := context.WithCancel(context.Background())
	others, stop := context.WithCancel(context.Background())
	p.shutdown = shutdown
	var all sync.WaitGroup
	all.Go(func() { _ = p.speaker.Run(ctx); stop() })
	all.Go(func() { _ = p.gossip.Run(others) })
	all.Go(func() { p.heartbeat.run(others) })
	go func() { all.Wait(); close(p.ended) }()
}

// kill ends the process without a goodbye. With its power the machine also stops to forward.
func (n *node) kill(power bool) {
	p := n.process
	n.process = nil
	n.cluster.lan.change(func() { p.host.powered = false })
	if !power {
		h := n.cluster.lan.newHost(p.host.name, p.host.addr, refuse)
		h.idle = true
		n.cluster.lan.connect(h)
	}
	p.shutdown()
}

// drain shuts the process down and waits until it has ended.
func (n *node) drain() {
	p := n.process
	p.shutdown()
	<-p.ended
	n.process = nil
}

// pause stops the machine for d, as a hypervisor does.
func (n *node) pause(d time.Duration) {
	p := n.process
	wake := p.host.sleep()
	p.heartbeat.overslept()
	time.AfterFunc(d, func() { // the first thing it sees is the clock
		p.heartbeat.overslept()
		wake()
	})
}

// plug puts the cable in or takes it out.
func (n *node) plug(in bool) {
	p := n.process
	n.cluster.lan.change(func() { p.host.plugged = in })
	p.mu.Lock()
	changed := p.changed
	p.mu.Unlock()
	changed()
}

func (n *node) answers(addr netip.Addr) bool {
	if n.process == nil {
		return false
	}
	_, owned := n.announcer.epoch(addr)
	return owned && n.speaker.MayAnswer()
}

// linkSource is the kernel's view of the cable.
type linkSource struct {
	node    *node
	process *process
}

// Links implements speaker.LinkSource.
func (s linkSource) Links() ([]lb.Link, error) {
	up := false
	s.node.cluster.lan.change(func() { up = s.process.host.plugged })
	return []lb.Link{{Name: eth0, Index: 2, MAC: s.node.mac, Up: up, Prefixes: []netip.Prefix{segment}}}, nil
}

// Watch implements speaker.LinkSource.
func (s linkSource) Watch(ctx context.Context, changed func()) error {
	s.process.mu.Lock()
	s.process.changed = changed
	s.process.mu.Unlock()
	<-ctx.Done()
	return nil
}

// Name implements speaker.Engine.
func (p *process) Name() string { return "simulated" }

// Sync implements speaker.Engine: it reaches everything at once.
func (p *process) Sync(_ context.Context, want datapath.State, _ time.Time) (datapath.State, error) {
	p.mu.Lock()
	p.onward = want.Onward
	p.mu.Unlock()
	return want.Clone(), nil
}
