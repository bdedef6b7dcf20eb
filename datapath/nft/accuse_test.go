package nft

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/datapath"
)

// poisoned are listeners that a fake kernel does not take.
type poisoned map[datapath.Listener]bool

func (p poisoned) key(key string) bool {
	for l := range p {
		if strings.HasPrefix(key, listenerKey(l)) {
			return true
		}
	}
	return false
}

// without returns s without the servers that are poisoned, and how many those are.
func (p poisoned) without(s datapath.State) (rest datapath.State, n int) {
	rest = s
	rest.Servers = slices.DeleteFunc(slices.Clone(s.Servers), func(v *datapath.VirtualServer) bool { return p[v.Listener.ForEverybody()] })
	return rest, len(s.Servers) - len(rest.Servers)
}

// settled sets the state until nothing is left over, and fails unless exactly what is poisoned is rejected.
func (p poisoned) settled(t *testing.T, table *Table, s datapath.State, now time.Time) {
	t.Helper()
	for {
		err := table.Set(context.Background(), s, now)
		var r datapath.Rejected
		if other := r.Add(err); other != nil {
			t.Fatal(other)
		}
		_, want := p.without(s)
		if len(r) != want || slices.ContainsFunc(r, func(x datapath.Rejection) bool { return !p[x.Server.Listener.ForEverybody()] }) {
			t.Fatalf("rejected %v, want %v", r, p)
		}
		if table.trash.empty() {
			return
		}
	}
}

// dumped is what a fresh kernel holds of a state.
func dumped(t *testing.T, forward bool, s datapath.State) []string {
	t.Helper()
	fresh := &fake{}
	if err := fresh.open(t, forward).Set(context.Background(), s, t0); err != nil {
		t.Fatal(err)
	}
	return strings.Split(fresh.dump(), "\n")
}

// TestAServerThatIsRefusedStopsNoOther: of 100 servers some are refused, in a table that is written for the first time, taken over, or
// changed; all others are there, and the refused ones as soon as the kernel takes them and it is time to try again.
func TestAServerThatIsRefusedStopsNoOther(t *testing.T) {
	var servers []datapath.VirtualServer
	for i := range 100 {
		servers = append(servers, server(fmt.Sprintf("192.0.2.%d:80", i), nil, "10.0.0.1:80", "10.0.0.2:80"))
		if i%10 == 0 {
			inside := server(fmt.Sprintf("192.0.2.%d:80", i), func(v *datapath.VirtualServer) { v.Inside = true }, "10.0.0.3:80")
			servers = append(servers, inside)
		}
	}
	s := state(servers...)
	for _, bad := range [][]int{{0}, {57}, {99}, {10, 11}, {0, 33, 66, 99}} {
		for name, before := range map[string]*datapath.State{"first": nil, "taken over": {}, "changed": {}} {
			k, p := &fake{}, poisoned{}
			for _, i := range bad {
				p[server(fmt.Sprintf("192.0.2.%d:80", i), nil).Listener] = true
			}
			table := k.open(t, true)
			if before != nil {
				if err := table.Set(context.Background(), *before, t0); err != nil {
					t.Fatal(err)
				}
			}
			if name == "taken over" {
				table = k.open(t, true)
			}
			k.poison = p.key
			p.settled(t, table, s, t0)
			rest, _ := p.without(s)
			if d := cmp.Diff(dumped(t, true, rest), strings.Split(k.dump(), "\n")); d != "" {
				t.Errorf("%v, %s (-want +got):\n%s", bad, name, d)
			}
			asked, written := k.checks, k.commits
			p.settled(t, table, s, t0.Add(banned-time.Second))
			if k.checks != asked || k.commits != written {
				t.Errorf("%v, %s: asked again before it was time", bad, name)
			}
			k.poison = nil
			if err := table.Set(context.Background(), s, t0.Add(banned)); err != nil {
				t.Errorf("%v, %s: when the kernel takes them: %v", bad, name, err)
			}
			if d := cmp.Diff(dumped(t, true, s), strings.Split(k.dump(), "\n")); d != "" {
				t.Errorf("%v, %s, when the kernel takes them (-want +got):\n%s", bad, name, d)
			}
		}
	}
}

