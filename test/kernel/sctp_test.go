//go:build kernel

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// The handshake of an SCTP association (RFC 9260 §5.1), spoken over raw sockets: no kernel needs the protocol for it, only conntrack and the
// engines do. A pod says its name, and whom it sees as the client, in the cookie.

// The types of its chunks.
const (
	sctpInit       = 1
	sctpInitAck    = 2
	sctpCookieEcho = 10
	sctpCookieAck  = 11
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sctpPacket is a packet with one chunk.
type sctpPacket struct {
	from, to uint16
	tag      uint32 // the one that the receiver chose
	kind     byte
	body     []byte
}

func (p sctpPacket) encode() []byte {
	b := make([]byte, 16, 64)
	binary.BigEndian.PutUint16(b, p.from)
	binary.BigEndian.PutUint16(b[2:], p.to)
	binary.BigEndian.PutUint32(b[4:], p.tag)
	b[12] = p.kind
	binary.BigEndian.PutUint16(b[14:], uint16(4+len(p.body)))
	b = append(b, p.body...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, castagnoli))
	return b
}

// decodeSCTP reads a packet whose checksum is right.
func decodeSCTP(b []byte) (p sctpPacket, ok bool) {
	if len(b) < 16 {
		return p, false
	}
	sum := binary.LittleEndian.Uint32(b[8:])
	binary.LittleEndian.PutUint32(b[8:], 0)
	size := int(binary.BigEndian.Uint16(b[14:]))
	if crc32.Checksum(b, castagnoli) != sum || size < 4 || 12+size > len(b) {
		return p, false
	}
	return sctpPacket{binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[4:]), b[12], b[16 : 12+size]}, true
}

// sctpHello is the body of INIT and INIT ACK: the sender's tag, window, streams and first number, and what more there is.
func sctpHello(tag uint32, more []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, tag)
	b = binary.BigEndian.AppendUint32(b, 1<<16)
	b = append(b, 0, 1, 0, 1)
	return append(binary.BigEndian.AppendUint32(b, 1), more...)
}

// sctpSocket is a raw socket of one namespace.
type sctpSocket struct {
	fd int
	v4 bool
}

func openSCTP(ns string, at netip.Addr, open func(fd int, sa unix.Sockaddr) error) (s sctpSocket, err error) {
	err = within(ns, func() error {
		domain := unix.AF_INET6
		if s.v4 = at.Is4(); s.v4 {
			domain = unix.AF_INET
		}
		if s.fd, err = unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP); err != nil {
			return err
		}
		return open(s.fd, sockaddr(at))
	})
	return s, err
}

func sockaddr(a netip.Addr) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Addr: a.As16()}
}

func addrOf(sa unix.Sockaddr) netip.Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(sa.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(sa.Addr)
	}
	return netip.Addr{}
}

// receive returns the next packet that is good.
func (s sctpSocket) receive() (p sctpPacket, from netip.Addr, err error) {
	buf := make([]byte, 2048)
	for {
		n, sa, err := unix.Recvfrom(s.fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return p, from, os.NewSyscallError("recvfrom", err)
		}
		b := buf[:n]
		if s.v4 {
			b = b[int(b[0]&15)*4:]
		}
		if p, ok := decodeSCTP(b); ok {
			return p, addrOf(sa), nil
		}
	}
}

// serveSCTP has a pod answer associations to ports 8080 and 8081.
func serveSCTP(ns, addr string) error {
	s, err := openSCTP(ns, netip.MustParseAddr(addr), unix.Bind)
	if err != nil {
		return fmt.Errorf("opening SCTP in %s: %w", ns, err)
	}
	go func() {
		for {
			p, from, err := s.receive()
			if err != nil {
				return
			}
			answer := sctpPacket{from: p.to, to: p.from}
			switch {
			case p.to != 8080 && p.to != 8081:
				continue
			case p.kind == sctpInit && len(p.body) >= 4:
				cookie := []byte(ns + " " + from.String())
				param := append([]byte{0, 7, 0, byte(4 + len(cookie))}, cookie...)
				answer.kind, answer.tag, answer.body = sctpInitAck, binary.BigEndian.Uint32(p.body), sctpHello(0x5eed, param)
			case p.kind == sctpCookieEcho && p.tag == 0x5eed:
				answer.kind, answer.tag = sctpCookieAck, clientTag
			default:
				continue
			}
			_ = unix.Sendto(s.fd, answer.encode(), 0, sockaddr(from))
		}
	}()
	return nil
}

