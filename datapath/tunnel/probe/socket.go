package probe

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/fairlead-lb/fairlead/datapath/tunnel"
	"github.com/fairlead-lb/fairlead/lb"
)

// The networks of raw sockets with the tunnels' protocols: IPv4 in IPv4 (RFC 2003), IPv6 in IPv6 (RFC 2473).
const (
	network4 = "ip4:4"
	network6 = "ip6:41"
)

// listen opens the raw socket of a family: it receives the probes that are delivered on this node, at whatever address, and needs
// CAP_NET_RAW. The kernel chooses the source of what is sent by the route, as it does for the datapath's tunnels.
func listen(family lb.Family) (*net.IPConn, error) {
	network := network4
	if family == lb.IPv6 {
		network = network6
	}
	c, err := net.ListenIP(network, nil)
	if err != nil {
		return nil, fmt.Errorf("opening a raw socket %s: %w", network, err)
	}
	if err := filter(c, family); err != nil {
		return nil, errors.Join(fmt.Errorf("filtering a raw socket %s: %w", network, err), c.Close())
	}
	return c, nil
}

// filter has the kernel drop what is no probe: a node may get a million tunnelled packets a second. For IPv4 the filter sees the packet
// from its outer header on, for IPv6 behind it.
func filter(c *net.IPConn, family lb.Family) error {
	match := []bpf.Instruction{bpf.LoadMemShift{Off: 0}, bpf.LoadIndirect{Off: tunnel.Header4, Size: 4}}
	if family == lb.IPv6 {
		match = []bpf.Instruction{bpf.LoadAbsolute{Off: tunnel.Header6, Size: 4}}
	}
	program, err := bpf.Assemble(append(match,
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: tunnel.Magic, SkipFalse: 1},
		bpf.RetConstant{Val: uint32(largestHeader + tunnel.MaxSize)},
		bpf.RetConstant{Val: 0}))
	if err != nil {
		return err
	}
	if family == lb.IPv6 {
		return ipv6.NewPacketConn(c).SetBPF(program)
	}
	return ipv4.NewPacketConn(c).SetBPF(program)
}

// source returns the source that the kernel gives to packets to an address; the zero Addr if it has no route.
func source(to netip.Addr) netip.Addr {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, discard))) // which sends nothing
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// discard is a UDP port that means nothing (RFC 863).
const discard = 9

// largestHeader is the length of an outer IPv4 header with all options, bytes.
const largestHeader = 60
