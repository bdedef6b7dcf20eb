package bed

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/fairlead-lb/fairlead/lb"
)

// The segment is 198.18.0.0/16 and 2001:db8::/64, of the ranges for benchmarks and documentation (RFC 2544, RFC 3849). The
// management network, a bridge of its own for nodes that have a second link, is 198.19.0.0/16.
const (
	bits4     = 16
	bits6     = 64
	clientNr  = 100
	maxNumber = 80 // of nodes
)

// Host returns the IPv4 address of the station with a number: the client's is 100, node i's 10+i.
func Host(last int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, 0, byte(last)}) }

// Host6 returns the station's IPv6 address.
func Host6(last int) netip.Addr { return last6(0, last) }

// Client returns the IPv4 address of the client.
func Client() netip.Addr { return Host(clientNr) }

// NodeAddr returns the IPv4 address of node i on the segment.
func NodeAddr(i int) netip.Addr { return Host(10 + i) }

// ManagementAddr returns the address of node i on the management network.
func ManagementAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 19, 0, byte(10 + i)}) }

// VIP returns the IPv4 address under test with a number from 0 to 8,191.
func VIP(i int) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 198<<24|18<<16|uint32(0x2000+i))
	return netip.AddrFrom4(a)
}

// VIP6 returns the IPv6 address under test with a number from 0 to 65,535.
func VIP6(i int) netip.Addr { return last6(1, i) }

func last6(group, last int) netip.Addr {
	a := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	binary.BigEndian.PutUint16(a[12:], uint16(group))
	binary.BigEndian.PutUint16(a[14:], uint16(last))
	return netip.AddrFrom16(a)
}

// NodeName returns the name of node i.
func NodeName(i int) lb.NodeName { return lb.NodeName(fmt.Sprintf("node-%d", i)) }

// MAC returns the hardware address of node i's eth0.
func MAC(i int) lb.MAC { return lb.MAC{2, 0, 0, 0, 0, byte(i)} }

// nodeOf returns the number of the node with m, 0 if none has it.
func nodeOf(m lb.MAC) int {
	if i := int(m[5]); i <= maxNumber && m == MAC(i) {
		return i
	}
	return 0
}
