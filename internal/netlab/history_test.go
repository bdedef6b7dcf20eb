package netlab

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	histories = flag.Int("histories", 30, "how many random histories of whole speakers to play")
	firstSeed = flag.Uint64("seed", 0, "seed of the first of them; 0 = a random one")
)

// How long an address may be without an answer while a node lives that could give it: fast where that node watches every other
// one and none of them is new; else gossip may have to notice a death that nobody is there to witness. Who was reunited by the end of
// a partition is not watched until the heartbeats are up again: as long as they are down, each side sends one a second (RFC 5880, 6.8.3).
const (
	fast    = time.Second
	reunion = 2 * time.Second // where the partition has changed so short a time before
	slow    = 10 * time.Second
)

// proven is how long a node must have been undisturbed to be counted on: a speaker that has just started, or whose cable was
// out, waits for the others before it takes what may be theirs, at most so long.
const proven = 15 * time.Second

// TestRandomHistories lets whole speakers live through random losses of power, crashes, restarts, drains, joins, pauses, cut cables
// and partitions, several at a time. Whenever nothing has happened for a while each side of a partition must have exactly one
// node that answers for each address; and no address may be without one for longer than the budget, [fast] or [slow], while a node
// lives that could.
func TestRandomHistories(t *testing.T) {
	seed := *firstSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seeds %d to %d", seed, seed+uint64(*histories)-1)
	percent := debug.SetGCPercent(800) // a history leaves nothing but garbage
	t.Cleanup(func() { debug.SetGCPercent(percent) })
	const shards = 2
	for shard := range shards {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			longest := map[time.Duration]time.Duration{}
			for i := shard; i < *histories && !t.Failed(); i += shards {
				synctest.Test(t, func(t *testing.T) { live(t, seed+uint64(i), longest) })
			}
			for limit, d := range longest {
				t.Logf("longest without an answer, where the limit is %s: %s", limit, d)
			}
		})
	}
}

// history is one life of a cluster.
type history struct {
	*cluster
	dice    *rand.Rand
	log     []string
	start   time.Time
	leaving map[*process]*node
	calm    map[*node]time.Time                // since when nothing has happened to it
	parted  time.Time                          // when the sides of a partition changed last
	dark    map[*node]map[netip.Addr]time.Time // since when nobody on its side answers
	longest map[time.Duration]time.Duration    // of that, by the limit, at nodes that are counted on
	problem string
}

// live plays the history with the given seed, and notes in longest for how long addresses were not answered for.
func live(t *testing.T, seed uint64, longest map[time.Duration]time.Duration) {
	h := &history{cluster: newCluster(seed), dice: rand.New(rand.NewPCG(seed, 3)), start: time.Now(), leaving: map[*process]*node{},
		calm: map[*node]time.Time{}, dark: map[*node]map[netip.Addr]time.Time{}, longest: longest}
	defer h.close()
	for i := range 3 + h.dice.IntN(3) {
		h.join(fmt.Sprintf("n%d", i+1))
		h.pass(time.Duration(h.dice.IntN(300)) * time.Millisecond)
	}
	h.setAddresses(2 + h.dice.IntN(6))
	h.settle("start")
	for range 2 + h.dice.IntN(3) {
		for range 1 + h.dice.IntN(3) {
			h.strike()
			h.pass(time.Duration(h.dice.IntN(1500)) * time.Millisecond)
		}
		h.settle("strikes")
	}
	h.mend()
	h.settle("mending")
	for p := range h.leaving {
		<-p.ended
	}
	if h.problem != "" {
		t.Errorf("go test ./internal/netlab -run TestRandomHistories -histories 1 -seed %d\n%s\n%s\n%s", seed, strings.Join(h.log, "\n"), h.problem,
			strings.Join(h.summary(), "\n"))
	}
}

func (h *history) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf("%7.3f s ", time.Since(h.start).Seconds())+fmt.Sprintf(format, args...))
}

func (h *history) fail(format string, args ...any) {
	if h.problem == "" {
		h.problem = fmt.Sprintf("%7.3f s ", time.Since(h.start).Seconds()) + fmt.Sprintf(format, args...)
	}
}

// settle waits until nothing moves any more and checks that all is well then.
func (h *history) settle(after string) {
	h.pass(16 * time.Second)
	if err := h.check(); err != nil {
		h.fail("after %s: %v", after, err)
	}
}

