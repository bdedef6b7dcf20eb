package engine

import (
	"context"
	"errors"

	"github.com/fairlead-lb/fairlead/datapath/ipvs"
	"github.com/fairlead-lb/fairlead/datapath/link"
	"github.com/fairlead-lb/fairlead/datapath/nft"
)

// Cleanup removes what any engine ever wrote to the network namespace of the calling thread, whichever of them the kernel still has: the
// table, IPVS services and local routes. Kernel settings stay as they are: what they were before is not known, and others may rely
// on them by now.
func Cleanup(ctx context.Context) error {
	if ipvs.Probe(ctx) == nil {
		e, err := newIPVS(nft.DefaultMark) // whatever bit was in use: the listeners' marks are known by others
		if err != nil {
			return err
		}
		return e.Cleanup(ctx)
	}
	table, err := nft.OpenTable(nft.Options{Forward: true})
	if err != nil {
		return err
	}
	return errors.Join(table.Delete(ctx), removeRoutes())
}

// removeRoutes is for a kernel that no longer has IPVS.
func removeRoutes() error {
	left, err := link.Routes{}.Read()
	if err != nil {
		return err
	}
	var errs []error
	for _, vip := range left {
		errs = append(errs, link.Routes{}.Down(vip))
	}
	return errors.Join(errs...)
}
