package netlab

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/internal/speaker"
	"github.com/fairlead-lb/fairlead/lb"
)

// heartbeat is a stand-in for the real one, with its timing: 50 ms x 3.
type heartbeat struct {
	host    *host
	node    lb.NodeName
	changed func()
	met     func() // a node is heard, for the first time or again

	mu    sync.Mutex // guards the following
	peers map[lb.NodeName]netip.Addr
	heard map[lb.NodeName]time.Time
	late  []lb.NodeName
	naps  uint64
	woke  time.Time // when this node fell asleep or woke up, and has not been answered since; zero = it is fresh
}

var _ speaker.Heartbeat = (*heartbeat)(nil)

const (
	beatEvery = 50 * time.Millisecond
	patience  = 3 * beatEvery
)

// beat is one sign of life; the last one says goodbye.
type beat struct {
	node lb.NodeName
	sent time.Time
	last bool
}

func newHeartbeat(h *host, node lb.NodeName, changed, met func()) *heartbeat {
	return &heartbeat{host: h, node: node, changed: changed, met: met, heard: map[lb.NodeName]time.Time{}}
}

// Watch implements speaker.Heartbeat.
func (b *heartbeat) Watch(peers map[lb.NodeName]netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.peers = peers
	for node := range b.heard {
		if _, watched := peers[node]; !watched {
			delete(b.heard, node)
		}
	}
}

// Suspects implements speaker.Heartbeat.
func (b *heartbeat) Suspects() map[lb.NodeName]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[lb.NodeName]bool, len(b.late))
	for _, node := range b.late {
		out[node] = b.host.refusedBy(b.peers[node])
	}
	return out
}

// hears is for gossip.Options.Heard.
func (b *heartbeat) hears(node lb.NodeName) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, heard := b.heard[node]
	return heard && !slices.Contains(b.late, node)
}

// Fresh implements speaker.Heartbeat.
func (b *heartbeat) Fresh() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.woke.IsZero()
}

// GoOn implements speaker.Heartbeat.
func (b *heartbeat) GoOn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.woke = time.Time{}
}

// Sleeps implements speaker.Heartbeat.
func (b *heartbeat) Sleeps() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.naps
}

// overslept tells that this node has been asleep, until now if it is over. Its own sleep accuses nobody.
func (b *heartbeat) overslept() {
	b.mu.Lock()
	b.woke = time.Now()
	b.naps++
	for node := range b.heard {
		b.heard[node] = b.woke
	}
	b.mu.Unlock()
	b.changed()
}

func (b *heartbeat) take(what beat) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, watched := b.peers[what.node]; !watched {
		return
	}
	if _, heard := b.heard[what.node]; !heard || slices.Contains(b.late, what.node) {
		b.met()
	}
	b.heard[what.node] = time.Now()
	if what.last {
		delete(b.heard, what.node)
	}
	if !b.woke.IsZero() && what.sent.After(b.woke) { // what waited in the socket says nothing about now
		b.woke = time.Time{}
		b.changed()
	}
}

// run beats until ctx is done, then says goodbye.
func (b *heartbeat) run(ctx context.Context) {
	time.Sleep(time.Duration(b.host.addr.As4()[3]) * 7 * time.Millisecond) // the nodes do not beat in step
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		if !b.host.sleeps() {
			b.send(false)
			b.judge(time.Now())
		}
		select {
		case <-ctx.Done():
			b.send(true)
			return
		case <-tick.C:
		}
	}
}

func (b *heartbeat) send(last bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, addr := range b.peers {
		b.host.send(addr, beat{b.node, time.Now(), last})
	}
}

func (b *heartbeat) judge(now time.Time) {
	b.mu.Lock()
	var late []lb.NodeName
	for node, at := range b.heard {
		if now.Sub(at) > patience {
			late = append(late, node)
		}
	}
	slices.Sort(late)
	news := !slices.Equal(late, b.late)
	b.late = late
	b.mu.Unlock()
	if news {
		b.changed()
	}
}
