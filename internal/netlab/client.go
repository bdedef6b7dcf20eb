package netlab

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// client is a station on the segment that connects to every address all the time.
type client struct {
	host *host

	mu      sync.Mutex // guards the following
	cache   neighbours
	asked   map[netip.Addr]time.Time
	success map[netip.Addr]time.Time
	worst   time.Duration // without a success, for one address
}

const connectEvery = 10 * time.Millisecond

func newClient(l *lan) *client {
	c := &client{cache: neighbours{}, asked: map[netip.Addr]time.Time{}, success: map[netip.Addr]time.Time{}}
	c.host = l.newHost("client", netip.MustParseAddr("192.0.2.250"), c.take)
	l.connect(c.host)
	return c
}

func (c *client) take(_ *host, what any) {
	if p, ok := what.(arp); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.cache.learn(p, time.Now())
	}
}

// connect tries every address once. Every living node's datapath forwards every address.
func (c *client) connect(addrs []netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for _, addr := range addrs {
		if _, known := c.success[addr]; !known {
			c.success[addr] = now
		}
		n, known := c.cache[addr]
		switch {
		case known && c.host.reach(n.host.addr) != nil: // also after its process has changed
			n.success = now
			c.cache[addr], c.success[addr] = n, now
		case known && now.Sub(n.success) > giveUp:
			delete(c.cache, addr)
		case !known && now.Sub(c.asked[addr]) > 100*time.Millisecond:
			c.asked[addr] = now
			c.host.broadcast(arp{sender: c.host, sip: c.host.addr, tip: addr})
		}
		c.worst = max(c.worst, now.Sub(c.success[addr]))
	}
	for addr := range c.success {
		if !slices.Contains(addrs, addr) {
			delete(c.success, addr)
		}
	}
}

// outage returns the longest time that an address did not answer since the last call.
func (c *client) outage() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	worst := c.worst
	c.worst = 0
	return worst
}
