package session

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/announce/bgp"
)

const (
	dialTimeout  = 5 * time.Second // SYNs are repeated after 1 s and 3 s
	networkClass = 0xc0            // CS6, for what keeps a network alive (RFC 4594 section 3.1)
	defaultPort  = 179
	singleHopTTL = 1
	multiHopTTL  = 255
	securityTTL  = 255 // RFC 5082 section 3
)

// external reports whether the peer is of another AS.
func external(p bgp.Peer) bool {
	if p.Dynamic != "" {
		return p.Dynamic == bgp.External
	}
	return p.MyASN != p.PeerASN
}

// dial opens a TCP connection to the peer with all that protects it.
func dial(ctx context.Context, p bgp.Peer) (*net.TCPConn, error) {
	port := p.Port
	if port == 0 {
		port = defaultPort
	}
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: -1, // BGP has its own
		Control: func(_, _ string, c syscall.RawConn) error {
			var failed error
			if err := c.Control(func(fd uintptr) { failed = prepare(int(fd), p) }); err != nil {
				return err
			}
			return failed
		}}
	if p.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.Source, 0))
	}
	addr, err := numbered(p.Addr)
	if err != nil {
		return nil, err
	}
	conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(addr, port).String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// numbered returns the address with its zone as a number. Package net remembers names for a minute, in which the interface may have been
// made anew.
func numbered(addr netip.Addr) (netip.Addr, error) {
	if addr.Zone() == "" {
		return addr, nil
	}
	link, err := net.InterfaceByName(addr.Zone())
	if err != nil {
		return addr, fmt.Errorf("finding interface %s: %w", addr.Zone(), err)
	}
	return addr.WithZone(strconv.Itoa(link.Index)), nil
}

// prepare sets the options of a socket that is not connected yet.
func prepare(fd int, p bgp.Peer) error {
	level, ttl, least, class := unix.IPPROTO_IP, unix.IP_TTL, unix.IP_MINTTL, unix.IP_TOS
	if p.Addr.Is6() {
		level, ttl, least, class = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_MINHOPCOUNT, unix.IPV6_TCLASS
	}
	set := func(what string, option, value int) error {
		if err := unix.SetsockoptInt(fd, level, option, value); err != nil {
			return fmt.Errorf("setting the %s to %d: %w", what, value, err)
		}
		return nil
	}
	if err := set("traffic class", class, networkClass); err != nil {
		return err
	}
	switch {
	case p.TTLSecurity > 0:
		if err := set("TTL", ttl, securityTTL); err != nil {
			return err
		}
		if err := set("least TTL", least, securityTTL+1-int(p.TTLSecurity)); err != nil {
			return err
		}
	case external(p) && !p.MultiHop:
		if err := set("TTL", ttl, singleHopTTL); err != nil {
			return err
		}
	case external(p):
		if err := set("TTL", ttl, multiHopTTL); err != nil {
			return err
		}
	}
	if p.VRF != "" {
		if err := unix.BindToDevice(fd, p.VRF); err != nil {
			return fmt.Errorf("binding to VRF device %s: %w", p.VRF, err)
		}
	}
	if p.Password == "" {
		return nil
	}
	if err := unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, md5(p.Addr, p.Password)); err != nil {
		return fmt.Errorf("setting the TCP-MD5 password: %w", err)
	}
	return nil
}

// md5 returns the kernel's form of a password for an address (RFC 2385).
func md5(addr netip.Addr, password string) *unix.TCPMD5Sig {
	var sig unix.TCPMD5Sig
	sig.Keylen = uint16(copy(sig.Key[:], password))
	if addr.Is4() {
		sig.Addr.Family = unix.AF_INET
		copy(sig.Addr.Data[2:], addr.AsSlice()) // after the port
	} else {
		sig.Addr.Family = unix.AF_INET6
		copy(sig.Addr.Data[6:], addr.AsSlice()) // after the port and the flow label
	}
	return &sig
}
