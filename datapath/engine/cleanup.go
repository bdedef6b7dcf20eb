package engine

import (
	"context"
	"errors"

	"github.com/fairlead-lb/fairlead/datapath/conntrack"
	"github.com/fairlead-lb/fairlead/datapath/ipvs"
	"github.com/fairlead-lb/fairlead/datapath/link"
	"github.com/fairlead-lb/fairlead/datapath/nft"
)

// Cleanup removes what any engine ever wrote to the network namespace of the calling thread, whichever of them the kernel still has: the
// table, IPVS services and local routes. Kernel settings stay as they are: what they were before is not known, and others may rely
// on them by now.
func Cleanup(ctx context.Context) error {
	table, err := nft.OpenTable(nft.Options{})
	if err != nil {
		return err
	}
	if ipvs.Probe(ctx) == nil {
		e, err := ipvs.New(ipvs.Options{Guard: table, Local: link.Routes{}, Flows: conntrack.Flows{}})
		if err != nil {
			return err
		}
		return e.Cleanup(ctx)
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
