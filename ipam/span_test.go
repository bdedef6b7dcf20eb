package ipam

import (
	"math"
	"net/netip"
	"testing"

	"github.com/fairlead-lb/fairlead/lb"
)

func rangeOf(from, to string) lb.Range {
	return lb.Range{From: netip.MustParseAddr(from), To: netip.MustParseAddr(to)}
}

func TestSpanSize(t *testing.T) {
	for _, c := range []struct {
		r     lb.Range
		avoid bool
		want  int64
	}{
		{rangeOf("192.0.2.7", "192.0.2.7"), false, 1},
		{rangeOf("192.0.2.0", "192.0.2.255"), false, 256},
		{rangeOf("192.0.2.0", "192.0.2.255"), true, 254},
		{rangeOf("192.0.2.1", "192.0.2.254"), true, 254},
		{rangeOf("192.0.2.255", "192.0.3.0"), true, 0},
		{rangeOf("192.0.2.250", "192.0.4.5"), true, 5 + 254 + 5},
		{rangeOf("0.0.0.0", "0.0.0.1"), true, 1},
		{rangeOf("10.0.0.0", "10.255.255.255"), true, 1<<24 - 1<<17},
		{rangeOf("2001:db8::", "2001:db8::ff"), true, 256},
		{rangeOf("2001:db8::", "2001:db8::ffff:ffff:ffff:ffff"), false, math.MaxInt64},
		{rangeOf("2001:db8::", "2001:db9::"), false, math.MaxInt64},
	} {
		if got := newSpan(c.r, lb.Pool{AvoidBuggyIPs: c.avoid}, 0).size(); got != c.want {
			t.Errorf("size of %s (avoid %v) = %d, want %d", c.r, c.avoid, got, c.want)
		}
	}
}

func TestSpanPlaces(t *testing.T) {
	for _, c := range []struct {
		r       lb.Range
		addr    string
		place   uint64
		reaches bool
	}{
		{rangeOf("192.0.2.250", "192.0.3.9"), "192.0.3.1", 7, true},
		{rangeOf("0.0.0.0", "255.255.255.255"), "255.255.255.255", math.MaxUint32, true},
		{rangeOf("2001:db8::ffff:ffff:ffff:fffe", "2001:db8:0:1::9"), "2001:db8:0:1::1", 3, true},
		{rangeOf("2001:db8::", "2001:db9::"), "2001:db8::fff:ffff:ffff:ffff", maxOffset, true},
		{rangeOf("2001:db8::", "2001:db9::"), "2001:db8::1000:0:0:0", maxOffset, false},
	} {
		s := newSpan(c.r, lb.Pool{}, 0)
		addr := netip.MustParseAddr(c.addr)
		n, ok := s.place(addr)
		if n != c.place || ok != c.reaches {
			t.Errorf("place of %s in %s = %d, %v; want %d, %v", addr, c.r, n, ok, c.place, c.reaches)
		}
		if ok && s.at(n) != addr {
			t.Errorf("%s: at(%d) = %s, want %s", c.r, n, s.at(n), addr)
		}
	}
}