// pass lets time pass, and watches the addresses meanwhile.
func (h *history) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end) && h.problem == ""; time.Sleep(20 * time.Millisecond) {
		for p, n := range h.leaving {
			select {
			case <-p.ended:
				delete(h.leaving, p)
				if n.process == p {
					n.process = nil
				}
			default:
			}
		}
		h.watch(time.Now())
	}
}

// watch looks for addresses that nobody answers for.
func (h *history) watch(now time.Time) {
	answered := map[string]map[netip.Addr]bool{}
	for _, n := range h.nodes {
		side := h.sideOf(n)
		if answered[side] == nil {
			answered[side] = map[netip.Addr]bool{}
		}
		able := h.able(n)
		for _, addr := range h.addresses() {
			answered[side][addr] = answered[side][addr] || able && n.answers(addr)
		}
	}
	for _, n := range h.nodes {
		if h.dark[n] == nil || !h.able(n) || h.leaving[n.process] != nil {
			h.dark[n] = map[netip.Addr]time.Time{}
			continue
		}
		side := h.sideOf(n)
		for _, addr := range h.addresses() {
			since, dark := h.dark[n][addr]
			switch {
			case answered[side][addr]:
				delete(h.dark[n], addr)
			case !dark:
				h.dark[n][addr] = now
			case since.Sub(h.calm[n]) >= proven:
				limit, d := h.limit(since), now.Sub(since)
				h.longest[limit] = max(h.longest[limit], d)
				if d > limit {
					h.fail("nobody has answered for %s for %s, but %s could", addr, d, n.name)
				}
			}
		}
	}
}

// limit says how long an address may be without an answer that has been so since then.
func (h *history) limit(since time.Time) time.Duration {
	if len(h.nodes) > 4 { // they do not all watch each other
		return slow
	}
	for _, n := range h.nodes {
		if h.able(n) && since.Sub(h.calm[n]) < proven {
			return slow
		}
	}
	if since.Sub(h.parted) < reunion {
		return reunion
	}
	return fast
}

// able reports whether a speaker runs on the node, awake and with its cable in.
func (h *history) able(n *node) (able bool) {
	if n.process == nil {
		return false
	}
	h.lan.change(func() { able = n.host.powered && n.host.plugged && !n.host.asleep })
	return able
}

// strike does something to the cluster.
func (h *history) strike() {
	n := h.nodes[h.dice.IntN(len(h.nodes))]
	running := n.process != nil && h.leaving[n.process] == nil
	what := h.dice.IntN(10)
	switch {
	case what < 2 && running:
		h.note("kill %s", n.name)
		n.kill(true)
	case what == 2 && running:
		h.note("crash %s", n.name)
		n.kill(false)
	case what == 3 && running:
		h.note("drain %s", n.name)
		h.leaving[n.process] = n
		n.process.shutdown()
	case what == 4 && running && h.able(n):
		d := time.Duration(20+h.dice.IntN(380)) * time.Millisecond
		h.note("pause %s %s", n.name, d)
		n.pause(d)
		h.pass(d + 10*time.Millisecond)
	case what == 5 && running:
		up := h.able(n)
		h.note("plug %s: %t", n.name, !up)
		n.plug(!up)
	case what < 8:
		h.partition()
		return
	case what == 8 && len(h.nodes) < 6:
		name := fmt.Sprintf("n%d", len(h.nodes)+1)
		h.note("join %s", name)
		h.join(name)
		return
	case n.process == nil:
		h.note("start %s", n.name)
		h.begin(n)
	}
	h.calm[n] = time.Now()
}

// partition splits the switch at random, or heals it.
func (h *history) partition() {
	sides := map[string]int{}
	split := len(h.lan.side) == 0
	for _, n := range h.nodes {
		if split && h.dice.IntN(2) == 1 {
			sides[string(n.name)] = 1
		}
	}
	h.note("sides %v", sides)
	h.parted = time.Now()
	h.lan.change(func() { h.lan.side = sides })
}

func (h *history) join(name string) {
	n := h.addNode(name, nil)
	h.begin(n)
}

func (h *history) begin(n *node) {
	if err := n.start(); err != nil {
		h.fail("starting %s: %v", n.name, err)
	}
	h.calm[n] = time.Now()
}

// mend makes everything whole again.
func (h *history) mend() {
	h.note("mend")
	h.lan.change(func() { h.lan.side = map[string]int{} })
	for _, n := range h.nodes {
		switch {
		case n.process == nil:
			h.begin(n)
		case !h.able(n):
			n.plug(true)
			h.calm[n] = time.Now()
		}
	}
}