// TestAChangedServerIsTriedAtOnce, and one that is refused again is found without a look at all others.
func TestAChangedServerIsTriedAtOnce(t *testing.T) {
	k, p := &fake{}, poisoned{server("192.0.2.200:80", nil).Listener: true}
	table := k.open(t, true)
	k.poison = p.key
	one := state(server("192.0.2.200:80", nil, "10.0.0.1:80"), server("192.0.2.201:80", nil, "10.0.0.1:80"))
	two := state(server("192.0.2.200:80", nil, "10.0.0.2:80"), server("192.0.2.201:80", nil, "10.0.0.1:80"))
	p.settled(t, table, one, t0)
	asked := k.checks
	p.settled(t, table, two, t0)
	if n := k.checks - asked; n < 1 || n > 3 {
		t.Errorf("%d transactions were checked because of one server", n)
	}
	k.poison = nil
	if err := table.Set(context.Background(), one, t0); err != nil {
		t.Errorf("as it was before, which is another wish: %v", err)
	}
}

// TestWhatAllNeedIsNoServersFault: if the kernel takes nothing, nobody is accused, and the table stays as it is.
func TestWhatAllNeedIsNoServersFault(t *testing.T) {
	k := &fake{}
	table, s := k.open(t, true), state(server("192.0.2.200:80", nil, "10.0.0.1:80"))
	if err := table.Set(context.Background(), s, t0); err != nil {
		t.Fatal(err)
	}
	before := k.dump()
	k.poison = func(string) bool { return true }
	var r datapath.Rejected
	if err := table.Set(context.Background(), state(server("192.0.2.201:80", nil, "10.0.0.1:80")), t0); !errors.Is(err, errRefused) || errors.As(err, &r) {
		t.Errorf("error %v", err)
	}
	if d := cmp.Diff(before, k.dump()); d != "" {
		t.Errorf("table (-before +after):\n%s", d)
	}
}

// TestADamagedTableIsNobodysFault: a change of what somebody else has deleted is refused, and everything is written again.
func TestADamagedTableIsNobodysFault(t *testing.T) {
	k := &fake{}
	table := k.open(t, true)
	one, two := state(server("192.0.2.200:80", nil, "10.0.0.1:80")), state(server("192.0.2.200:80", nil, "10.0.0.2:80"))
	if err := table.Set(context.Background(), one, t0); err != nil {
		t.Fatal(err)
	}
	clear(k.table.sets["endpoints4"])
	if err := table.Set(context.Background(), two, t0); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(dumped(t, true, two), strings.Split(k.dump(), "\n")); d != "" {
		t.Errorf("table (-want +got):\n%s", d)
	}
}

// TestShuffleWithRefusals replays random states against a kernel that takes some listeners at times only.
func TestShuffleWithRefusals(t *testing.T) {
	for _, forward := range []bool{false, true} {
		seed := rand.Uint64()
		t.Logf("forward %v, seed %d", forward, seed)
		r := rand.New(rand.NewPCG(seed, 0))
		k := &fake{}
		table := k.open(t, forward)
		for round := range 60 {
			s, p := randomState(r), poisoned{}
			for _, v := range s.Servers {
				if p[v.Listener.ForEverybody()] || !v.Tunnelled && r.IntN(4) == 0 { // what it asks for is new each time, since a kernel does not look at what it has
					p[v.Listener.ForEverybody()] = true
					a := v.Addr.Addr().AsSlice()
					a[len(a)-2], a[len(a)-1] = byte(round), 0
					from, _ := netip.AddrFromSlice(a)
					v.Verdict, v.SourceRanges = datapath.Reject, []netip.Prefix{netip.PrefixFrom(from, from.BitLen()-8)}
				}
			}
			k.poison = p.key
			if r.IntN(10) == 0 {
				table = k.open(t, forward)
			}
			p.settled(t, table, s, t0.Add(time.Duration(round)*2*banned))
			rest, _ := p.without(s)
			if d := cmp.Diff(dumped(t, forward, rest), strings.Split(k.dump(), "\n")); d != "" {
				t.Fatalf("round %d (-fresh +replayed):\n%s", round, d)
			}
		}
	}
}
