package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/datapath/conntrack"
	"github.com/fairlead-lb/fairlead/datapath/ipvs"
	"github.com/fairlead-lb/fairlead/datapath/link"
	"github.com/fairlead-lb/fairlead/datapath/nft"
)

// The engines, and Auto, which means ipvs where the kernel has it and nft elsewhere.
const (
	Auto = "auto"
	IPVS = "ipvs"
	NFT  = "nft"
)

// Engine makes the kernel of one network namespace hold a state. It is not safe for concurrent use.
type Engine interface {
	// Name is "ipvs" or "nft".
	Name() string

	// Sync leads the kernel to want and returns what it holds then, also on error. It has to be called from time to time even if
	// want stays the same: to retire destinations whose connections have ended, and to repair what others have undone.
	Sync(ctx context.Context, want datapath.State, now time.Time) (reached datapath.State, err error)

	// Cleanup removes everything that any engine of this name ever wrote.
	Cleanup(ctx context.Context) error

	// Writes counts the changes made to the kernel so far.
	Writes() int
}

// Choice is an opened engine with what an operator wants to know about it.
type Choice struct {
	Engine Engine
	Why    string        // why not another engine; empty if the engine was asked for by name
	Raised []link.Sysctl // kernel settings that had to be changed
}

// Open returns the engine called name, for the network namespace of the calling thread, whose kernel settings are below procSys
// (normally [link.ProcSys]). Asked for ipvs by name on a kernel without it, it
// fails and says so; it never takes another engine then.
func Open(ctx context.Context, name, procSys string) (Choice, error) {
	switch name {
	case IPVS:
		if err := ipvs.Probe(ctx); err != nil {
			return Choice{}, fmt.Errorf("engine ipvs is not possible here: %w", err)
		}
		return openIPVS(procSys)
	case NFT:
		return openNFT(ctx, procSys)
	case Auto:
		if err := ipvs.Probe(ctx); err != nil {
			c, openErr := openNFT(ctx, procSys)
			c.Why = err.Error()
			return c, openErr
		}
		c, err := openIPVS(procSys)
		c.Why = "the kernel has IPVS"
		return c, err
	default:
		return Choice{}, fmt.Errorf("unknown engine %q: want %s, %s or %s", name, Auto, IPVS, NFT)
	}
}

func openIPVS(procSys string) (Choice, error) {
	guard, err := nft.OpenTable(nft.Options{})
	if err != nil {
		return Choice{}, err
	}
	raised, err := link.Raise(procSys, append(link.Forwarding(), link.IPVS()...)...)
	if err != nil {
		return Choice{}, err
	}
	e, err := ipvs.New(ipvs.Options{Guard: guard, Local: link.Routes{}, Flows: conntrack.Flows{}})
	return Choice{Engine: e, Raised: raised}, err
}

func openNFT(ctx context.Context, procSys string) (Choice, error) {
	if err := retireIPVS(ctx, procSys); err != nil {
		return Choice{}, err
	}
	table, err := nft.OpenTable(nft.Options{Forward: true})
	if err != nil {
		return Choice{}, err
	}
	raised, err := link.Raise(procSys, link.Forwarding()...)
	return Choice{Engine: nft.NewEngine(table, conntrack.Flows{}), Raised: raised}, err
}

// retireIPVS removes what an ipvs engine left on a node that is now to use nft. The other way round there is nothing to do: both have
// the same table.
func retireIPVS(ctx context.Context, procSys string) error {
	left, err := link.Routes{}.Read()
	if err != nil || len(left) == 0 {
		return err
	}
	if ipvs.Probe(ctx) == nil {
		c, err := openIPVS(procSys)
		if err != nil {
			return err
		}
		return c.Engine.Cleanup(ctx)
	}
	return removeRoutes()
}
