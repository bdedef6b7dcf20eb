package netlab

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// lan is a switch with its hosts. Everything sent arrives after delay, if both ends can reach each other then.
type lan struct {
	mu    sync.Mutex
	hosts map[netip.Addr]*host
	side  map[string]int // of a partition, by host; all others are on side 0
	loss  float64        // share of what gets lost, 0 to 1
	dice  *rand.Rand
}

const delay = 200 * time.Microsecond

// host is what is plugged into the switch with one cable, eth0.
type host struct {
	lan  *lan
	name string
	addr netip.Addr

	// Guarded by lan.mu.
	powered, plugged, asleep bool
	idle                     bool     // no process listens
	waiting                  []func() // what arrived while it slept

	receive func(from *host, what any) // called without locks, one goroutine each
}

func newLAN(seed uint64) *lan {
	return &lan{hosts: map[netip.Addr]*host{}, side: map[string]int{}, dice: rand.New(rand.NewPCG(seed, 2))}
}

// newHost returns a host that is not connected yet.
func (l *lan) newHost(name string, addr netip.Addr, receive func(from *host, what any)) *host {
	return &host{lan: l, name: name, addr: addr, powered: true, plugged: true, receive: receive}
}

// connect plugs a host in, which from now on receives. A later one with the same address replaces it.
func (l *lan) connect(h *host) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hosts[h.addr] = h
}

// change alters the state of hosts or of the switch.
func (l *lan) change(do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	do()
}

// wired reports whether a packet of a's gets as far as b's socket. The caller holds l.mu.
func (l *lan) wired(a, b *host) bool {
	return a.powered && b.powered && a.plugged && b.plugged && l.side[a.name] == l.side[b.name] && l.hosts[b.addr] == b && l.hosts[a.addr] == a
}

// reach returns the host at addr if a connection to it succeeds now.
func (h *host) reach(addr netip.Addr) *host {
	h.lan.mu.Lock()
	defer h.lan.mu.Unlock()
	to := h.lan.hosts[addr]
	if to == nil || to.asleep || h.asleep || !h.lan.wired(h, to) {
		return nil
	}
	return to
}

// refusedBy reports whether the host at addr says now that no process listens.
func (h *host) refusedBy(addr netip.Addr) bool {
	to := h.reach(addr)
	return to != nil && to.idle
}

// send sends a packet to one host.
func (h *host) send(to netip.Addr, what any) {
	h.lan.mu.Lock()
	defer h.lan.mu.Unlock()
	if o := h.lan.hosts[to]; o != nil {
		h.carry(o, what)
	}
}

// broadcast sends a packet to all others.
func (h *host) broadcast(what any) {
	h.lan.mu.Lock()
	defer h.lan.mu.Unlock()
	for _, o := range h.lan.hosts {
		if o != h {
			h.carry(o, what)
		}
	}
}

func (h *host) carry(to *host, what any) {
	if h.asleep || !h.lan.wired(h, to) || h.lan.loss > 0 && h.lan.dice.Float64() < h.lan.loss {
		return
	}
	time.AfterFunc(delay, func() {
		h.lan.mu.Lock()
		if !h.lan.wired(h, to) {
			h.lan.mu.Unlock()
			return
		}
		if to.asleep {
			to.waiting = append(to.waiting, func() { to.receive(h, what) })
			h.lan.mu.Unlock()
			return
		}
		h.lan.mu.Unlock()
		to.receive(h, what)
	})
}

// sleeps reports whether the host is asleep. What stands in for a thread that would be stopped asks before it does anything.
func (h *host) sleeps() (asleep bool) {
	h.lan.change(func() { asleep = h.asleep })
	return asleep
}

// sleep stops the host; what reaches its sockets waits there. It returns the function that wakes it.
func (h *host) sleep() (wake func()) {
	h.lan.change(func() { h.asleep = true })
	return func() {
		var waiting []func()
		h.lan.change(func() { h.asleep, waiting, h.waiting = false, h.waiting, nil })
		for _, arrive := range waiting {
			arrive()
		}
	}
}
