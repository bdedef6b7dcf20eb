package nft

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/datapath"
)

// TableName is the name of the table; its family is inet.
const TableName = "fairlead"

// DefaultMark is the packet mark bit that means "masquerade" between the first packet's arrival and its departure. It is clear
// of kube-proxy's 0x4000 and 0x8000, the portmap plugin's 0x2000, and what Calico (0xffff0000) and kubelet use by default.
const DefaultMark = 0x1000

// InsideBit returns the bit that the mark of every listener for the inside has, besides others: the one below the bit for masquerade.
func InsideBit(masquerade uint32) uint32 { return masquerade >> 1 }

// Options configure a Table.
type Options struct {
	Forward bool   // DNAT to the endpoints too, not only the guard
	Mark    uint32 // one bit, not the lowest; 0 = DefaultMark

	// Inside tells, without Forward, by which packet mark IPVS knows a listener for the inside; the same as long as the table has it. All
	// of them have InsideBit and lack Mark.
	Inside func(datapath.Listener) uint32

	kernel kernel // tests put a fake here
}

func (o Options) validate() (Options, error) {
	if o.Mark == 0 {
		o.Mark = DefaultMark
	}
	if o.Mark&(o.Mark-1) != 0 || o.Mark == 1 {
		return o, fmt.Errorf("mark %#x: exactly one bit must be set, and not the lowest", o.Mark)
	}
	if !o.Forward && o.Inside == nil {
		return o, errors.New("a table without Forward must know the marks of listeners for the inside")
	}
	if o.kernel == nil {
		o.kernel = &netfilter{}
	}
	return o, nil
}

// kernel is nftables in the network namespace of the calling thread.
type kernel interface {
	commit(ctx context.Context, transaction []byte) error
	generation() (uint32, error)                // grows with every transaction of anybody
	names() (chains, sets []string, _ error)    // of our table
	rules(family byte) (map[string]held, error) // of each chain of our table of a family
	elements(set string, each func(key, value []byte, packets, bytes uint64)) error
}

// Table is the table in the kernel of the calling thread's network namespace. It is not safe for concurrent use.
type Table struct {
	Options
	have     datapath.State // what the kernel holds, if known
	known    bool
	sets     map[string]set // those that depend on no server
	used     map[use]int
	count    map[string]int // elements of each set that is not filled by packets
	rules    map[string]int // rules of each chain
	bans     map[datapath.Listener]ban
	trash    garbage
	seen     uint32 // generation of nftables after our last look
	unsure   bool   // somebody else wrote since, or the look was interrupted
	foreign  bool   // somebody else wrote since the elements were read
	verified time.Time
	read     time.Time
	writes   int // committed transactions
	onwards  onwards
}

// OpenTable prepares access to the table and changes nothing. It fails where nftables may not be used.
func OpenTable(o Options) (*Table, error) {
	o, err := o.validate()
	if err != nil {
		return nil, err
	}
	if _, err := o.kernel.generation(); err != nil {
		return nil, err
	}
	t := &Table{Options: o, trash: newGarbage(), bans: map[datapath.Listener]ban{}}
	t.probeOnward(context.Background())
	return t, nil
}

// Set makes the table say what the state asks for. All of it or nothing is in force: on error the table is as before, unless the error is
// datapath.Rejected, which names the servers that the kernel does not take while all the rest is in force. It writes
// only differences, and nothing if there are none. The first Set takes over whatever a predecessor left; so does one that finds
// that somebody else flushed the table, which is noticed a second after the flush at the latest if Set is called then.
func (t *Table) Set(ctx context.Context, s datapath.State, now time.Time) error {
	_, _, err := t.set(ctx, s, now)
	return err
}

// set is Set that also returns the parts of the state before and of the one in force in which they differ, on error too.
func (t *Table) set(ctx context.Context, s datapath.State, now time.Time) (from, to datapath.State, err error) {
	if t.lost(now) {
		t.known, t.onwards.known = false, false
	}
	bearable := t.spare(s, now)
	from, to, err = t.lead(ctx, bearable, now)
	if errors.Is(err, errRefused) && t.known && t.damaged() { // what is to be changed is not what was written
		t.known = false
		from, to, err = t.lead(ctx, bearable, now)
	}
	if errors.Is(err, errRefused) {
		if err = t.accuse(ctx, bearable, now, err); err == nil {
			from, to, err = t.lead(ctx, t.spare(s, now), now)
		}
	}
	if err != nil {
		return datapath.State{}, datapath.State{}, err
	}
	err = t.setOnward(ctx, s.Onward)
	if err == nil && len(t.bans) > 0 {
		err = t.rejected()
	}
	return from, to, err
}

// lead brings the kernel to s.
func (t *Table) lead(ctx context.Context, s datapath.State, now time.Time) (from, to datapath.State, err error) {
	if !t.inStep(s) {
		from, to = t.have, s
		if err = t.takeOver(ctx, s, t.write); err == nil {
			t.have, t.known, t.read, t.foreign = s, true, now, false
		}
		return from, to, err
	}
	from, to = changed(t.have, s)
	addrs := slices.Concat(from.VIPs, to.VIPs, from.NodeAddrs, to.NodeAddrs, from.Peers, to.Peers)
	if len(addrs)+len(from.Servers)+len(to.Servers) == 0 {
		t.have = s
		return from, to, t.sweep(ctx)
	}
	old := t.render(from)
	c := diff(t.used, t.trash, old, t.render(to))
	if err = t.run(ctx, c, t.write); err == nil {
		t.account(c, old)
		t.have = s
	}
	return from, to, err
}

