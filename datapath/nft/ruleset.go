package nft

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// ruleset is the content of the table, or of a part of it, as data.
type ruleset struct {
	chains   map[string]chain
	sets     map[string]set
	elements map[place]string // -> value: the chain that a verdict map leads to, the value of another map, "" in a set
	uses     map[use]int      // how many servers need something that several may need
}

// chain is a base chain if it has a kind. Two of the same name have the same rules.
type chain struct {
	kind     string // filter or nat
	hook     uint32
	priority int32
	rules    []rule
}

// rule is what happens to a packet, in the kernel's own terms: expressions that work on registers, each of which may end the rule. An
// expression is an expr.Any or a tuple.
type rule []any

// tuple loads a part of what conntrack knows of the connection. Package expr has it too, but not for directions other than the first.
type tuple struct {
	key       uint32 // NFT_CT_…
	direction byte   // 0 the client's packets, 1 the replies
	register  uint32
}

// field is a part of a key or value: its type as nft prints it, and its length.
type field struct {
	magic uint32
	bytes int
}

// The types of fields, as numbered in nft's datatype.h.
var (
	typeIPv4    = field{7, 4}
	typeIPv6    = field{8, 16}
	typeProto   = field{12, 1}
	typeService = field{13, 2}
	typeMark    = field{19, 4} // any number of 32 bits in the machine's order
)

// fields is a concatenation; each starts at a multiple of four bytes.
type fields []field

func (f fields) magic() (m uint32) {
	for _, x := range f {
		m = m<<6 | x.magic
	}
	return m
}

func (f fields) size() (n uint32) {
	if len(f) == 1 {
		return uint32(f[0].bytes)
	}
	for _, x := range f {
		n += uint32(x.bytes+3) &^ 3
	}
	return n
}

// set is an nftables set, a map if it has a value, a verdict map.
type set struct {
	key      fields
	value    fields
	verdicts bool
	interval bool // the elements are ranges: one where a range starts, one behind its end
	memory   bool // clients who have affinity, filled by packets, each entry with its timeout
	counted  bool // every element counts the packets that found it
}

func (s set) flags() (f uint32) {
	if len(s.key) > 1 {
		f |= setFlagConcat
	}
	if s.value != nil || s.verdicts {
		f |= unix.NFT_SET_MAP
	}
	if s.interval {
		f |= unix.NFT_SET_INTERVAL
	}
	if s.memory {
		f |= unix.NFT_SET_TIMEOUT | unix.NFT_SET_EVAL
	}
	return f
}

// How many clients the memory of a family can hold (some 100 bytes each; who finds no room has no affinity), and the timeout of entries
// that say none.
const (
	memoryEntries = 1 << 20
	memoryTimeout = time.Hour
)

// place is where an element is: the name of its set and its key in the kernel's encoding.
type place struct {
	set, key string
	end      bool // the first address behind a range
}

func (p place) compare(o place) int {
	switch d := cmp.Or(cmp.Compare(p.set, o.set), cmp.Compare(p.key, o.key)); {
	case d != 0 || p.end == o.end:
		return d
	case p.end:
		return -1
	default:
		return 1
	}
}

type element struct {
	place
	value string
}

// use names something that more than one server may need: a chain, a set or an element.
type use struct {
	kind byte // c, s or e
	place
}

func newRuleset() ruleset {
	return ruleset{map[string]chain{}, map[string]set{}, map[place]string{}, map[use]int{}}
}

// rule appends a rule to a chain and creates the chain if need be.
func (r ruleset) rule(name string, parts ...rule) {
	c := r.chains[name]
	c.rules = append(c.rules, slices.Concat(parts...))
	r.chains[name] = c
}

func (r ruleset) element(set, key, value string) { r.elements[place{set: set, key: key}] = value }

// shared is element for one that several servers may write, all the same.
func (r ruleset) shared(set, key, value string) {
	r.element(set, key, value)
	r.uses[use{'e', place{set: set, key: key}}]++
}

// share returns whether the chain still has to be written; a server calls it once for every chain that it needs.
func (r ruleset) share(name string) (missing bool) {
	r.uses[use{'c', place{set: name}}]++
	_, has := r.chains[name]
	return !has
}

// garbage are objects that exist in the kernel but that nothing in force refers to. They are emptied and deleted in a transaction of
// their own, after the one that dropped the references, for two reasons: a packet that is just on its way through the old rules
// must not find the next chain empty, and kernels before 6.2 go on counting the references of deleted map elements until some time
// after the commit.
//
// What is intact comes back to life, when somebody needs it again, without being written: the same name stands for the same content.
type garbage struct {
	chains map[string]bool // -> intact
	sets   map[string]bool
}

