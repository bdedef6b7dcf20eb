package speaker

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/lb"
)

func TestLedger(t *testing.T) {
	x := netip.MustParseAddr("192.0.2.200")
	rival := func(node lb.NodeName, epoch uint64) []lb.Member {
		return []lb.Member{{Node: node, Claims: []lb.Claim{{Addr: x, Epoch: epoch}}}}
	}
	type step struct {
		what   string
		at     time.Duration
		holds  bool
		others []lb.Member
		want   uint64 // 0 = no claim
		later  bool
	}
	tests := map[string][]step{
		"a first claim": {{what: "gain", holds: true, want: 1}, {what: "nothing new", holds: true, want: 1}, {what: "lost"}, {what: "again", holds: true, want: 2}},
		"taking over": {
			{what: "another holds it", others: rival("n2", 5)},
			{what: "it dies", holds: true, want: 6},
		},
		"handed over": {
			{what: "the old owner still claims", holds: true, others: rival("n2", 5), want: 6},
			{what: "and still", at: time.Minute, holds: true, others: rival("n2", 5), want: 6},
			{what: "gone", holds: true, want: 6},
		},
		"a partition heals": {
			{what: "alone", holds: true, want: 1},
			{what: "the other side has a lower epoch: tell the neighbours again", at: time.Minute, holds: true, others: rival("n2", 1), want: 2},
			{what: "once only", at: 2 * time.Minute, holds: true, others: rival("n2", 1), want: 2},
		},
		"equal epochs": {
			{what: "gain", holds: true, want: 1},
			{what: "we win, raise", holds: true, others: rival("n2", 1), want: 2},
		},
		"outbidding is slow": {
			{what: "gain", holds: true, want: 1},
			{what: "first", at: time.Minute, holds: true, others: rival("n2", 1), want: 2},
			{what: "it raises too", at: time.Minute + time.Millisecond, holds: true, others: rival("n2", 3), want: 2, later: true},
			{what: "a second later", at: time.Minute + time.Second, holds: true, others: rival("n2", 3), want: 4},
		},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			for _, s := range steps {
				var announced []netip.Addr
				var want []lb.Claim
				if s.holds {
					announced = append(announced, x)
				}
				if s.want > 0 {
					want = append(want, lb.Claim{Addr: x, Epoch: s.want})
				}
				got, later := l.claims(announced, []netip.Addr{x}, s.others, time.Unix(1000, 0).Add(s.at))
				if d := cmp.Diff(want, got, cmp.Comparer(func(a, b lb.Claim) bool { return a == b })); d != "" || later != s.later {
					t.Errorf("%s: later = %t, claims (-want +got):\n%s", s.what, later, d)
				}
			}
		})
	}
}

func TestLedgerForgetsAddressesThatNobodyUses(t *testing.T) {
	l, x := newLedger(), netip.MustParseAddr("192.0.2.200")
	l.claims([]netip.Addr{x}, []netip.Addr{x}, nil, time.Unix(0, 0))
	l.claims(nil, nil, nil, time.Unix(0, 0))
	if len(l.seen)+len(l.held) != 0 {
		t.Errorf("remembers %v, %v", l.seen, l.held)
	}
}
