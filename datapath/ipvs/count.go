package ipvs

import (
	"context"
	"slices"

	"github.com/moby/ipvs"

	"github.com/fairlead-lb/fairlead/datapath"
)

// Counts returns what IPVS counted at every endpoint of our listeners that has had connections, sorted. It may be called while Sync runs,
// and reads the destinations of listeners with connections only. The kernel's sums are up to two seconds old.
func (e *Engine) Counts(ctx context.Context) ([]datapath.Count, error) {
	reader := kernel{marks: e.Marks}
	defer reader.close()
	return reader.counts(ctx)
}

// HandedOn returns how many packets of connections that this node does not know went on to another since the kernel was told, the last
// time, to whom. It may be called while Sync runs.
func (e *Engine) HandedOn() (packets uint64, err error) { return e.Guard.HandedOn() }

func (k *kernel) counts(ctx context.Context) ([]datapath.Count, error) {
	var out []datapath.Count
	err := k.do(ctx, func(h *ipvs.Handle) error {
		services, err := h.GetServices()
		if err != nil {
			return err
		}
		for _, s := range services {
			v, ok := k.read(s)
			if !ok || s.Stats.Connections == 0 {
				continue
			}
			dests, err := h.GetDestinations(s)
			if err != nil {
				return err
			}
			for _, d := range dests {
				if a, ok := addrPort(d); ok {
					out = append(out, datapath.Count{Listener: v.Listener, Destination: a, Conns: uint64(d.Stats.Connections),
						Bytes: d.Stats.BytesIn + d.Stats.BytesOut})
				}
			}
		}
		return nil
	})
	slices.SortFunc(out, datapath.Count.Compare)
	return out, err
}
