package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// fake is a kernel that carries out encoded transactions on one table of each family, all or nothing, and refuses what the real one refuses. Rules are
// bytes to it.
type fake struct {
	table   *fakeTable
	others  map[byte]*fakeTable // of other families
	commits uint32
	checks  int                    // transactions that were only checked
	refuse  func() error           // asked before each transaction
	poison  func(key string) bool  // elements whose keys it does not take
	busy    func(what string) bool // whose answers somebody else's transaction interrupts: rules, elements
}

type fakeTable struct {
	chains map[string][]string          // -> rules
	hooks  map[string]bool              // base chains
	sets   map[string]map[string]string // -> key -> value
}

func (t *fakeTable) clone() *fakeTable {
	if t == nil {
		return nil
	}
	out := &fakeTable{maps.Clone(t.chains), maps.Clone(t.hooks), map[string]map[string]string{}}
	for name, elements := range t.sets {
		out.sets[name] = maps.Clone(elements)
	}
	return out
}

func (k *fake) generation() (uint32, error) { return k.commits, nil }

func (k *fake) names() (chains, sets []string, _ error) {
	if k.table == nil {
		return nil, nil, nil
	}
	return slices.Collect(maps.Keys(k.table.chains)), slices.Collect(maps.Keys(k.table.sets)), nil
}

// interrupted returns what an answer ends with.
func (k *fake) interrupted(what string) error {
	if k.busy == nil || !k.busy(what) {
		return nil
	}
	return fmt.Errorf("listing: %w", nl.ErrDumpInterrupted)
}

func (k *fake) rules(family byte) (map[string]held, error) {
	table := k.others[family]
	if family == tableFamily {
		table = k.table
	}
	if table == nil {
		return nil, unix.ENOENT
	}
	if err := k.interrupted("rules"); err != nil {
		return nil, err
	}
	out := map[string]held{}
	for name, rules := range table.chains {
		out[name] = held{rules: len(rules)}
	}
	return out, nil
}

func (k *fake) elements(set string, each func(key, value []byte, packets, bytes uint64)) error {
	if k.table == nil {
		return unix.ENOENT
	}
	for key, value := range k.table.sets[set] {
		each([]byte(key), []byte(value), 0, 0)
	}
	return k.interrupted("elements")
}

func (k *fake) commit(_ context.Context, transaction []byte) error {
	if k.refuse != nil {
		if err := k.refuse(); err != nil {
			return err
		}
	}
	if binary.NativeEndian.Uint16(transaction[len(transaction)-16:]) != unix.NFNL_MSG_BATCH_END {
		k.checks++
	}
	next := &fake{table: k.table.clone(), others: map[byte]*fakeTable{}, poison: k.poison}
	for family, table := range k.others {
		next.others[family] = table.clone()
	}
	acknowledge, finished := false, false
	for rest := transaction; len(rest) > 0; {
		size := binary.NativeEndian.Uint32(rest)
		kind, flags, body := binary.NativeEndian.Uint16(rest[4:]), binary.NativeEndian.Uint16(rest[6:]), attributes(rest[unix.NLMSG_HDRLEN+4:size])
		acknowledge = acknowledge || flags&unix.NLM_F_ACK != 0
		finished = kind == unix.NFNL_MSG_BATCH_END
		if kind>>8 == unix.NFNL_SUBSYS_NFTABLES {
			if err := next.messageTo(rest[unix.NLMSG_HDRLEN], kind&0xff, body); err != nil {
				return fmt.Errorf("message %d of type %#x: %w: %w", binary.NativeEndian.Uint32(rest[8:]), kind, errRefused, err)
			}
		}
		rest = rest[size:]
	}
	if !acknowledge {
		return errors.New("the transaction asks for no answer")
	}
	if err := next.table.references(); err != nil {
		return err
	}
	if !finished {
		return nil
	}
	k.table, k.others = next.table, next.others
	k.commits++
	return nil
}

// references reports a verdict map that leads to a chain which is not there.
func (t *fakeTable) references() error {
	if t == nil {
		return nil
	}
	for set, elements := range t.sets {
		for _, v := range elements {
			if name, ok := strings.CutPrefix(v, "goto "); ok && t.chains[name] == nil {
				return fmt.Errorf("set %s leads to chain %s: %w", set, name, unix.ENOENT)
			}
		}
	}
	return nil
}