// clientTag is what clients want to be called by.
const clientTag = 0xc11e47

var nextSCTPPort = uint16(40000)

// askSCTP sets an association up and returns what the pod says.
func askSCTP(ns string, to netip.AddrPort, timeout time.Duration) (answer, error) {
	s, err := openSCTP(ns, to.Addr(), unix.Connect)
	if err != nil {
		return answer{}, err
	}
	defer unix.Close(s.fd)
	limit := unix.NsecToTimeval(timeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return answer{}, err
	}
	nextSCTPPort++
	hello := sctpPacket{from: nextSCTPPort, to: to.Port(), kind: sctpInit, body: sctpHello(clientTag, nil)}
	cookie, err := s.exchange(hello, sctpInitAck)
	if err != nil {
		return answer{}, err
	}
	if len(cookie) < 20 {
		return answer{}, fmt.Errorf("INIT ACK of %d bytes", len(cookie))
	}
	echo := sctpPacket{from: hello.from, to: hello.to, tag: binary.BigEndian.Uint32(cookie), kind: sctpCookieEcho, body: cookie[20:]}
	_, err = s.exchange(echo, sctpCookieAck)
	return parse(string(cookie[20:])), err
}

// exchange sends a packet and waits for the answer to it.
func (s sctpSocket) exchange(p sctpPacket, kind byte) (body []byte, err error) {
	if err := unix.Send(s.fd, p.encode(), 0); err != nil {
		return nil, os.NewSyscallError("send", err)
	}
	for {
		q, _, err := s.receive()
		if err != nil {
			return nil, err
		}
		if q.kind == kind && q.from == p.to && q.to == p.from && q.tag == clientTag {
			return q.body, nil
		}
	}
}

// TestS62SCTP: associations reach every endpoint, are refused where nobody serves, and an endpoint that goes is not asked any more (S61). The
// kernel does not load its own SCTP because of that.
func TestS62SCTP(t *testing.T) {
	_, err := os.Stat("/sys/module/sctp")
	loaded := err == nil
	forEach(t, func(t *testing.T, b *bed, f family) {
		sctp := both(masquerade(datapath.Everybody), func(v *datapath.VirtualServer) { v.Protocol = lb.SCTP })
		at := func(addr, port string) netip.AddrPort { return netip.MustParseAddrPort(to(addr, port)) }
		s := f.state(f.server(f.vip, "80", sctp, "pod-a", "pod-b", "far"), f.server(f.vip, "82", both(sctp, silentVerdict), "far"),
			f.server(f.anywhere(), "30080", sctp, "pod-a"))
		b.hold(t, s)
		for _, ns := range []string{"client", "pod-b", "node"} {
			answered := map[string]bool{}
			for range many {
				a, err := askSCTP(ns, at(f.vip, "80"), patience)
				if err != nil {
					t.Fatalf("from %s: %v", ns, err)
				}
				answered[a.pod] = true
				if ns == "client" && a.client == f.client {
					t.Fatalf("%s sees the client, which is to be masqueraded", a.pod)
				}
			}
			if len(answered) != 3 {
				t.Errorf("from %s: only %v answered", ns, answered)
			}
			if _, err := askSCTP(ns, at(f.vip, "81"), patience); !refused(err) {
				t.Errorf("from %s to a port without a server: %v, want connection refused", ns, err)
			}
		}
		if a, err := askSCTP("client", at(f.node, "30080"), patience); err != nil || a.pod != "pod-a" {
			t.Errorf("node port: %v, %v", a, err)
		}
		if _, err := askSCTP("client", at(f.vip, "82"), short); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("where the verdict is to drop: %v, want silence", err)
		}
		b.hold(t, f.state(f.server(f.vip, "80", sctp, "pod-b")))
		for range few {
			if a, err := askSCTP("client", at(f.vip, "80"), patience); err != nil || a.pod != "pod-b" {
				t.Fatalf("after the other endpoints have gone: %v, %v", a, err)
			}
		}
		b.hold(t, f.state(f.server(f.vip, "80", sctp)))
		if _, err := askSCTP("client", at(f.vip, "80"), patience); !refused(err) {
			t.Errorf("without endpoints: %v, want connection refused", err)
		}
	})
	if _, err := os.Stat("/sys/module/sctp"); err == nil && !loaded {
		t.Error("the kernel has loaded its module sctp")
	}
}
