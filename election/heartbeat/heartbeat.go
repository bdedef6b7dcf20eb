package heartbeat

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-lb/fairlead/bfd"
	"github.com/fairlead-lb/fairlead/bfd/udp"
	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/lb"
)

// Options configures a [Heartbeat].
type Options struct {
	Addr       netip.Addr    // of this node, as the other speakers know it
	Port       uint16        // UDP, the same on all nodes
	Interval   time.Duration // between two heartbeats; default 50 ms, 10 ms to 10 s
	Multiplier uint8         // how many may be missing before a node is silent; default 3
	Realtime   bool          // ask for real-time scheduling (SCHED_FIFO): without it a busy node beats late and is taken for dead

	Log        *slog.Logger
	Registerer prometheus.Registerer
	Changed    func() // Suspects or Fresh may have changed; must not block
	Met        func() // a node is heard, for the first time or again; must not block
}

// priority is the lowest of the real-time priorities: above every ordinary process, below whatever else is real-time.
const priority = 1

// eventRoom is how many changes may wait to be read. Each node causes a few.
const eventRoom = 4096

func (o Options) validate() (Options, error) {
	if o.Interval == 0 {
		o.Interval = 50 * time.Millisecond
	}
	if o.Multiplier == 0 {
		o.Multiplier = 3
	}
	switch {
	case !o.Addr.IsValid() || o.Port == 0:
		return o, fmt.Errorf("heartbeat: %s port %d is no address to send from", o.Addr, o.Port)
	case o.Interval < 10*time.Millisecond || o.Interval > 10*time.Second:
		return o, fmt.Errorf("heartbeat: the interval is %s; use 10ms to 10s", o.Interval)
	case o.Log == nil || o.Registerer == nil || o.Changed == nil || o.Met == nil:
		return o, errors.New("heartbeat: Log, Registerer, Changed and Met are required")
	}
	return o, nil
}

// Heartbeat exchanges heartbeats while Run runs. Its methods may be called from any goroutine.
type Heartbeat struct {
	o      Options
	group  *udp.Group
	events chan change

	mu       sync.Mutex // guards the following
	keys     []bfd.Key
	peers    map[lb.NodeName]netip.Addr
	nodes    map[udp.Peer]lb.NodeName
	suspects map[lb.NodeName]bool
	heard    map[lb.NodeName]bool
}

// change is an event of the session with a peer. The zero change tells that this process has slept, or no longer is alone
// with that.
type change struct {
	peer  udp.Peer
	event bfd.Event
}

// New returns a Heartbeat that exchanges none yet: it needs keys and peers.
func New(o Options) (*Heartbeat, error) {
	o, err := o.validate()
	if err != nil {
		return nil, err
	}
	h := &Heartbeat{o: o, events: make(chan change, eventRoom), suspects: map[lb.NodeName]bool{}, heard: map[lb.NodeName]bool{}}
	options := udp.Options{
		Name: "heartbeat", Log: o.Log, Registerer: o.Registerer, Port: o.Port, Aligned: true, Batched: true, Refused: true, Widen: true,
		Changed:   func(p udp.Peer, e bfd.Event) { h.put(change{p, e}) },
		Slept:     func(time.Duration) { h.put(change{}) },
		Confirmed: func(udp.Peer) { h.put(change{}) },
	}
	if o.Realtime {
		options.Priority, options.LockMemory = priority, true
	}
	if h.group, err = udp.New(options); err != nil {
		return nil, err
	}
	return h, nil
}

// put hands a change over without waiting. If nobody has read thousands of them, one more is lost; the sessions' states are not.
func (h *Heartbeat) put(c change) {
	select {
	case h.events <- c:
	default:
	}
}

// SetKeys replaces the keys: what is derived from the first signs what is sent, what is derived from any is accepted. Without
// keys nothing is exchanged.
func (h *Heartbeat) SetKeys(keys []keyring.Key) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys = nil
	for _, k := range keys {
		secret := k.Heartbeat()
		h.keys = append(h.keys, bfd.Key{ID: uint8(k.ID), Secret: string(secret[:sha1.Size])}) // no more fits BFD's digest
	}
	h.apply()
}