func (k *fake) messageTo(family byte, kind uint16, body attributes) error {
	if family == tableFamily {
		return k.message(kind, body)
	}
	other := &fake{table: k.others[family]}
	err := other.message(kind, body)
	if k.others[family] = other.table; other.table == nil {
		delete(k.others, family)
	}
	return err
}

func (k *fake) message(kind uint16, body attributes) error {
	const name = 2 // the attribute that names a chain or set in most messages
	switch kind {
	case unix.NFT_MSG_NEWTABLE:
		if k.table == nil {
			k.table = &fakeTable{map[string][]string{}, map[string]bool{}, map[string]map[string]string{}}
		}
		return nil
	case unix.NFT_MSG_DELTABLE:
		k.table = nil
		return nil
	}
	t := k.table
	if t == nil {
		return unix.ENOENT
	}
	switch kind {
	case unix.NFT_MSG_NEWCHAIN:
		chain := body.text(unix.NFTA_CHAIN_NAME)
		if t.chains[chain] == nil {
			t.chains[chain] = []string{}
		}
		t.hooks[chain] = body.get(unix.NFTA_CHAIN_HOOK) != nil
	case unix.NFT_MSG_DELCHAIN:
		return remove(t.chains, body.text(unix.NFTA_CHAIN_NAME))
	case unix.NFT_MSG_NEWRULE:
		chain := body.text(name)
		if t.chains[chain] == nil {
			return unix.ENOENT
		}
		t.chains[chain] = append(slices.Clone(t.chains[chain]), string(body.get(unix.NFTA_RULE_EXPRESSIONS)))
	case unix.NFT_MSG_DELRULE:
		if t.chains[body.text(name)] == nil {
			return unix.ENOENT
		}
		t.chains[body.text(name)] = []string{}
	case unix.NFT_MSG_NEWSET:
		if set := body.text(unix.NFTA_SET_NAME); t.sets[set] == nil {
			t.sets[set] = map[string]string{}
		}
	case unix.NFT_MSG_DELSET:
		return remove(t.sets, body.text(unix.NFTA_SET_NAME))
	case unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
		return t.setElements(kind == unix.NFT_MSG_NEWSETELEM, body, k.poison)
	}
	return nil
}

func remove[V any](m map[string]V, name string) error {
	if _, ok := m[name]; !ok {
		return unix.ENOENT
	}
	delete(m, name)
	return nil
}

func (t *fakeTable) setElements(add bool, body attributes, poison func(string) bool) (err error) {
	set := t.sets[body.text(unix.NFTA_SET_ELEM_LIST_SET)]
	if set == nil {
		return unix.ENOENT
	}
	list := body.nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	if list == nil {
		clear(set)
		return nil
	}
	list.each(func(_ uint16, e attributes) {
		key := string(e.nested(unix.NFTA_SET_ELEM_KEY).get(unix.NFTA_DATA_VALUE)) + string(e.get(unix.NFTA_SET_ELEM_FLAGS))
		data := e.nested(unix.NFTA_SET_ELEM_DATA)
		value := string(data.get(unix.NFTA_DATA_VALUE))
		if v := data.nested(unix.NFTA_DATA_VERDICT); v != nil {
			value = "goto " + v.text(unix.NFTA_VERDICT_CHAIN)
		}
		was, has := set[key]
		switch {
		case !add && !has:
			err = errors.Join(err, unix.ENOENT)
		case add && has && was != value:
			err = errors.Join(err, unix.EBUSY)
		case add && poison != nil && poison(key):
			err = errors.Join(err, unix.EINVAL)
		case add:
			set[key] = value
		default:
			delete(set, key)
		}
	})
	return err
}

// dump prints everything but how a rule works.
func (k *fake) dump() string {
	var out []string
	add := func(family byte, t *fakeTable) {
		if t == nil {
			return
		}
		for name, rules := range t.chains {
			out = append(out, fmt.Sprintf("%d chain %s hooked=%v %x", family, name, t.hooks[name], rules))
		}
		for name, elements := range t.sets {
			out = append(out, fmt.Sprintf("%d set %s", family, name))
			for key, value := range elements {
				out = append(out, fmt.Sprintf("%d set %s: %x -> %q", family, name, key, value))
			}
		}
	}
	add(tableFamily, k.table)
	for family, t := range k.others {
		add(family, t)
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}
