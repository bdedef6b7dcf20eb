package ipam

import (
	"net/netip"
	"slices"
)

// crowdKey names a crowd of a span: a sharing identity, within one namespace unless the pool lets several share.
type crowdKey struct {
	namespace string // "" where namespaces do not matter
	sharing   string
}

// crowd is the addresses of a span that Services of one crowdKey own, those that nobody shares yet included.
type crowd struct {
	addrs []netip.Addr          // sorted
	open  map[portID]netip.Addr // no lower address has the port free: a hint where to begin
}

// add has addr in the crowd, if it is not there yet.
func (c *crowd) add(addr netip.Addr) {
	i, there := slices.BinarySearchFunc(c.addrs, addr, netip.Addr.Compare)
	if there {
		return
	}
	c.addrs = slices.Insert(c.addrs, i, addr)
	for p, from := range c.open {
		if addr.Less(from) {
			c.open[p] = addr
		}
	}
}

func (c *crowd) remove(addr netip.Addr) {
	if i, there := slices.BinarySearchFunc(c.addrs, addr, netip.Addr.Compare); there {
		c.addrs = slices.Delete(c.addrs, i, i+1)
	}
}

// vacate notes that the port is free at addr again.
func (c *crowd) vacate(addr netip.Addr, p portID) {
	from, ok := c.open[p]
	switch {
	case !ok || !addr.Less(from):
	case addr.Compare(c.addrs[0]) <= 0:
		delete(c.open, p)
	default:
		c.open[p] = addr
	}
}

// begin returns the place in addrs of the first address at which the port is free, len(addrs) if there is none. Each
// address is passed once until the port is vacated there, so that the cost does not grow with the crowd.
func (c *crowd) begin(p portID, taken func(netip.Addr, portID) bool) int {
	first := 0
	if from, ok := c.open[p]; ok {
		first, _ = slices.BinarySearchFunc(c.addrs, from, netip.Addr.Compare)
	}
	i := first
	for i < len(c.addrs) && taken(c.addrs[i], p) {
		i++
	}
	if i > first {
		if c.open == nil {
			c.open = map[portID]netip.Addr{}
		}
		c.open[p] = c.addrs[i-1].Next()
	}
	return i
}
