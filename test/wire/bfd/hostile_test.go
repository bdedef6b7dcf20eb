//go:build wire

package bfd

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/bfd"
	"github.com/fairlead-lb/fairlead/bfd/udp"
)

// attacker returns a function that sends packets from the host with a TTL.
func (h *host) attacker(from, to netip.Addr, ttl int) func(b []byte) {
	h.t.Helper()
	var c *net.UDPConn
	h.Within(func() (err error) {
		c, err = net.DialUDP("udp4", &net.UDPAddr{IP: from.AsSlice()}, &net.UDPAddr{IP: to.AsSlice(), Port: port})
		return err
	})
	h.t.Cleanup(func() { c.Close() })
	raw, err := c.SyscallConn()
	check(h.t, err)
	check(h.t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, ttl) }))
	check(h.t, err)
	return func(b []byte) { _, _ = c.Write(b) } // refusals of other packets do not matter
}

// tape records the payloads of the UDP packets that arrive on v0.
func tape(t *testing.T, d time.Duration) (out [][]byte) {
	t.Helper()
	const ip = 0x0800
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(binary.BigEndian.Uint16([]byte{ip & 0xff, ip >> 8})))
	check(t, err)
	defer unix.Close(fd)
	check(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}))
	buf := make([]byte, 2000)
	for end := time.Now().Add(d); time.Now().Before(end); {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		ll, ok := from.(*unix.SockaddrLinklayer)
		if err != nil || !ok || ll.Pkttype == unix.PACKET_OUTGOING || n < 28 || buf[9] != unix.IPPROTO_UDP || buf[0] != 0x45 {
			continue
		}
		if binary.BigEndian.Uint16(buf[22:]) == port {
			out = append(out, append([]byte(nil), buf[28:n]...))
		}
	}
	return out
}

// TestHostilePackets: whoever has the peer's address but not its key changes nothing, whatever he sends.
func TestHostilePackets(t *testing.T) {
	h, p := link(t), udp.Peer{Local: us4, Remote: near4}
	conf := heartbeat()
	conf.Multiplier = 40
	g := start(t, udp.Options{Port: port, Aligned: true, Refused: true}, map[udp.Peer]udp.Config{p: conf})
	other := startPeer(h, peerConfig{Local: near4, Remotes: []netip.Addr{us4}, Patient: true})
	g.next(p, bfd.Up, time.Time{})
	recorded := tape(t, time.Second)
	if len(recorded) < 5 {
		t.Fatalf("recorded only %d packets of the peer", len(recorded))
	}
	time.Sleep(time.Second)
	since := time.Now()
	dice := rand.New(rand.NewPCG(1, 2))
	send, far := h.attacker(near4, us4, 255), h.attacker(near4, us4, 254)
	for _, b := range recorded {
		send(b) // a replay
		far(b)  // and from elsewhere
		forged := append([]byte(nil), b...)
		forged[1] = byte(bfd.Down)<<6 | 4 // A
		send(forged)
		forged[1] = 0 // AdminDown without authentication
		forged[3] = bfd.MinSize
		send(forged[:bfd.MinSize])
		for range 100 {
			mutant := append([]byte(nil), b...)
			for range 1 + dice.IntN(4) {
				mutant[dice.IntN(len(mutant))] = byte(dice.Uint32())
			}
			send(mutant[:1+dice.IntN(len(mutant))])
			send(mutant)
		}
		time.Sleep(5 * ms) // not a flood: that would fill the socket's buffer, which is another attack
	}
	for i := range 2000 {
		if i%100 == 0 {
			time.Sleep(5 * ms)
		}
		garbage := make([]byte, dice.IntN(1400))
		for j := range garbage {
			garbage[j] = byte(dice.Uint32())
		}
		send(garbage)
	}
	time.Sleep(500 * ms)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.list {
		if c.At.After(since) {
			t.Errorf("hostile packets made %s at our end: %+v", c.Peer, c.Event)
		}
	}
	if s := g.Sessions()[p]; s.State != bfd.Up || other.count("Down", since) > 0 {
		t.Errorf("we are %s, the other end was down %d times", s.State, other.count("Down", since))
	}
}
