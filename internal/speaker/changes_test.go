package speaker

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/lb"
)

// The newest changes are told, the newest first, however many there were.
func TestChangesAreBounded(t *testing.T) {
	var c changes
	if got := c.newest(); len(got) != 0 {
		t.Errorf("nothing has changed, and %v is told", got)
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 1000 {
		d := announce.Decision{VIP: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), Via: announce.L2}
		c.note(d, i%2 == 0, lb.Refusal{}, start.Add(time.Duration(i)*time.Second))
		got := c.newest()
		if want := min(i+1, maxChanges); len(got) != want || got[0].VIP != d.VIP || got[0].Announce != (i%2 == 0) {
			t.Fatalf("after %d changes %d are told, the first of them %+v", i+1, len(got), got[0])
		}
		if last := got[len(got)-1].At; last != start.Add(time.Duration(max(0, i+1-maxChanges))*time.Second) {
			t.Fatalf("after %d changes the last that is told is of %s", i+1, last)
		}
		if cap(c.list) > 4*maxChanges {
			t.Fatalf("%d are remembered", cap(c.list))
		}
	}
}
