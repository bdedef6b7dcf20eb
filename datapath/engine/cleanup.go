package engine

import (
	"context"
	"errors"

	"github.com/fairlead-lb/fairlead/datapath/ipvs"
	"github.com/fairlead-lb/fairlead/datapath/link"
	"github.com/fairlead-lb/fairlead/datapath/nft"
)

// Cleanup removes what any engine ever wrote to the network namespace of the calling thread, whichever of them the kernel still has: the
// table, IPVS services, local routes and the tunnel's devices. Kernel settings stay as they are, except IPVS's sloppy_tcp: what they were
// before is not known, and others may rely on them by now. They are below procSys, normally [link.ProcSys].
func Cleanup(ctx context.Context, procSys string) error {
	if ipvs.Probe(ctx) == nil {
		c, err := openIPVS(Options{Mark: nft.DefaultMark, ProcSys: procSys}) // whatever bit was in use: the listeners' marks are known by others
		if err != nil {
			return err
		}
		return c.Engine.Cleanup(ctx)
	}
	table, err := nft.OpenTable(nft.Options{Forward: true})
	if err != nil {
		return err
	}
	return errors.Join(table.Delete(ctx), removeLinks(procSys))
}

// removeLinks is for a kernel that no longer has IPVS.
func removeLinks(procSys string) error {
	left, err := link.Routes{}.Read()
	errs := []error{err, link.Tunnels{ProcSys: procSys}.Down()}
	for _, vip := range left {
		errs = append(errs, link.Routes{}.Down(vip))
	}
	return errors.Join(errs...)
}