// Watch replaces the set of nodes with which heartbeats are exchanged.
func (h *Heartbeat) Watch(peers map[lb.NodeName]netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if maps.Equal(peers, h.peers) {
		return
	}
	h.peers = maps.Clone(peers)
	gone := func(n lb.NodeName, _ bool) bool { _, ok := peers[n]; return !ok }
	maps.DeleteFunc(h.suspects, gone)
	maps.DeleteFunc(h.heard, gone)
	h.apply()
}

// apply gives the sessions to the group. The caller holds mu.
func (h *Heartbeat) apply() {
	want := map[udp.Peer]udp.Config{}
	h.nodes = map[udp.Peer]lb.NodeName{}
	config := bfd.Config{
		DesiredMinTx: h.o.Interval, RequiredMinRx: h.o.Interval, Multiplier: h.o.Multiplier, SlowTx: h.o.Interval,
		Auth: bfd.Keyring{Type: bfd.MeticulousKeyedSHA1, Keys: h.keys},
	}
	for node, addr := range h.peers {
		if len(h.keys) == 0 || addr.Is4() != h.o.Addr.Is4() {
			continue
		}
		p := udp.Peer{Local: h.o.Addr, Remote: addr}
		want[p] = udp.Config{Config: config}
		h.nodes[p] = node
	}
	if err := h.group.Set(want); err != nil {
		h.o.Log.Warn("heartbeat session not set", "err", err)
	}
}

// Suspects returns the nodes that were heard once and no longer are; true stands for those whose kernels said that nobody listens: their
// speakers have died, and they live.
func (h *Heartbeat) Suspects() map[lb.NodeName]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.suspects)
}

// Hears reports whether heartbeats go to and fro between this node and the other one now.
func (h *Heartbeat) Hears(node lb.NodeName) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heard[node]
}

// Fresh is false from when this process was asleep for as long as the others need to notice it, until one of them has
// answered again. It costs one system call.
func (h *Heartbeat) Fresh() bool { return h.group.Fresh() }

// GoOn makes Fresh true again although nobody has answered.
func (h *Heartbeat) GoOn() { h.group.GoOn() }

// Sleeps returns how often Fresh became false. A sleep that Fresh no longer shows has been counted.
func (h *Heartbeat) Sleeps() uint64 { return h.group.Sleeps() }

// Run exchanges heartbeats until ctx is done; then it tells the others that this is on purpose, and returns nil.
func (h *Heartbeat) Run(ctx context.Context) error {
	var group errgroup.Group
	ended := make(chan struct{})
	group.Go(func() error {
		defer close(ended)
		return h.group.Run(ctx)
	})
	group.Go(func() error {
		for {
			select {
			case <-ended:
				return nil
			case c := <-h.events:
				h.take(c)
			}
		}
	})
	return group.Wait()
}

// take learns from one change and tells about it.
func (h *Heartbeat) take(c change) {
	h.mu.Lock()
	node, ok := h.nodes[c.peer]
	if ok {
		if silent(c.event) {
			h.suspects[node] = c.event.Cause == bfd.CauseRefused
		} else {
			delete(h.suspects, node)
		}
		h.heard[node] = c.event.To == bfd.Up
	}
	h.mu.Unlock()
	if ok {
		h.o.Log.Info("heartbeat changed", "node", node, "from", c.event.From, "to", c.event.To, "cause", c.event.Cause)
	}
	h.o.Changed()
	if ok && c.event.To == bfd.Up {
		h.o.Met()
	}
}

// silent reports whether an event means that the peer is not heard any more: every other one means that it spoke, or that we
// have ended the session ourselves.
func silent(e bfd.Event) bool {
	return e.To == bfd.Down && (e.Cause == bfd.CauseDetectionExpired || e.Cause == bfd.CauseRefused || e.Cause == bfd.CauseLinkDown)
}
