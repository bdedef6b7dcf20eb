package nft

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"sigs.k8s.io/knftables"

	"github.com/fairlead-lb/fairlead/datapath"
)

// TableName is the name of the table; its family is inet.
const TableName = "fairlead"

// DefaultMark is the packet mark bit that means "masquerade" between the first packet's arrival and its departure. It is clear
// of kube-proxy's 0x4000 and 0x8000, the portmap plugin's 0x2000, and what Calico (0xffff0000) and kubelet use by default.
const DefaultMark = 0x1000

// verifyEvery is how often at most the table is compared with what was written, and only after somebody changed nftables.
const verifyEvery = time.Second

// Options configure a Table.
type Options struct {
	Forward bool   // DNAT to the endpoints too, not only the guard
	Mark    uint32 // one bit; 0 = DefaultMark

	nft        knftables.Interface    // tests put a fake here
	generation func() (uint32, error) // and here
}

func (o Options) validate() (Options, error) {
	if o.Mark == 0 {
		o.Mark = DefaultMark
	}
	if o.Mark&(o.Mark-1) != 0 {
		return o, fmt.Errorf("mark %#x: exactly one bit must be set", o.Mark)
	}
	if o.nft == nil {
		nft, err := knftables.New(knftables.InetFamily, TableName)
		if err != nil {
			return o, fmt.Errorf("preparing nftables: %w", err)
		}
		o.nft, o.generation = nft, generation
	}
	return o, nil
}

// Table is the table in the kernel of the calling thread's network namespace. It is not safe for concurrent use.
type Table struct {
	Options
	written  ruleset // what the kernel holds; no chains = unknown
	trash    garbage
	seen     uint32 // generation of nftables after our last look
	verified time.Time
	writes   int // committed transactions
}

// OpenTable prepares access to the table and changes nothing. It fails where nft is missing or may not be used.
func OpenTable(o Options) (*Table, error) {
	o, err := o.validate()
	if err != nil {
		return nil, err
	}
	return &Table{Options: o, written: newRuleset(), trash: newGarbage()}, nil
}

// Set makes the table say what the state asks for. All of it or nothing is in force: on error the table is as before. It writes
// only differences, and nothing if there are none. The first Set takes over whatever a predecessor left; so does one that finds
// that somebody else flushed the table, which is noticed a second after the flush at the latest if Set is called then.
func (t *Table) Set(ctx context.Context, s datapath.State, now time.Time) error {
	want := t.render(s)
	if t.lost(ctx, now) {
		t.written, t.trash = newRuleset(), newGarbage()
	}
	if len(t.written.chains) == 0 {
		return t.takeOver(ctx, want)
	}
	tx := t.nft.NewTransaction()
	trash := diff(tx, t.written, want)
	return t.commit(ctx, tx, want, trash)
}

// commit runs the transaction and then tries to get rid of what it left over; what cannot be deleted yet is tried again at the
// next Set.
func (t *Table) commit(ctx context.Context, tx *knftables.Transaction, want ruleset, trash garbage) error {
	before, err := t.generation()
	if err != nil {
		return err
	}
	commits := uint32(0)
	if tx.NumOperations() > 0 {
		if err := t.nft.Run(ctx, tx); err != nil {
			return fmt.Errorf("writing table %s: %w", TableName, err)
		}
		commits++
		t.writes++
	}
	t.written = want
	maps.Copy(t.trash.chains, trash.chains)
	maps.Copy(t.trash.sets, trash.sets)
	maps.DeleteFunc(t.trash.chains, func(name string, _ bool) bool { _, used := want.chains[name]; return used })
	maps.DeleteFunc(t.trash.sets, func(name string, _ bool) bool { _, used := want.sets[name]; return used })
	if !t.trash.empty() && t.sweep(ctx) {
		commits++
		t.writes++
	}
	if commits == 0 {
		return nil
	}
	t.seen, err = t.generation()
	if t.seen != before+commits {
		t.seen = before // somebody else wrote meanwhile: look again
	}
	return err
}

