package speaker

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/announce"
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
		again  time.Duration
		probe  bool // before it is announced

		unreached bool // the announcer does not have it, or not yet
	}
	tests := map[string][]step{
		"a first claim": {{what: "gain", holds: true, want: 1, probe: true}, {what: "nothing new", holds: true, want: 1, probe: true}, {what: "lost"}, {what: "again", holds: true, want: 2}},
		"a claim counts once the probes have ended": {
			{what: "probing", holds: true, want: 1, probe: true, unreached: true},
			{what: "a stranger has it", at: time.Second, holds: true, want: 1, probe: true, unreached: true},
			{what: "Plan has noticed that", at: 2 * time.Second},
			{what: "and tries again", at: time.Minute, holds: true, want: 1, probe: true, unreached: true},
			{what: "gained", at: time.Minute, holds: true, want: 1, probe: true},
			{what: "the socket is lost", at: 2 * time.Minute, holds: true, want: 1, probe: true, unreached: true},
			{what: "ours before: not probed again", at: 3 * time.Minute, holds: true, want: 2},
		},
		"another speaker was faster while we probed": {
			{what: "probing", holds: true, want: 1, probe: true, unreached: true},
			{what: "it leaves, we take over", holds: true, others: rival("n2", 1), want: 2},
		},
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
			{what: "alone", holds: true, want: 1, probe: true},
			{what: "the other side has a lower epoch: tell the neighbours again", at: time.Minute, holds: true, others: rival("n2", 1), want: 2},
			{what: "once only", at: 2 * time.Minute, holds: true, others: rival("n2", 1), want: 2},
		},
		"equal epochs": {
			{what: "gain", holds: true, want: 1, probe: true},
			{what: "we win, raise", holds: true, others: rival("n2", 1), want: 2},
		},
		"outbidding is slow": {
			{what: "gain", holds: true, want: 1, probe: true},
			{what: "first", at: time.Minute, holds: true, others: rival("n2", 1), want: 2},
			{what: "it raises too", at: time.Minute + time.Millisecond, holds: true, others: rival("n2", 3), want: 2, again: 999 * time.Millisecond},
			{what: "a second later", at: time.Minute + time.Second, holds: true, others: rival("n2", 3), want: 4},
		},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			for _, s := range steps {
				var want []lb.Claim
				decisions := []announce.Decision{{VIP: x, Announce: s.holds, Owner: "n1"}}
				if s.want > 0 {
					want = append(want, lb.Claim{Addr: x, Epoch: s.want})
				}
				got, again := l.claims("n1", decisions, s.others, time.Unix(1000, 0).Add(s.at))
				if len(got) > 0 && mustProbe(got[0]) != s.probe {
					t.Errorf("%s: %v is to be probed: %t", s.what, got[0], !s.probe)
				}
				l.settle(got, func(netip.Addr) bool { return !s.unreached })
				if h := len(l.epochs()); (h == 1) != (s.holds && !s.unreached) {
					t.Errorf("%s: settled %d claims", s.what, h)
				}
				if d := cmp.Diff(want, got, cmp.Comparer(func(a, b lb.Claim) bool { return a == b })); d != "" || again != s.again {
					t.Errorf("%s: again after %s, claims (-want +got):\n%s", s.what, again, d)
				}
			}
		})
	}
}

func TestLedgerForgetsAddressesThatNobodyUses(t *testing.T) {
	l, x := newLedger(), netip.MustParseAddr("192.0.2.200")
	l.claims("n1", []announce.Decision{{VIP: x, Announce: true, Owner: "n1"}}, nil, time.Unix(0, 0))
	l.claims("n1", nil, nil, time.Unix(0, 0))
	if len(l.seen)+len(l.held) != 0 {
		t.Errorf("remembers %v, %v", l.seen, l.held)
	}
}

// TestLedgerHandsOverSlowly has n1 hold eight addresses that would all be better on n2.
func TestLedgerHandsOverSlowly(t *testing.T) {
	l, start := newLedger(), time.Unix(1000, 0)
	var decisions []announce.Decision
	for i := range 8 {
		decisions = append(decisions, announce.Decision{VIP: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), Announce: true, Owner: "n1"})
	}
	l.claims("n1", decisions, nil, start)
	handed := func(at time.Duration) (int, time.Duration) {
		t.Helper()
		for i := range decisions {
			decisions[i].HandTo = "n2"
		}
		claims, again := l.claims("n1", decisions, nil, start.Add(at))
		n := 0
		for i, c := range claims {
			if c.To == "n2" {
				n++
				decisions[i].Owner = "n2" // as the next plan says
			}
		}
		return n, again
	}
	for _, s := range []struct {
		at    time.Duration
		n     int
		again time.Duration
	}{{time.Minute, 2, time.Second}, {time.Minute + 300*time.Millisecond, 2, 700 * time.Millisecond}, {time.Minute + time.Second, 4, time.Second}, {time.Minute + 2*time.Second, 6, time.Second}} {
		if n, again := handed(s.at); n != s.n || again != s.again {
			t.Errorf("after %s %d addresses are handed over, again after %s; want %d, %s", s.at, n, again, s.n, s.again)
		}
	}
	decisions[0].Owner, decisions[0].HandTo = "n1", "" // n2 died
	if claims, _ := l.claims("n1", decisions[:1], nil, start.Add(2*time.Minute)); claims[0].To != "" || claims[0].Epoch != 1 {
		t.Errorf("claim %+v, want the address kept", claims[0])
	}
}
