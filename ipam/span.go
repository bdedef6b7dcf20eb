package ipam

import (
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// maxOffset is the last address of a range, counted from its first, that is given out without being asked for by name:
// 2^60 addresses of a range are enough.
const maxOffset = 1<<60 - 1

// span is one range of a pool. Its set holds the offsets of addresses that are owned, that rest, or that are avoided.
type span struct {
	lb.Range
	taken   set
	avoid   bool // addresses that end in .0 or .255
	across  bool // Services of several namespaces may share
	crowds  map[crowdKey]*crowd
	restFor time.Duration
	resting []rest // in the order in which they were freed
}

func newSpan(r lb.Range, p lb.Pool, restFor time.Duration) *span {
	return &span{
		Range: r, taken: newSet(offset(r.From, r.To)), avoid: p.AvoidBuggyIPs && r.From.Is4(),
		across: p.ShareAcross, crowds: map[crowdKey]*crowd{}, restFor: restFor,
	}
}

// crowdOf returns the crowd in which the Service shares addresses of the span by the identity.
func (s *span) crowdOf(key lb.ServiceKey, sharing string) crowdKey {
	if s.across {
		return crowdKey{"", sharing}
	}
	return crowdKey{key.Namespace, sharing}
}

// offset returns to-from, at most maxOffset+1. Both must be of one family, from not above to.
func offset(from, to netip.Addr) uint64 {
	a, b := from.As16(), to.As16()
	low, borrow := bits.Sub64(binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(a[8:]), 0)
	high, _ := bits.Sub64(binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(a[:8]), borrow)
	if high > 0 || low > maxOffset {
		return maxOffset
	}
	return low
}

// at returns the address n places after the span's first.
func (s *span) at(n uint64) netip.Addr {
	a := s.From.As16()
	low, carry := bits.Add64(binary.BigEndian.Uint64(a[8:]), n, 0)
	binary.BigEndian.PutUint64(a[8:], low)
	binary.BigEndian.PutUint64(a[:8], binary.BigEndian.Uint64(a[:8])+carry)
	if s.From.Is4() {
		return netip.AddrFrom16(a).Unmap()
	}
	return netip.AddrFrom16(a)
}

// take marks addr, which must be in the span, as not to be given out; giveBack undoes it. Addresses beyond maxOffset are
// never given out anyway.
func (s *span) take(addr netip.Addr) {
	if n, ok := s.place(addr); ok {
		s.taken.add(n)
	}
}

func (s *span) giveBack(addr netip.Addr) {
	if n, ok := s.place(addr); ok && !s.avoids(addr) {
		s.taken.remove(n)
	}
}

func (s *span) place(addr netip.Addr) (uint64, bool) {
	n := offset(s.From, addr)
	return n, n < maxOffset || s.at(n) == addr
}

// lowest returns the lowest address that is neither owned nor resting. Avoided addresses are marked as they are met, so
// each costs one step once.
func (s *span) lowest() (netip.Addr, bool) {
	for {
		n, ok := s.taken.lowest()
		if !ok {
			return netip.Addr{}, false
		}
		addr := s.at(n)
		if !s.avoids(addr) {
			return addr, true
		}
		s.taken.add(n)
	}
}

func (s *span) avoids(addr netip.Addr) bool { return s.avoid && buggy(addr) }

// buggy reports whether some equipment takes addr for a network or broadcast address.
func buggy(addr netip.Addr) bool {
	if !addr.Is4() {
		return false
	}
	last := addr.As4()[3]
	return last == 0 || last == 255
}

// size returns how many addresses of the span can be given out, at most the highest int64.
func (s *span) size() int64 {
	a, b := s.From.As16(), s.To.As16()
	low, borrow := bits.Sub64(binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(a[8:]), 0)
	high, _ := bits.Sub64(binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(a[:8]), borrow)
	if high > 0 || low >= math.MaxInt64 {
		return math.MaxInt64
	}
	if !s.avoid {
		return int64(low) + 1
	}
	from, to := int64(binary.BigEndian.Uint32(a[12:])), int64(binary.BigEndian.Uint32(b[12:]))
	// Numbers up to x that end in .0: x/256+1; in .255: (x+1)/256.
	upTo := func(x int64) int64 { return (x+256)/256 + (x+1)/256 }
	return to - from + 1 - (upTo(to) - upTo(from-1))
}
