package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/fairlead-lb/fairlead/datapath/ipvs"
	"github.com/fairlead-lb/fairlead/datapath/link"
	"github.com/fairlead-lb/fairlead/datapath/nft"
)

// Cleanup removes what any engine ever wrote to the network namespace of the calling thread, whichever of them the kernel still has: the
// table, IPVS services, local routes and the tunnel's devices. Kernel settings stay as they are, except IPVS's sloppy_tcp: what they were
// before is not known, and others may rely on them by now. They are below procSys, normally [link.ProcSys]. IPVS that is not loaded has nothing,
// and stays so; where no engine used it, what it has at our addresses is a kube-proxy's.
func Cleanup(ctx context.Context, procSys string) error {
	left, err := leftByIPVS()
	if err != nil {
		return err
	}
	if left && ipvs.Loaded() && ipvs.Probe(ctx) == nil {
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

// leftByIPVS reports whether an engine with IPVS was here. Its routes tell, or, where every address that it served is the node's anyway, its table.
func leftByIPVS() (bool, error) {
	if routes, err := (link.Routes{}).Read(); err != nil || len(routes) > 0 {
		return err == nil, err
	}
	_, guard, err := nft.Found()
	return guard, err
}

// CleanupLeft is Cleanup on a node where something is left of an engine, and returns what that was. On others it changes nothing and loads no
// module.
func CleanupLeft(ctx context.Context, procSys string) (left []string, err error) {
	if left, err = found(); err != nil || len(left) == 0 {
		return left, err
	}
	return left, Cleanup(ctx, procSys)
}

// found names what the kernel has of any engine. IPVS services come with a table or routes.
func found() (out []string, err error) {
	tables, _, tablesErr := nft.Found()
	for _, name := range tables {
		out = append(out, "table "+name)
	}
	routes, routesErr := link.Routes{}.Read()
	if n := len(routes); n > 0 {
		out = append(out, fmt.Sprintf("%d local routes", n))
	}
	devices, devicesErr := link.Tunnels{}.Read()
	for _, name := range devices {
		out = append(out, "device "+name)
	}
	return out, errors.Join(tablesErr, routesErr, devicesErr)
}

// removeLinks is for a kernel without IPVS, or which no longer has it.
func removeLinks(procSys string) error {
	left, err := link.Routes{}.Read()
	errs := []error{err, link.Tunnels{ProcSys: procSys}.Down()}
	for _, vip := range left {
		errs = append(errs, link.Routes{}.Down(vip))
	}
	return errors.Join(errs...)
}
