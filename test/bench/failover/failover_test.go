package main

import (
	"bytes"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/test/bed"
)

// at returns a claim of a node to the first address, ms after the epoch.
func at(ms, node int, asked bool) bed.Claim {
	return bed.Claim{At: time.UnixMilli(int64(ms)), Node: node, Addr: bed.VIP(0), Asked: asked}
}

func TestStale(t *testing.T) {
	woke := time.UnixMilli(100)
	for _, tc := range []struct {
		name   string
		claims []bed.Claim
		want   []int // the times of the stale ones
	}{
		{"nobody took over", []bed.Claim{at(10, 1, true), at(101, 1, true), at(120, 1, false)}, nil},
		{"silent after the takeover", []bed.Claim{at(50, 2, false), at(110, 2, true)}, nil},
		{"answers while the heir does", []bed.Claim{at(50, 2, false), at(101, 1, true), at(102, 1, true), at(110, 2, true)}, []int{101, 102}},
		{"answers before it has won back", []bed.Claim{at(50, 2, false), at(101, 1, true), at(103, 1, false), at(110, 1, true)}, []int{101}},
		{"wins back properly", []bed.Claim{at(50, 2, false), at(101, 2, true), at(103, 1, false), at(110, 1, true)}, nil},
		{"claims back in vain", []bed.Claim{at(50, 2, false), at(103, 1, false), at(104, 2, false)}, []int{103}},
		{"answered before it slept", []bed.Claim{at(10, 1, true), at(50, 2, false)}, nil},
		{"somebody takes over only later", []bed.Claim{at(101, 1, true), at(150, 2, false)}, nil},
	} {
		var got []int
		for _, c := range stale(tc.claims, bed.VIP(0), 1, woke) {
			got = append(got, int(c.At.UnixMilli()))
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
	if got := stale([]bed.Claim{at(50, 2, false), at(101, 1, true)}, bed.VIP(1), 1, woke); got != nil {
		t.Errorf("another address: %v", got)
	}
}

func TestChangesAndTakeovers(t *testing.T) {
	claims := []bed.Claim{at(10, 1, true), at(20, 2, false), at(21, 2, false), at(30, 1, true), at(40, 1, false)}
	if got := changes(claims, map[netip.Addr]int{bed.VIP(0): 1}); got != 2 {
		t.Errorf("%d changes, want 2", got)
	}
	if got := changes(claims, map[netip.Addr]int{bed.VIP(0): 3}); got != 3 {
		t.Errorf("%d changes from another first owner, want 3", got)
	}
	if got := changes(claims, map[netip.Addr]int{bed.VIP(1): 1}); got != 0 {
		t.Errorf("%d changes of another address, want 0", got)
	}
	if got := takenOver(claims, 1, time.UnixMilli(15)); !got[bed.VIP(0)].Equal(time.UnixMilli(20)) || len(got) != 1 {
		t.Errorf("taken over %v", got)
	}
	if got := lastOfOthers(claims, bed.VIP(0), 1, time.UnixMilli(5)); !got.Equal(time.UnixMilli(21)) {
		t.Errorf("others claimed last at %s", got)
	}
	if got := lastOfOthers(claims, bed.VIP(0), 1, time.UnixMilli(25)); !got.Equal(time.UnixMilli(25)) {
		t.Errorf("others claimed after the start, at %s", got)
	}
	if got := busiest(claims, 15*time.Millisecond); got != 2 {
		t.Errorf("%d gratuitous claims within 15 ms, want 2", got)
	}
	if got := busiest(claims, time.Second); got != 3 {
		t.Errorf("%d gratuitous claims within a second, want 3", got)
	}
}

func TestVictim(t *testing.T) {
	both := map[netip.Addr]int{bed.VIP(0): 1, bed.VIP(1): 2, bed.VIP6(0): 2, bed.VIP6(1): 3}
	for trial := range 3 {
		if node, addrs := victim(both, trial); node != 2 || !slices.Equal(addrs, []netip.Addr{bed.VIP(1), bed.VIP6(0)}) {
			t.Errorf("trial %d: node %d with %v", trial, node, addrs)
		}
	}
	four := map[netip.Addr]int{bed.VIP(0): 1, bed.VIP(1): 3, bed.VIP(2): 3}
	var nodes []int
	for trial := range 3 {
		node, addrs := victim(four, trial)
		nodes = append(nodes, node)
		if len(addrs) != 1 || four[addrs[0]] != node {
			t.Errorf("trial %d: node %d with %v", trial, node, addrs)
		}
	}
	if !slices.Equal(nodes, []int{1, 3, 1}) {
		t.Errorf("nodes %v, want them in turn", nodes)
	}
}

func TestGaps(t *testing.T) {
	for _, tc := range []struct {
		name          string
		successes     []int // ms; the event is at 100, the end at 1000
		before, after float64
	}{
		{"regular", []int{90, 95, 100, 105, 110}, 0, 0},
		{"outage", []int{80, 95, 120, 200, 205}, 10, 75},
		{"over the event", []int{90, 95, 400, 405}, 0, 300},
		{"for good", []int{90, 95}, 0, 895},
		{"from the start", nil, 0, 895},
	} {
		s := series{event: time.UnixMilli(100), end: time.UnixMilli(1000)}
		for _, ms := range tc.successes {
			s.successes = append(s.successes, time.UnixMilli(int64(ms)))
		}
		if before, after := s.gaps(); before != tc.before || after != tc.after {
			t.Errorf("%s: %g and %g ms, want %g and %g", tc.name, before, after, tc.before, tc.after)
		}
	}
}

func TestBusiestOwner(t *testing.T) {
	owners := map[netip.Addr]int{bed.VIP(0): 2, bed.VIP(1): 3, bed.VIP(2): 3}
	node, addrs := busiestOwner(owners)
	slices.SortFunc(addrs, netip.Addr.Compare)
	if node != 3 || !slices.Equal(addrs, []netip.Addr{bed.VIP(1), bed.VIP(2)}) {
		t.Errorf("node %d with %v", node, addrs)
	}
}

func TestLastWrong(t *testing.T) {
	sights := []sight{{time.UnixMilli(1), 1}, {time.UnixMilli(2), 2}, {time.UnixMilli(3), 1}}
	if got := lastWrong(sights, 1); !got.Equal(time.UnixMilli(2)) {
		t.Errorf("got %s", got)
	}
	if got := lastWrong(sights[:1], 1); !got.IsZero() {
		t.Errorf("never wrong, got %s", got)
	}
}

func TestResults(t *testing.T) {
	var r results
	for i := range 100 {
		r.add("power.a.outage", "ms", float64(100-i))
	}
	r.add("many.rate", "per-s", 7)
	row := r.find("power.a.outage")
	for q, want := range map[float64]float64{0: 1, 0.5: 50, 0.9: 90, 0.99: 99, 1: 100} {
		if got := row.quantile(q); math.Abs(got-want) > 0.001 {
			t.Errorf("quantile %g is %g, want %g", q, got, want)
		}
	}
	var out bytes.Buffer
	r.lines(&out)
	want := "failover.power.a.outage.p50 50 ms\nfailover.power.a.outage.p99 99 ms\nfailover.power.a.outage.n 100 trials\nfailover.many.rate 7 per-s\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestParse(t *testing.T) {
	c, err := parse([]string{"-only", "power,loss", "-trials", "3"})
	if err != nil || !c.runs("loss") || c.runs("many") || c.trials != 3 {
		t.Errorf("got %+v, %v", c, err)
	}
	for _, args := range [][]string{{"-only", "power,x"}, {"-trials", "0"}, {"-addresses", "9000"}, {"-format", "json"}, {"-soak", "0s"}, {"-trials", "many"}} {
		if c, err := parse(args); err == nil {
			t.Errorf("%q is accepted: %+v", args, c)
		}
	}
}