// inStep reports whether the table is known, and s can be reached by changing it.
func (t *Table) inStep(s datapath.State) bool {
	return t.known && t.have.Pods.Equal(s.Pods) && tunnelsOf(t.have) == tunnelsOf(s)
}

// run has a change carried out, or only checked.
func (t *Table) run(ctx context.Context, c change, by func(context.Context, []byte) error) error {
	if c.empty() {
		return nil
	}
	packet, err := c.encode(t.sets)
	if err == nil {
		err = by(ctx, packet)
	}
	if err != nil {
		return fmt.Errorf("writing table %s: %w", TableName, err)
	}
	return nil
}

// write runs one transaction and keeps count of generations.
func (t *Table) write(ctx context.Context, transaction []byte) error {
	before, err := t.kernel.generation()
	if err != nil {
		return err
	}
	if err := t.kernel.commit(ctx, transaction); err != nil {
		return err
	}
	t.writes++
	t.unsure = t.unsure || t.known && before != t.seen
	t.seen = before // unless nobody else wrote meanwhile, lost shall look again
	if after, err := t.kernel.generation(); err == nil && after == before+1 {
		t.seen = after
	}
	return nil
}

// sweep tries to get rid of what is left over. It is for quiet moments: the kernel makes the next transaction wait until what this one
// deleted is gone, some 30 ms. What cannot be deleted yet, because the kernel still counts references, does no harm until next time.
func (t *Table) sweep(ctx context.Context) error {
	if t.trash.empty() {
		return nil
	}
	if err := t.write(ctx, t.trash.sweep()); err == nil {
		t.trash = newGarbage()
	}
	return ctx.Err()
}

// account records what a transaction did.
func (t *Table) account(c change, old ruleset) {
	for u, n := range old.uses {
		if t.used[u] -= n; t.used[u] <= 0 {
			delete(t.used, u)
		}
	}
	for u, n := range c.content.uses {
		t.used[u] += n
	}
	for _, e := range c.delElements {
		t.count[e.set]--
	}
	for _, e := range c.addElements {
		t.count[e.set]++
	}
	for name := range c.trash.chains {
		delete(t.rules, name)
	}
	for name := range c.trash.sets {
		delete(t.count, name)
	}
	maps.Copy(t.trash.chains, c.trash.chains)
	maps.Copy(t.trash.sets, c.trash.sets)
	for name, ch := range c.content.chains {
		t.rules[name] = len(ch.rules)
		delete(t.trash.chains, name)
	}
	for name := range c.content.sets {
		delete(t.trash.sets, name)
	}
}

// takeOver replaces the content of a table that may exist in any shape, except the memory of who has affinity to what.
func (t *Table) takeOver(ctx context.Context, s datapath.State, by func(context.Context, []byte) error) error {
	t.known = false
	chains, sets, err := t.kernel.names()
	if err != nil {
		return err
	}
	err = t.replace(ctx, s, change{newTable: true, flushChains: chains, flushSets: sets}, by)
	if err != nil && len(chains)+len(sets) > 0 { // the predecessor's objects have other types: start from nothing, still in one step
		err = t.replace(ctx, s, change{wipe: true}, by)
	}
	return err
}

// chunk is how many servers are rendered at a time when all are; more would only cost memory.
const chunk = 256

// replace writes everything in one transaction, after what clear does to the table.
func (t *Table) replace(ctx context.Context, s datapath.State, clear change, by func(context.Context, []byte) error) error {
	frame := t.Options.frame(s.Pods, tunnelsOf(s))
	t.sets, t.used, t.count, t.rules, t.trash = frame.sets, map[use]int{}, map[string]int{}, map[string]int{}, newGarbage()
	for _, name := range clear.flushChains {
		t.trash.chains[name] = false
	}
	for _, name := range clear.flushSets {
		t.trash.sets[name] = false
	}
	clear.flushSets = slices.DeleteFunc(slices.Clone(clear.flushSets), func(name string) bool { return frame.sets[name].memory })
	b := newBatch()
	clear.write(b, nil)
	add := func(part ruleset) {
		c := diff(t.used, t.trash, newRuleset(), part)
		c.write(b, t.sets)
		t.account(c, newRuleset())
	}
	add(frame)
	add(t.render(datapath.State{VIPs: s.VIPs, NodeAddrs: s.NodeAddrs, Peers: s.Peers}))
	for rest := s.Servers; len(rest) > 0; {
		n := min(chunk, len(rest))
		add(t.render(datapath.State{Servers: rest[:n], Pods: s.Pods}))
		rest = rest[n:]
	}
	packet, err := b.finish(), b.err
	if err == nil {
		err = by(ctx, packet)
	}
	if err != nil {
		return fmt.Errorf("writing table %s: %w", TableName, err)
	}
	return nil
}

// Delete removes the table with everything in it.
func (t *Table) Delete(ctx context.Context) error {
	b := newBatch()
	b.addTable() // so that deleting one that is not there is no error
	b.deleteTable()
	t.known, t.have, t.trash = false, datapath.State{}, newGarbage()
	clear(t.bans)
	err := t.setOnward(ctx, datapath.Onward{Known: true})
	if err = errors.Join(err, t.kernel.commit(ctx, b.finish())); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("deleting table %s: %w", TableName, err)
	}
	return nil
}
