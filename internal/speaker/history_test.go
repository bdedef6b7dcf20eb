package speaker

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

var (
	histories = flag.Int("histories", 10_000, "how many random histories of a cluster of deciders to run")
	firstSeed = flag.Uint64("seed", 0, "seed of the first of them; 0 = a random one")
)

// TestRandomHistories lets clusters of deciders live through random crashes, partitions, pauses, drains, cordons and joins, some
// of them at the same time, and looks at what is left when nothing moves any more.
func TestRandomHistories(t *testing.T) {
	seed := *firstSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // a history leaves nothing but garbage
	const shards = 4
	var all sync.WaitGroup
	for shard := range shards {
		all.Go(func() {
			for i := shard; i < *histories && !t.Failed(); i += shards {
				if h := live(seed + uint64(i)); h.problem != "" {
					t.Errorf("go test ./internal/speaker -run TestRandomHistories -histories 1 -seed %d\n%s\n%s", seed+uint64(i), strings.Join(h.log, "\n"), h.problem)
				}
			}
		})
	}
	all.Wait()
}

// history is one life of a cluster.
type history struct {
	*model
	problem string
}

func live(seed uint64) *history {
	r := rand.New(rand.NewPCG(seed, 1))
	nodes, addresses := 2+r.IntN(3), 1+r.IntN(4)
	if r.IntN(8) == 0 { // the bigger ones take most of the time
		nodes, addresses = nodes+2, addresses+6
	}
	h := &history{model: newModel(r, nodes, addresses)}
	if r.IntN(4) == 0 {
		failback := time.Second
		h.l2[0].Failback = &failback
		h.l2[0].Preferred = []lb.Preference{{Weight: 10, Selector: lb.Selector{{Key: "name", Op: lb.In, Values: []string{"n1"}}}}}
	}
	spread := time.Duration(r.IntN(1500)) * millisecond
	for _, n := range h.nodes {
		h.after(time.Duration(r.Int64N(int64(spread)+1)), func() { h.start(n) })
	}
	h.settled("cold start")
	if h.l2[0].Failback == nil {
		h.bounded()
	}
	for range 1 + r.IntN(2) {
		before := h.owners()
		calm := h.calm()
		what, who := h.strike()
		h.covered = calm && h.alive() > 1 && (what == "drain" || what == "cordon")
		for range r.IntN(3) {
			h.covered = false
			calm = false
			h.run(time.Duration(r.IntN(400)) * millisecond)
			h.strike()
		}
		h.settled(what)
		h.covered = false
		if calm && h.l2[0].Failback == nil {
			h.sticky(what, who, before)
		}
	}
	return h
}

func (h *history) alive() int {
	n := 0
	for _, o := range h.nodes {
		if o.running {
			n++
		}
	}
	return n
}

// calm reports whether nothing is wrong with the cluster.
func (h *history) calm() bool {
	for _, n := range h.nodes {
		if !n.running || h.side[n.name] != 0 || h.known[n.name].Cordoned {
			return false
		}
	}
	return true
}

// strike does something to the cluster and says what, and to which node, if to one.
func (h *history) strike() (string, lb.NodeName) {
	n := h.nodes[h.r.IntN(len(h.nodes))]
	up := n.running && !n.paused && !n.draining
	switch h.r.IntN(8) {
	case 0, 1:
		if up {
			h.stop(n)
			return "crash", n.name
		}
	case 2:
		if up {
			h.drain(n)
			return "drain", n.name
		}
	case 3:
		if up {
			h.pause(n, time.Duration(20+h.r.IntN(3000))*millisecond)
			return "pause", n.name
		}
	case 4:
		sides := map[lb.NodeName]int{}
		for _, o := range h.nodes {
			sides[o.name] = h.r.IntN(2)
		}
		h.partition(sides)
		return "partition", ""
	case 5:
		h.partition(map[lb.NodeName]int{})
		return "heal", ""
	case 6:
		node := h.known[n.name]
		node.Cordoned = !node.Cordoned
		known := maps.Clone(h.known)
		known[n.name] = node
		h.known = known
		h.note("cordon %s: %t", n.name, node.Cordoned)
		for _, o := range h.nodes {
			h.news(o, h.record(), func() bool { return true })
		}
		return "cordon", n.name
	}
	for _, o := range h.nodes {
		if !o.running {
			h.start(o)
			return "start", o.name
		}
	}
	return "nothing", ""
}

// owners names who answers for each address, as far as it is one node.
func (h *history) owners() map[netip.Addr]lb.NodeName {
	out := map[netip.Addr]lb.NodeName{}
	for _, n := range h.nodes {
		for addr := range n.answers {
			out[addr] = n.name
		}
	}
	return out
}

func (h *history) fail(format string, args ...any) {
	if h.problem == "" {
		h.problem = fmt.Sprintf(format, args...)
	}
}

// settled lets everything come to rest: then on each side of a partition exactly one node answers for each address, if one lives.
func (h *history) settled(after string) {
	if !h.quiesce() {
		h.fail("after %s the cluster does not come to rest", after)
	}
	if len(h.gaps) > 0 {
		h.fail("during %s nobody answered for a moment: %s", after, h.gaps[0])
	}
	for side := range 2 {
		var living []lb.NodeName
		answering := map[netip.Addr][]lb.NodeName{}
		for _, n := range h.nodes {
			if h.side[n.name] == side && n.running {
				living = append(living, n.name)
				for addr := range n.answers {
					answering[addr] = append(answering[addr], n.name)
				}
			}
		}
		for _, addr := range h.addrs {
			if len(living) > 0 && len(answering[addr]) != 1 {
				h.fail("after %s, %v answer for %s among %v", after, answering[addr], addr, living)
			}
			for _, owner := range answering[addr] {
				better := slices.ContainsFunc(living, func(n lb.NodeName) bool { return !h.known[n].Cordoned })
				if better && h.known[owner].Cordoned {
					h.fail("after %s the cordoned %s still answers for %s among %v", after, owner, addr, living)
				}
			}
		}
	}
}

// bounded checks that nobody got more than its share and a quarter at a cold start.
func (h *history) bounded() {
	loads := map[lb.NodeName]int{}
	for _, owner := range h.owners() {
		loads[owner]++
	}
	limit := (5*len(h.addrs) + 4*len(h.nodes) - 1) / (4 * len(h.nodes))
	for node, load := range loads {
		if load > limit {
			h.fail("after the cold start of %d nodes %s owns %d of %d addresses, the limit is %d", len(h.nodes), node, load, len(h.addrs), limit)
		}
	}
}

// sticky checks that one event on one node moved no address of another one.
func (h *history) sticky(what string, who lb.NodeName, before map[netip.Addr]lb.NodeName) {
	if what == "partition" || what == "heal" {
		return
	}
	for addr, owner := range h.owners() {
		if old := before[addr]; old != owner && old != who {
			h.fail("%s of %s moved %s from %s to %s", what, who, addr, old, owner)
		}
	}
}
