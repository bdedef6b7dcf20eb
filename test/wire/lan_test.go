//go:build wire

package wire

import (
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/test/bed"
)

// vips is how many addresses of each family are under test.
const vips = 6

// addresses returns those under test.
func addresses() (out []netip.Addr) {
	for i := range vips {
		out = append(out, bed.VIP(i), bed.VIP6(i))
	}
	return out
}

// group returns how nodes 1 to n are plugged in.
func group(n int) []bed.NodeOptions {
	out := make([]bed.NodeOptions, n)
	peers := make([]int, n)
	for i := range out {
		peers[i] = i + 1
		out[i] = bed.NodeOptions{Number: i + 1, Peers: peers, VIPs: vips, IPv6: true, Heartbeat: 50 * time.Millisecond}
	}
	return out
}

// lan is the segment with a group of speakers.
type lan struct {
	*bed.LAN
	t     *testing.T
	group []bed.NodeOptions
}

// startAll starts the speakers and returns who owns what once they agree: what they say of themselves is what the wire says.
func startAll(t *testing.T, group []bed.NodeOptions) (lan, map[netip.Addr]int) {
	t.Helper()
	l := lan{bed.New(t), t, group}
	for _, o := range group {
		l.Start(o)
	}
	owners := l.settled()
	for addr, i := range l.owners() {
		if i != owners[addr] {
			t.Errorf("%s: node %d answers, the speakers say that node %d has it", addr, i, owners[addr])
		}
	}
	t.Logf("owners: %v", owners)
	return l, owners
}

// settled waits until the speakers agree, all but the absent ones, and returns who owns what.
func (l lan) settled(absent ...int) map[netip.Addr]int {
	l.t.Helper()
	return l.Settled(15*time.Second, others(l.group, absent...)...)
}

// others returns the numbers of a group's nodes, without some.
func others(group []bed.NodeOptions, without ...int) (out []int) {
	for _, o := range group {
		if !slices.Contains(without, o.Number) {
			out = append(out, o.Number)
		}
	}
	return out
}

// owners waits until every address is answered for by exactly one node and returns who that is.
func (l lan) owners() map[netip.Addr]int {
	l.t.Helper()
	return l.Owners(10*time.Second, addresses()...)
}

// onlyAnswers reports whether node i answers for addr and no other one does, and who does.
func (l lan) onlyAnswers(i int, addr netip.Addr, within time.Duration) ([]int, bool) {
	l.t.Helper()
	got := l.Answers(addr, within)
	return got, len(got) == 1 && got[0] == i
}

// pair returns an address of each family that the same node owns, and that node.
func (l lan) pair(owners map[netip.Addr]int) (addrs []netip.Addr, owner int) {
	l.t.Helper()
	for i := range vips {
		for j := range vips {
			if owner := owners[bed.VIP(i)]; owner == owners[bed.VIP6(j)] {
				return []netip.Addr{bed.VIP(i), bed.VIP6(j)}, owner
			}
		}
	}
	l.t.Fatalf("no node owns an address of each family: %v", owners)
	return nil, 0
}

// learn makes the client's kernel resolve addresses.
func (l lan) learn(addrs ...netip.Addr) {
	l.t.Helper()
	for _, a := range addrs {
		l.Learn(a)
	}
}

// moved waits until the client's kernel sends packets for the addresses to others than from, at most for the limit after start,
// and returns to whom. The client asks nothing meanwhile.
func (l lan) moved(addrs []netip.Addr, from int, start time.Time, limit time.Duration) map[netip.Addr]int {
	l.t.Helper()
	heirs := map[netip.Addr]int{}
	for _, a := range addrs {
		heirs[a], _ = l.Moves(a, from, limit-time.Since(start))
		l.t.Logf("the client's kernel sent packets for %s to node %d instead of %d after %s", a, heirs[a], from, time.Since(start).Round(time.Millisecond))
	}
	return heirs
}

// ask asks for the addresses every 10 ms.
func (l lan) ask(length time.Duration, addrs ...netip.Addr) {
	l.t.Helper()
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for _, a := range addrs {
			l.Ask(a)
		}
	}
}

// ip runs ip(8) in node i, or beside the client if i is 0, once for each line of arguments.
func (l lan) ip(i int, lines ...string) {
	l.t.Helper()
	for _, line := range lines {
		l.command(i, append([]string{"ip"}, strings.Fields(line)...)...)
	}
}

// command runs a command in node i, or beside the client if i is 0.
func (l lan) command(i int, args ...string) {
	l.t.Helper()
	run := func() error {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("running %v: %w: %s", args, err, out)
		}
		return nil
	}
	if i == 0 {
		check(l.t, run())
	} else {
		l.Inside(i, run)
	}
}

// eventually waits until ok, and says how long that took.
func eventually(t *testing.T, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if ok() {
			t.Logf("%s after %s", what, time.Since(start).Round(time.Millisecond))
			return
		}
		if time.Since(start) > limit {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
