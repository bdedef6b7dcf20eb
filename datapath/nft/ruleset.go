package nft

import (
	"maps"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/knftables"
)

// ruleset is the content of the table as data.
type ruleset struct {
	chains map[string]chain
	sets   map[string]set
}

// chain is a base chain if it has a hook.
type chain struct {
	hook     knftables.BaseChainHook
	kind     knftables.BaseChainType
	priority knftables.BaseChainPriority
	rules    []string
}

// set is an nftables set, or a verdict map if its elements have values.
type set struct {
	kind     string            // nft type of the key, or expression if memory
	verdicts bool              // a map from key to verdict
	memory   bool              // filled by packets, each entry with its timeout
	elements map[string]string // "a . b . c" -> verdict or ""
}

// How many clients all sets of memory together can hold per family (some 100 bytes each; who finds no room has no affinity), and the
// timeout of entries that say none.
const (
	memoryEntries = 1 << 20
	memoryTimeout = time.Hour
)

func newRuleset() ruleset {
	return ruleset{chains: map[string]chain{}, sets: map[string]set{}}
}

// rule appends a rule to a chain and creates the chain if need be.
func (r ruleset) rule(name string, words ...string) {
	c := r.chains[name]
	c.rules = append(c.rules, strings.Join(words, " "))
	r.chains[name] = c
}

// garbage are objects that exist in the kernel but that nothing in force refers to. They are emptied and deleted in a transaction of
// their own, after the one that dropped the references, for two reasons: a packet that is just on its way through the old rules
// must not find the next chain empty, and kernels before 6.2 go on counting the references of deleted map elements until some time
// after the commit.
type garbage struct {
	chains map[string]bool
	sets   map[string]bool // true = a map
}

func newGarbage() garbage { return garbage{chains: map[string]bool{}, sets: map[string]bool{}} }

func (g garbage) empty() bool { return len(g.chains)+len(g.sets) == 0 }

// diff adds to tx what leads from old to new. Object definitions never differ under the same name.
func diff(tx *knftables.Transaction, old, new ruleset) garbage {
	for _, name := range slices.Sorted(maps.Keys(new.sets)) {
		if _, ok := old.sets[name]; !ok {
			addSet(tx, name, new.sets[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(new.chains)) {
		if _, ok := old.chains[name]; !ok {
			addChain(tx, name, new.chains[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(new.sets)) {
		deleteElements(tx, name, old.sets[name], new.sets[name])
	}
	trash := newGarbage()
	for name := range old.chains {
		if _, ok := new.chains[name]; !ok {
			trash.chains[name] = true
		}
	}
	for name, s := range old.sets {
		if _, ok := new.sets[name]; !ok {
			trash.sets[name] = s.verdicts
		}
	}
	for _, name := range slices.Sorted(maps.Keys(new.chains)) {
		writeRules(tx, name, old.chains[name].rules, new.chains[name].rules)
	}
	for _, name := range slices.Sorted(maps.Keys(new.sets)) {
		addElements(tx, name, old.sets[name], new.sets[name])
	}
	return trash
}

func addSet(tx *knftables.Transaction, name string, s set) {
	switch {
	case s.verdicts:
		tx.Add(&knftables.Map{Name: name, Type: s.kind + " : verdict"})
	case s.memory:
		tx.Add(&knftables.Set{Name: name, TypeOf: s.kind, Timeout: knftables.PtrTo(memoryTimeout), Size: knftables.PtrTo[uint64](memoryEntries),
			Flags: []knftables.SetFlag{knftables.DynamicFlag, knftables.TimeoutFlag}})
	default:
		tx.Add(&knftables.Set{Name: name, Type: s.kind})
	}
}

func addChain(tx *knftables.Transaction, name string, c chain) {
	obj := &knftables.Chain{Name: name}
	if c.hook != "" {
		obj.Type, obj.Hook, obj.Priority = &c.kind, &c.hook, &c.priority
	}
	tx.Add(obj)
}

func writeRules(tx *knftables.Transaction, name string, old, new []string) {
	if slices.Equal(old, new) {
		return
	}
	tx.Flush(&knftables.Chain{Name: name})
	for _, r := range new {
		tx.Add(&knftables.Rule{Chain: name, Rule: r})
	}
}

func deleteElements(tx *knftables.Transaction, name string, old, new set) {
	for _, key := range slices.Sorted(maps.Keys(old.elements)) {
		if v, ok := new.elements[key]; !ok || v != old.elements[key] {
			tx.Delete(element(name, old, key))
		}
	}
}

func addElements(tx *knftables.Transaction, name string, old, new set) {
	for _, key := range slices.Sorted(maps.Keys(new.elements)) {
		if v, ok := old.elements[key]; !ok || v != new.elements[key] {
			tx.Add(element(name, new, key))
		}
	}
}

func element(name string, s set, key string) *knftables.Element {
	e := &knftables.Element{Key: strings.Split(key, " . ")}
	if s.verdicts {
		e.Map, e.Value = name, []string{s.elements[key]}
	} else {
		e.Set = name
	}
	return e
}
