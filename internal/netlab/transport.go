package netlab

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport is memberlist's way onto the LAN.
type transport struct {
	host    *host
	port    uint16
	packets chan *memberlist.Packet
	streams chan net.Conn
	closed  chan struct{}
}

var _ memberlist.Transport = (*transport)(nil)

// datagram is a packet of memberlist's.
type datagram []byte

// dial is the wish for a connection, of which it carries the far end.
type dial struct{ conn net.Conn }

func newTransport(h *host, port uint16) *transport {
	return &transport{host: h, port: port, packets: make(chan *memberlist.Packet, 256), streams: make(chan net.Conn), closed: make(chan struct{})}
}

// take passes on what the host has received for memberlist.
func (t *transport) take(from *host, what any) {
	switch what := what.(type) {
	case datagram:
		select {
		case t.packets <- &memberlist.Packet{Buf: what, From: net.UDPAddrFromAddrPort(netip.AddrPortFrom(from.addr, t.port)), Timestamp: time.Now()}:
		default: // the receive buffer is full
		}
	case dial:
		select {
		case t.streams <- what.conn:
		case <-t.closed:
			_ = what.conn.Close()
		}
	}
}

// refuse is what a machine does with packets for which no process listens.
func refuse(_ *host, what any) {
	if d, ok := what.(dial); ok {
		_ = d.conn.Close()
	}
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.host.addr.AsSlice(), int(t.port), nil
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	t.host.send(netip.MustParseAddrPort(addr).Addr(), datagram(b))
	return time.Now(), nil
}

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to := t.host.reach(netip.MustParseAddrPort(addr).Addr())
	if to == nil {
		select {
		case <-time.After(timeout):
		case <-t.closed:
		}
		return nil, errors.New("dial timeout")
	}
	near, far := net.Pipe()
	to.receive(t.host, dial{far})
	return near, nil
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown implements memberlist.Transport.
func (t *transport) Shutdown() error {
	close(t.closed)
	return nil
}
