//go:build wire

package wire

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/fairlead-lb/fairlead/announce/ndp"
	"github.com/fairlead-lb/fairlead/lb"
	"github.com/fairlead-lb/fairlead/test/bed"
)

// TestFiveThousandGroups: the kernel bounds the memberships of one socket, not those of a link.
func TestFiveThousandGroups(t *testing.T) {
	bed.New(t)
	bridge, err := netlink.LinkByName(bed.Segment)
	check(t, err)
	a := bridge.Attrs()
	w, err := ndp.NewCodec().Listen(lb.Link{Name: a.Name, Index: a.Index, MAC: lb.MAC(a.HardwareAddr), Up: true})
	check(t, err)
	defer w.Close()
	addr := func(i int) netip.Addr {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 13: 1, 14: byte(i >> 8), 15: byte(i)})
	}
	start := time.Now()
	for i := range 5000 {
		check(t, w.Join(addr(i)))
	}
	t.Logf("joined 5000 groups in %s", time.Since(start).Round(time.Millisecond))
	start = time.Now()
	for i := range 5000 {
		check(t, w.Leave(addr(i)))
	}
	t.Logf("left them in %s", time.Since(start).Round(time.Millisecond))
}