func newGarbage() garbage { return garbage{chains: map[string]bool{}, sets: map[string]bool{}} }

func (g garbage) empty() bool { return len(g.chains)+len(g.sets) == 0 }

// change is what leads from one ruleset to another; all of it is one transaction. Names and places are sorted.
type change struct {
	newTable, wipe bool // wipe: whatever the table holds goes first
	flushChains    []string
	flushSets      []string
	addSets        []string
	addChains      []string
	delElements    []element
	addElements    []element
	content        ruleset // defines what is added
	trash          garbage // becomes unused by it
}

func (c change) empty() bool {
	return !c.newTable && len(c.flushChains)+len(c.flushSets)+len(c.addSets)+len(c.addChains)+len(c.delElements)+len(c.addElements) == 0
}

// diff returns the change from old to new, both parts of a table in which, before it, used tells how many servers need what, and trash
// what is left over.
func diff(used map[use]int, trash garbage, old, new ruleset) change {
	c := change{content: new, trash: newGarbage()}
	after := func(u use) int { return used[u] - old.uses[u] + new.uses[u] }
	for name := range new.chains {
		if used[use{'c', place{set: name}}] == 0 && !trash.chains[name] {
			c.addChains = append(c.addChains, name)
		}
	}
	for name := range new.sets {
		if used[use{'s', place{set: name}}] == 0 && !trash.sets[name] {
			c.addSets = append(c.addSets, name)
		}
	}
	for name := range old.chains {
		if after(use{'c', place{set: name}}) == 0 {
			c.trash.chains[name] = true
		}
	}
	for name := range old.sets {
		if after(use{'s', place{set: name}}) == 0 {
			c.trash.sets[name] = true
		}
	}
	c.elements(used, old, new)
	slices.Sort(c.addChains)
	slices.Sort(c.addSets)
	return c
}

// elements finds those that come, go or get another value. A set that is part of what is compared comes and goes as a whole.
func (c *change) elements(used map[use]int, old, new ruleset) {
	for p, v := range old.elements {
		_, whole := old.sets[p.set]
		now, stays := new.elements[p]
		u := use{'e', p}
		if !whole && !(stays && now == v) && used[u]-old.uses[u]+new.uses[u] <= 0 {
			c.delElements = append(c.delElements, element{p, v})
		}
	}
	adds := map[string]bool{}
	for _, name := range c.addSets {
		adds[name] = true
	}
	for p, v := range new.elements {
		_, whole := new.sets[p.set]
		before, was := old.elements[p]
		if adds[p.set] || !whole && !(was && before == v) && used[use{'e', p}] == 0 {
			c.addElements = append(c.addElements, element{p, v})
		}
	}
	order := func(a, b element) int { return a.compare(b.place) }
	slices.SortFunc(c.delElements, order)
	slices.SortFunc(c.addElements, order)
}

// encode returns the change as a transaction.
func (c change) encode(frame map[string]set) ([]byte, error) {
	b := newBatch()
	c.write(b, frame)
	return b.finish(), b.err
}

// write appends the change to a transaction. The order is such that nothing refers to what is not there yet.
func (c change) write(b *batch, frame map[string]set) {
	if c.newTable || c.wipe {
		b.addTable()
	}
	if c.wipe {
		b.deleteTable()
		b.addTable()
	}
	for _, name := range c.flushChains {
		b.flushChain(name)
	}
	for _, name := range c.flushSets {
		b.flushSet(name)
	}
	for _, name := range c.addSets {
		b.addSet(name, c.content.sets[name])
	}
	for _, name := range c.addChains {
		b.addChain(name, c.content.chains[name])
	}
	eachSet(c.delElements, b.deleteElements)
	for _, name := range c.addChains {
		for _, r := range c.content.chains[name].rules {
			b.addRule(name, r)
		}
	}
	eachSet(c.addElements, func(name string, list []element) {
		s, ok := c.content.sets[name]
		if !ok {
			s = frame[name]
		}
		b.addElements(name, s, list)
	})
}

// eachSet calls f with the elements of each set; the list is sorted.
func eachSet(list []element, f func(set string, list []element)) {
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].set == list[0].set {
			n++
		}
		f(list[0].set, list[:n])
		list = list[n:]
	}
}

// sweep is the transaction that deletes garbage.
func (g garbage) sweep() []byte {
	b := newBatch()
	for _, name := range slices.Sorted(maps.Keys(g.chains)) {
		b.flushChain(name)
	}
	for _, name := range slices.Sorted(maps.Keys(g.chains)) {
		b.deleteChain(name)
	}
	for _, name := range slices.Sorted(maps.Keys(g.sets)) {
		b.deleteSet(name)
	}
	return b.finish()
}
