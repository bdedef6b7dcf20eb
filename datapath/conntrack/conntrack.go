package conntrack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
)

// kernel is conntrack itself; tests put a fake here. What dump hands out is one message of a larger buffer, which lasts as long as any of
// it is kept. It hands out no more once each has returned false. Nothing may be asked of the kernel from within each.
type kernel interface {
	dump(family uint8, each func(message []byte) (more bool)) error
	delete(message []byte) error // what is gone already is no error
}

// How many entries Forget keeps at a time to delete them, of some 200 bytes each, and how often at most it looks for more in one call.
const (
	batch  = 1 << 15
	passes = 8
)

// Flows is the conntrack table of the calling thread's network namespace. However large it is, little of it is in memory at a time.
type Flows struct {
	kernel kernel
	left   rules      // what Forget has still to do
	open   sync.Mutex // held while Open reads
}

// New returns the table. It asks the kernel for nothing.
func New() *Flows { return &Flows{kernel: netfilter{}} }

// Forget deletes, among the flows to listeners that differ between have and want, the UDP ones whose endpoint takes no new flows in
// want, and those that nobody translates where want has a new listener. A listener that want does not have loses all its UDP flows;
// one without any usable endpoint keeps them, since there is no better place. Of a listener for everybody and one for the inside, which
// have one address, the endpoints of both will do: a flow does not say whose it is. Node ports are at the NodeAddrs of want.
//
// What a call leaves undone, for an error or because there was too much of it, the next one does too, except at listeners that have
// changed since: call it from time to time, with the same have and want if nothing has changed. The table is read only if there is
// something to do, once per IP family. It is not safe for concurrent use.
func (f *Flows) Forget(ctx context.Context, have, want datapath.State) error {
	f.left = f.left.after(have, want)
	families := map[uint8]bool{}
	for l := range f.left.listeners {
		families[familyOf(l.Addr.Addr())] = true
	}
	var errs []error
	for family := range families {
		done, err := f.forget(ctx, family)
		if err != nil {
			errs = append(errs, err)
		}
		if done {
			maps.DeleteFunc(f.left.listeners, func(l datapath.Listener, _ endpoints) bool { return familyOf(l.Addr.Addr()) == family })
		}
	}
	return errors.Join(errs...)
}

// forget does what is left in one IP family, and says whether that was all.
func (f *Flows) forget(ctx context.Context, family uint8) (done bool, err error) {
	for range passes {
		var found [][]byte
		whole, err := f.read(ctx, family, func(e entry, message []byte) bool {
			if f.left.forgets(e) {
				found = append(found, bytes.Clone(message))
			}
			return len(found) < batch
		})
		if err != nil {
			return false, err
		}
		var failed error
		for _, m := range found {
			if err := f.kernel.delete(m); err != nil {
				failed = fmt.Errorf("deleting conntrack entries: %w", err) // the others all the same
			}
		}
		if failed != nil || whole && len(found) < batch {
			return failed == nil, failed
		}
	}
	return false, nil
}

// read calls each with the entries of one IP family until that returns false. They are not the whole if the table has changed too much
// under it.
func (f *Flows) read(ctx context.Context, family uint8, each func(e entry, message []byte) (more bool)) (whole bool, err error) {
	err = f.kernel.dump(family, func(m []byte) bool {
		if e, ok := parse(m); ok && !each(e, m) {
			return false
		}
		return ctx.Err() == nil
	})
	switch {
	case ctx.Err() != nil:
		return false, fmt.Errorf("reading conntrack entries: %w", ctx.Err())
	case errors.Is(err, nl.ErrDumpInterrupted):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("reading conntrack entries: %w", err)
	}
	return true, nil
}

func familyOf(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
