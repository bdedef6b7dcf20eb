package udp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// The source ports of RFC 5881 section 4.
const (
	firstSource = 49152
	lastSource  = 65535
)

// receiveBuffer holds what arrives while the process is stopped for some seconds; a packet takes about 768 bytes of it.
const receiveBuffer = 1 << 20

// trafficClass is CS6, network control.
const trafficClass = 0xc0

// listen opens the socket that receives the packets for a local address and port. iface is needed for link-local addresses only.
func listen(local netip.AddrPort, iface int) (int, error) {
	v6 := local.Addr().Is6()
	fd, err := unix.Socket(family(v6), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("creating a socket: %w", err)
	}
	options := []option{{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1}, {unix.IPPROTO_IP, unix.IP_RECVTTL, 1}, {unix.IPPROTO_IP, unix.IP_PKTINFO, 1}}
	if v6 {
		options = []option{{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1}, {unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1}, {unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1}}
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)      // as much as the machine allows
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) // more, with CAP_NET_ADMIN
	if err := errors.Join(set(fd, options), unix.Bind(fd, sockaddr(local, iface))); err != nil {
		return -1, errors.Join(fmt.Errorf("listening on %s: %w", local, err), unix.Close(fd))
	}
	return fd, nil
}

// dial opens the socket from which a session sends: of a source port that taken does not hold, connected to the peer, so that
// errors of the network come back to it. It returns the socket and its port.
func dial(p Peer, port uint16, iface int, taken map[uint16]bool) (int, uint16, error) {
	v6 := p.Remote.Is6()
	fd, err := unix.Socket(family(v6), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("creating a socket: %w", err)
	}
	source, err := prepare(fd, p, port, iface, taken)
	if err != nil {
		return -1, 0, errors.Join(err, unix.Close(fd))
	}
	return fd, source, nil
}

func prepare(fd int, p Peer, port uint16, iface int, taken map[uint16]bool) (uint16, error) {
	options := []option{{unix.IPPROTO_IP, unix.IP_TTL, 255}, {unix.IPPROTO_IP, unix.IP_TOS, trafficClass}}
	if p.Remote.Is6() {
		options = []option{{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1}, {unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 255},
			{unix.IPPROTO_IPV6, unix.IPV6_TCLASS, trafficClass}}
	}
	if err := set(fd, options); err != nil {
		return 0, err
	}
	if p.Interface != "" {
		if err := unix.BindToDevice(fd, p.Interface); err != nil {
			return 0, fmt.Errorf("binding to interface %s: %w", p.Interface, err)
		}
	}
	source, err := bindSource(fd, p.Local, iface, taken)
	if err != nil {
		return 0, err
	}
	if err := unix.Connect(fd, sockaddr(netip.AddrPortFrom(p.Remote, port), iface)); err != nil {
		return 0, fmt.Errorf("connecting to %s: %w", p.Remote, err)
	}
	return source, nil
}

// bindSource binds to a random free port of the RFC's range.
func bindSource(fd int, local netip.Addr, iface int, taken map[uint16]bool) (uint16, error) {
	const n = lastSource - firstSource + 1
	for i, start := 0, rand.IntN(n); i < n; i++ {
		port := uint16(firstSource + (start+i)%n)
		if taken[port] {
			continue
		}
		err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(local, port), iface))
		if err == nil {
			return port, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return 0, fmt.Errorf("binding to %s: %w", netip.AddrPortFrom(local, port), err)
		}
	}
	return 0, fmt.Errorf("binding to %s: every port from %d to %d is in use", local, firstSource, lastSource)
}

type option struct{ level, name, value int }

func set(fd int, options []option) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("setting socket option %d of level %d to %d: %w", o.name, o.level, o.value, err)
		}
	}
	return nil
}

func family(v6 bool) int {
	if v6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func sockaddr(a netip.AddrPort, iface int) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	out := &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	if a.Addr().IsLinkLocalUnicast() {
		out.ZoneId = uint32(iface)
	}
	return out
}

// interfaceIndex returns the index of the interface that the peer names, 0 if it names none.
func interfaceIndex(p Peer) (int, error) {
	if p.Interface == "" {
		return 0, nil
	}
	link, err := net.InterfaceByName(p.Interface)
	if err != nil {
		return 0, fmt.Errorf("looking up interface %s: %w", p.Interface, err)
	}
	return link.Index, nil
}
