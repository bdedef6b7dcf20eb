package cri

import (
	"errors"
	"net/netip"
)

var errNoAddress = errors.New("no pod address is free")

// addresses hands out host numbers: number n is the n-th address of every prefix, so a pod's two
// addresses end alike. Number 1 is the bridge's. A number that is given back is the last to be
// given out again, because peers may still talk to its old holder.
type addresses struct {
	prefixes []netip.Prefix
	size     int // numbers are 2 to size
	last     int
	used     map[int]bool
}

func newAddresses(prefixes []netip.Prefix) *addresses {
	size := 1<<16 - 2
	for _, p := range prefixes {
		if bits := p.Addr().BitLen() - p.Bits(); bits < 16 {
			size = min(size, 1<<bits-2) // the last one is the IPv4 broadcast address
		}
	}
	return &addresses{prefixes: prefixes, size: size, last: 1, used: map[int]bool{}}
}

// take returns a free number.
func (a *addresses) take() (int, error) {
	for range a.size - 1 {
		a.last++
		if a.last > a.size {
			a.last = 2
		}
		if !a.used[a.last] {
			a.used[a.last] = true
			return a.last, nil
		}
	}
	return 0, errNoAddress
}

func (a *addresses) release(n int) { delete(a.used, n) }

// of returns the addresses of number n, one per prefix and in their order.
func (a *addresses) of(n int) []netip.Addr {
	list := make([]netip.Addr, len(a.prefixes))
	for i, p := range a.prefixes {
		b := p.Masked().Addr().AsSlice()
		b[len(b)-1] += byte(n)
		b[len(b)-2] += byte(n >> 8)
		list[i], _ = netip.AddrFromSlice(b)
	}
	return list
}
