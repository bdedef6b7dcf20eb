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
	have     datapath.State // what the kernel holds, if rules is not empty
	rules    map[string]int // how many each chain has; empty = what the kernel holds is unknown
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
	return &Table{Options: o, trash: newGarbage()}, nil
}

// Set makes the table say what the state asks for. All of it or nothing is in force: on error the table is as before. It writes
// only differences, and nothing if there are none. The first Set takes over whatever a predecessor left; so does one that finds
// that somebody else flushed the table, which is noticed a second after the flush at the latest if Set is called then.
func (t *Table) Set(ctx context.Context, s datapath.State, now time.Time) error {
	if t.lost(ctx, now) {
		t.rules, t.trash = nil, newGarbage()
	}
	if len(t.rules) == 0 {
		return t.takeOver(ctx, s)
	}
	from, to := changed(t.have, s)
	if len(from.VIPs)+len(to.VIPs)+len(from.Servers)+len(to.Servers) == 0 && t.trash.empty() {
		return nil
	}
	tx := t.nft.NewTransaction()
	old, new := t.render(from), t.render(to)
	return t.commit(ctx, tx, s, new, diff(tx, old, new))
}

// commit runs the transaction, after which the kernel holds s: written of it by this transaction, the rest before. Then it tries
// to get rid of what is left over; what cannot be deleted yet is tried again at the next Set.
func (t *Table) commit(ctx context.Context, tx *knftables.Transaction, s datapath.State, written ruleset, trash garbage) error {
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
	t.account(s, written, trash)
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

// account records what a transaction did.
func (t *Table) account(s datapath.State, written ruleset, trash garbage) {
	if t.rules == nil {
		t.rules = map[string]int{}
	}
	for name := range trash.chains {
		delete(t.rules, name)
		t.trash.chains[name] = true
	}
	maps.Copy(t.trash.sets, trash.sets)
	for name, c := range written.chains {
		t.rules[name] = len(c.rules)
		delete(t.trash.chains, name)
	}
	for name := range written.sets {
		delete(t.trash.sets, name)
	}
	t.have = s
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
func (t *Table) takeOver(ctx context.Context, s datapath.State) error {
	want := t.render(s)
	tx := t.nft.NewTransaction()
	tx.Add(&knftables.Table{})
	found, err := t.nft.ListAll(ctx)
	if err != nil {
		found = nil // no table; should nftables not work at all, the transaction will say so
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
	if err := t.commit(ctx, tx, s, want, trash); err == nil || len(found) == 0 {
		return err
	}
	// The predecessor's objects have other types: start from nothing, still in one step.
	tx = t.nft.NewTransaction()
	tx.Add(&knftables.Table{})
	tx.Delete(&knftables.Table{})
	tx.Add(&knftables.Table{})
	diff(tx, newRuleset(), want)
	t.trash = newGarbage()
	return t.commit(ctx, tx, s, want, newGarbage())
}

// lost reports whether the kernel no longer has the chains and rules that were written. As long as nobody writes to nftables it
// costs one small netlink request.
func (t *Table) lost(ctx context.Context, now time.Time) bool {
	if len(t.rules) == 0 || now.Sub(t.verified) < verifyEvery {
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
	for name, n := range t.rules {
		if count[name] != n {
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
	t.have, t.rules, t.trash = datapath.State{}, nil, newGarbage()
	if err := t.nft.Run(ctx, tx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("deleting table %s: %w", TableName, err)
	}
	return nil
}
