package nft

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
)

// TestAnInterruptedLookIsNoLoss: while somebody else writes all the time nothing is written again that is there, and what is lost comes back
// with the first look that is not interrupted.
func TestAnInterruptedLookIsNoLoss(t *testing.T) {
	rules := func(k *fake) { k.table.chains["services4"] = nil }
	others := func(k *fake) { k.others[unix.NFPROTO_IPV4].chains[onwardChain] = nil }
	elements := func(k *fake) { clear(k.table.sets["endpoints4"]) }
	for name, tt := range map[string]struct {
		damage func(*fake)
		shown  string        // by answers about what
		every  time.Duration // between looks that show it
		busy   int           // answers about that which are interrupted
		again  bool          // there must be another look
	}{
		"rules":                  {rules, "rules", verifyEvery, 1, false},
		"rules, for long":        {rules, "rules", verifyEvery, 1000, true},
		"other tables":           {others, "rules", verifyEvery, 1, false},
		"other tables, for long": {others, "rules", verifyEvery, 1000, true},
		"elements":               {elements, "elements", readEvery, 1, false},
		"elements, for long":     {elements, "elements", readEvery, 1000, true},
	} {
		t.Run(name, func(t *testing.T) {
			k, now, left := &fake{}, t0, 0
			k.busy = func(what string) bool {
				if what != tt.shown || left == 0 {
					return false
				}
				left--
				return true
			}
			table, s := k.open(t, true), state(server("192.0.2.200:80", nil, "10.0.0.1:8080"))
			s.Onward = datapath.Onward{Known: true, IPv4: datapath.Way{First: datapath.Hop{Addr: netip.MustParseAddr("192.0.2.12"), Link: 7}}}
			look := func() {
				t.Helper()
				now = now.Add(tt.every)
				if err := table.Set(context.Background(), s, now); err != nil {
					t.Fatal(err)
				}
			}
			look()
			want := k.dump()
			k.commits++
			left = tt.busy
			before := k.commits
			if look(); k.commits != before {
				t.Errorf("%d transactions although nothing was lost", k.commits-before)
			}
			tt.damage(k)
			k.commits++
			left = tt.busy
			look()
			if again := k.dump() != want; again != tt.again {
				t.Errorf("what was lost is still lost: %v, want %v", again, tt.again)
			}
			left = 0
			look()
			if d := cmp.Diff(want, k.dump()); d != "" {
				t.Errorf("after a look that nobody interrupted (-want +got):\n%s", d)
			}
		})
	}
}

// TestALossBeforeAWriteIsFound: what somebody else did shortly before this process wrote, without having looked.
func TestALossBeforeAWriteIsFound(t *testing.T) {
	k := &fake{}
	table := k.open(t, true)
	one, two := state(server("192.0.2.200:80", nil, "10.0.0.1:8080")), state(server("192.0.2.200:80", nil, "10.0.0.1:8080", "10.0.0.2:8080"))
	fresh := &fake{}
	err := errors.Join(table.Set(context.Background(), one, t0), fresh.open(t, true).Set(context.Background(), two, t0))
	if err == nil {
		err = table.Set(context.Background(), one, t0.Add(verifyEvery))
	}
	k.table.chains["services4"] = nil
	k.commits++
	for _, after := range []time.Duration{verifyEvery * 3 / 2, verifyEvery * 2, verifyEvery * 3} {
		for tries := 0; tries == 0 || !table.trash.empty(); tries++ {
			err = errors.Join(err, table.Set(context.Background(), two, t0.Add(after)))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(fresh.dump(), k.dump()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestARefusalIsNoServicesFault: nobody is accused because of a table that others have damaged, though they interrupt every look at it.
func TestARefusalIsNoServicesFault(t *testing.T) {
	k := &fake{}
	table := k.open(t, true)
	one, two := state(server("192.0.2.200:80", nil, "10.0.0.1:8080")), state(server("192.0.2.200:80", nil, "10.0.0.2:8080"))
	if err := table.Set(context.Background(), one, t0); err != nil {
		t.Fatal(err)
	}
	clear(k.table.sets["endpoints4"])
	k.busy = func(string) bool { return true }
	if err := table.Set(context.Background(), two, t0); err != nil {
		t.Errorf("%v, want the table to be written again", err)
	}
}