func (t *Table) sweep(ctx context.Context) bool {
	tx := t.nft.NewTransaction()
	for _, name := range slices.Sorted(maps.Keys(t.trash.chains)) {
		tx.Flush(&knftables.Chain{Name: name})
	}
	for _, name := range slices.Sorted(maps.Keys(t.trash.chains)) {
		tx.Delete(&knftables.Chain{Name: name})
	}
	for _, name := range slices.Sorted(maps.Keys(t.trash.sets)) {
		if t.trash.sets[name] {
			tx.Delete(&knftables.Map{Name: name})
		} else {
			tx.Delete(&knftables.Set{Name: name})
		}
	}
	if err := t.nft.Run(ctx, tx); err != nil {
		return false // the kernel still counts references; the objects do no harm
	}
	t.trash = newGarbage()
	return true
}

// takeOver replaces the content of a table that may exist in any shape, except the memory of who has affinity to what.
func (t *Table) takeOver(ctx context.Context, want ruleset) error {
	tx := t.nft.NewTransaction()
	tx.Add(&knftables.Table{})
	found, err := t.nft.ListAll(ctx)
	if err != nil && !knftables.IsNotFound(err) {
		found = nil
	}
	trash := newGarbage()
	for _, name := range found["chain"] {
		trash.chains[name] = true
		if _, stays := want.chains[name]; stays || slices.Contains(hooked(), name) {
			tx.Flush(&knftables.Chain{Name: name})
		}
	}
	for _, name := range found["map"] {
		tx.Flush(&knftables.Map{Name: name})
		trash.sets[name] = true
	}
	for _, name := range found["set"] {
		trash.sets[name] = false
		if !want.sets[name].memory {
			tx.Flush(&knftables.Set{Name: name})
		}
	}
	diff(tx, newRuleset(), want)
	if err := t.commit(ctx, tx, want, trash); err == nil || len(found) == 0 {
		return err
	}
	// The predecessor's objects have other types: start from nothing, still in one step.
	tx = t.nft.NewTransaction()
	tx.Add(&knftables.Table{})
	tx.Delete(&knftables.Table{})
	tx.Add(&knftables.Table{})
	diff(tx, newRuleset(), want)
	t.trash = newGarbage()
	return t.commit(ctx, tx, want, newGarbage())
}

// lost reports whether the kernel no longer has the chains and rules that were written. As long as nobody writes to nftables it
// costs one small netlink request.
func (t *Table) lost(ctx context.Context, now time.Time) bool {
	if len(t.written.chains) == 0 || now.Sub(t.verified) < verifyEvery {
		return false
	}
	current, err := t.generation()
	if err != nil || current == t.seen {
		return false
	}
	t.verified, t.seen = now, current
	rules, err := t.nft.ListRules(ctx, "")
	if err != nil {
		return true
	}
	count := map[string]int{}
	for _, r := range rules {
		count[r.Chain]++
	}
	for name, c := range t.written.chains {
		if count[name] != len(c.rules) {
			return true
		}
	}
	return false
}

// VIPs returns the VIPs that the table in the kernel guards, sorted; none if there is no table.
func (t *Table) VIPs(ctx context.Context) ([]netip.Addr, error) {
	found, err := t.nft.ListAll(ctx)
	if err != nil {
		return nil, nil // no table; if nftables does not work at all, Set will say so
	}
	var out []netip.Addr
	for _, f := range families() {
		if !slices.Contains(found["set"], f.vips()) {
			continue
		}
		elements, err := t.nft.ListElements(ctx, "set", f.vips())
		if err != nil {
			return nil, fmt.Errorf("reading VIPs of table %s: %w", TableName, err)
		}
		for _, e := range elements {
			if a, err := netip.ParseAddr(e.Key[0]); err == nil {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out, nil
}

// Delete removes the table with everything in it.
func (t *Table) Delete(ctx context.Context) error {
	tx := t.nft.NewTransaction()
	tx.Add(&knftables.Table{}) // so that deleting one that is not there is no error
	tx.Delete(&knftables.Table{})
	t.written, t.trash = newRuleset(), newGarbage()
	if err := t.nft.Run(ctx, tx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("deleting table %s: %w", TableName, err)
	}
	return nil
}
