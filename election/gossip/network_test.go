package gossip

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// network is a fake LAN whose cables can be cut.
type network struct {
	mu    sync.Mutex
	hosts map[netip.AddrPort]*host
	cut   func(from, to netip.AddrPort) bool // nil = nothing is cut
	only  string                             // "udp" or "tcp": the other one gets lost; "" = neither
	slow  map[netip.AddrPort]time.Duration   // how long a connection to that host takes
	tap   func(b []byte)                     // sees every datagram; nil = nobody does
}

func newNetwork() *network { return &network{hosts: map[netip.AddrPort]*host{}} }

// setCut decides from now on what gets lost.
func (n *network) setCut(cut func(from, to netip.AddrPort) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

// setOnly lets only one protocol through from now on.
func (n *network) setOnly(protocol string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.only = protocol
}

// setSlow says how long connections to hosts take from now on.
func (n *network) setSlow(slow map[netip.AddrPort]time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.slow = slow
}

// reach returns the host at addr if from can reach it now by that protocol.
func (n *network) reach(from netip.AddrPort, addr, protocol string) *host {
	n.mu.Lock()
	defer n.mu.Unlock()
	to := netip.MustParseAddrPort(addr)
	if n.only != "" && n.only != protocol || n.cut != nil && (n.cut(from, to) || n.cut(to, from)) {
		return nil
	}
	return n.hosts[to]
}

// host is a memberlist.Transport on the network. A later host with the same address replaces it.
type host struct {
	net     *network
	addr    netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	closed  chan struct{}
}

func (n *network) newHost(addr netip.AddrPort) *host {
	h := &host{net: n, addr: addr, packets: make(chan *memberlist.Packet, 256), streams: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[addr] = h
	return h
}

func (h *host) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return h.addr.Addr().AsSlice(), int(h.addr.Port()), nil
}

func (h *host) WriteTo(b []byte, addr string) (time.Time, error) {
	now := time.Now()
	if h.net.tap != nil {
		h.net.tap(b)
	}
	if to := h.net.reach(h.addr, addr, "udp"); to != nil {
		select {
		case to.packets <- &memberlist.Packet{Buf: b, From: net.UDPAddrFromAddrPort(h.addr), Timestamp: now}:
		default: // its receive buffer is full
		}
	}
	return now, nil
}

func (h *host) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to := h.net.reach(h.addr, addr, "tcp")
	if to == nil {
		time.Sleep(timeout)
		return nil, errors.New("dial timeout")
	}
	h.net.mu.Lock()
	wait := h.net.slow[to.addr]
	h.net.mu.Unlock()
	time.Sleep(wait)
	near, far := net.Pipe()
	select {
	case to.streams <- far:
		return near, nil
	case <-to.closed:
		return nil, errors.New("connection refused")
	}
}

func (h *host) PacketCh() <-chan *memberlist.Packet { return h.packets }
func (h *host) StreamCh() <-chan net.Conn           { return h.streams }

func (h *host) Shutdown() error {
	close(h.closed)
	return nil
}
