package bed

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/announce/arp"
	"github.com/fairlead-lb/fairlead/lb"
)

// Ask asks the segment once who has addr, in the client's name but beside its kernel's neighbour table.
func (l *LAN) Ask(addr netip.Addr) {
	l.t.Helper()
	if addr.Is6() {
		l.check(solicit(l.bridge.Attrs().Index, addr))
		return
	}
	a := l.bridge.Attrs()
	c, err := packet.Listen(&net.Interface{Index: a.Index, Name: a.Name, HardwareAddr: a.HardwareAddr}, packet.Raw, unix.ETH_P_ARP, nil)
	l.check(err)
	defer c.Close()
	m := lb.MAC(a.HardwareAddr)
	ask := arp.Packet{EthDst: arp.Broadcast(), EthSrc: m, Op: arp.Request, SenderMAC: m, SenderIP: Client(), TargetIP: addr}
	_, err = c.WriteTo(ask.Append(nil), &packet.Addr{HardwareAddr: net.HardwareAddr(ask.EthDst[:])})
	l.check(err)
}

// solicit sends a neighbour solicitation for addr to its solicited-node group (RFC 4861 section 7.2.2); the kernel adds the
// checksum.
func solicit(ifindex int, addr netip.Addr) error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for option, value := range map[int]int{unix.IPV6_MULTICAST_HOPS: 255, unix.IPV6_MULTICAST_IF: ifindex} {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, option, value); err != nil {
			return err
		}
	}
	target := addr.As16()
	group := [16]byte{0xff, 2, 11: 1, 12: 0xff, 13: target[13], 14: target[14], 15: target[15]}
	message := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, target[:]...)
	link, err := net.InterfaceByIndex(ifindex)
	if err != nil {
		return err
	}
	message = append(append(message, 1, 1), link.HardwareAddr...) // source link-layer address
	return unix.Sendto(fd, message, 0, &unix.SockaddrInet6{Addr: group, ZoneId: uint32(ifindex)})
}

// Answers asks for addr and returns who answered within the time, each node once, sorted.
func (l *LAN) Answers(addr netip.Addr, within time.Duration) []int {
	l.t.Helper()
	return l.answers(within, addr)[addr]
}

// answers asks for several addresses at once.
func (l *LAN) answers(within time.Duration, addrs ...netip.Addr) map[netip.Addr][]int {
	l.t.Helper()
	c := l.Capture()
	for _, a := range addrs {
		l.Ask(a)
	}
	time.Sleep(within)
	out := map[netip.Addr][]int{}
	for _, claim := range c.Stop() {
		if claim.Asked && !slices.Contains(out[claim.Addr], claim.Node) {
			out[claim.Addr] = append(out[claim.Addr], claim.Node)
		}
	}
	for _, nodes := range out {
		slices.Sort(nodes)
	}
	return out
}

// Owners waits until every address is answered for by exactly one node and returns who that is.
func (l *LAN) Owners(limit time.Duration, addrs ...netip.Addr) map[netip.Addr]int {
	l.t.Helper()
	var out map[netip.Addr]int
	_, ok := poll(limit, 0, func() bool {
		out = map[netip.Addr]int{}
		got := l.answers(50*time.Millisecond, addrs...)
		for _, a := range addrs {
			if len(got[a]) == 1 {
				out[a] = got[a][0]
			}
		}
		return len(out) == len(addrs)
	})
	if !ok {
		l.t.Fatalf("after %s only %v have one owner", limit, out)
	}
	return out
}

// Learn makes the client's kernel resolve addr.
func (l *LAN) Learn(addr netip.Addr) {
	l.t.Helper()
	c, err := net.Dial("udp", netip.AddrPortFrom(addr, 9).String())
	l.check(err)
	defer c.Close()
	_, ok := poll(2*time.Second, 10*time.Millisecond, func() bool {
		_, _ = c.Write([]byte("x")) // nobody listens there
		return l.Neighbour(addr) != 0
	})
	if !ok {
		l.t.Fatalf("the client's kernel did not resolve %s", addr)
	}
}

// Neighbour returns the node that the client's kernel would send packets for addr to, 0 if none.
func (l *LAN) Neighbour(addr netip.Addr) int {
	l.t.Helper()
	return nodeOf(l.NeighbourMAC(addr))
}

// NeighbourMAC returns the hardware address that the client's kernel would send packets for addr to, the zero one if it has none.
func (l *LAN) NeighbourMAC(addr netip.Addr) lb.MAC {
	l.t.Helper()
	family := netlink.FAMILY_V4
	if addr.Is6() {
		family = netlink.FAMILY_V6
	}
	list, err := netlink.NeighList(l.bridge.Attrs().Index, family)
	l.check(err)
	for _, n := range list {
		if got, _ := netip.AddrFromSlice(n.IP); got.Unmap() == addr && len(n.HardwareAddr) == 6 {
			return lb.MAC(n.HardwareAddr)
		}
	}
	return lb.MAC{}
}

// Moves waits until the client's kernel sends packets for addr to another node than from; it returns to which, and how long
// that took. The client asks nothing meanwhile.
func (l *LAN) Moves(addr netip.Addr, from int, limit time.Duration) (int, time.Duration) {
	l.t.Helper()
	to := 0
	took, ok := poll(limit, time.Millisecond, func() bool {
		to = l.Neighbour(addr)
		return to != from && to != 0
	})
	if !ok {
		l.t.Fatalf("after %s the client's kernel still sends packets for %s to node %d", limit, addr, from)
	}
	return to, took
}
