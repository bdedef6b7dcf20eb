package datapathtest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/datapath"
)

// Kernel is a stateful fake. Its zero value is an empty kernel. It is not safe for concurrent use.
type Kernel struct {
	// Refuse, if set, is asked before each operation; an error makes just that operation fail.
	Refuse func(datapath.Op) error

	// Applied counts the operations that were carried out.
	Applied int

	// Host holds further addresses of the node, besides those at which its node ports are.
	Host []netip.Addr

	// Now is the time at which connections begin; affinity ends by it.
	Now time.Time

	state    datapath.State
	turn     map[datapath.Listener]int
	affinity map[client]memory
	table    *Maglev          // the last one that was needed
	tableOf  []netip.AddrPort // for these
}

// State returns what the kernel holds.
func (k *Kernel) State() datapath.State { return k.state.Clone() }

// Sync brings the kernel to want as an engine does: read, diff, apply. Its signature is that of the speaker's Engine.
func (k *Kernel) Sync(_ context.Context, want datapath.State, now time.Time) (datapath.State, error) {
	err := k.Apply(datapath.Diff(k.State(), want, now))
	k.state.NodeAddrs, k.state.Pods, k.state.Peers, k.state.Onward = want.NodeAddrs, want.Pods, want.Peers, want.Onward
	reached := k.State()
	for _, w := range want.Servers {
		has, ok := k.state.Server(w.Listener)
		complete := ok && !slices.ContainsFunc(datapath.Diff(datapath.State{Servers: []*datapath.VirtualServer{&has}},
			datapath.State{Servers: []*datapath.VirtualServer{w}}, now), func(o datapath.Op) bool {
			return o.Verb == datapath.AddDestination || o.Verb == datapath.EditServer
		})
		if !complete {
			reached.Partial = append(reached.Partial, w.Addr.Addr())
		}
	}
	slices.SortFunc(reached.Partial, netip.Addr.Compare)
	reached.Partial = slices.Compact(reached.Partial)
	return reached, err
}

// Name makes Kernel an engine.
func (k *Kernel) Name() string { return "fake" }

// Cleanup empties the kernel.
func (k *Kernel) Cleanup(context.Context) error {
	k.state = datapath.State{}
	return nil
}

// Apply carries the operations out in their order. One that is refused does not stop the others; the errors are joined.
func (k *Kernel) Apply(ops []datapath.Op) error {
	var errs []error
	for _, op := range ops {
		if k.Refuse != nil {
			if err := k.Refuse(op); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		if err := k.state.Apply(op); err != nil {
			errs = append(errs, err)
			continue
		}
		k.Applied++
	}
	return errors.Join(errs...)
}

// SetConns says how many connections a destination has, as the kernel's counters would.
func (k *Kernel) SetConns(l datapath.Listener, dest netip.AddrPort, n int) {
	for i, v := range k.state.Servers {
		for j, d := range v.Destinations {
			if v.Listener == l && d.Addr == dest {
				counted := *v
				counted.Destinations = slices.Clone(v.Destinations)
				counted.Destinations[j].Conns = n
				k.state.Servers[i] = &counted
			}
		}
	}
}
