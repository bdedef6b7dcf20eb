package engine

import (
	"cmp"
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
	Keep   []link.Sysctl // those that somebody else may change back: to be raised again from time to time
	Missed error         // kernel settings that could not be changed, and can be done without
	Lacks  error         // what the kernel cannot do, and can be done without
}

// Options say which engine, and how.
type Options struct {
	Name    string // one of the names above
	ProcSys string // where the kernel settings of the network namespace are, normally [link.ProcSys]
	Mark    uint32 // the bit of packet marks that means masquerade, the one below is ours too; 0 = [nft.DefaultMark]
	CPUs    int    // of a node without kube-proxy, for which conntrack is made large enough; 0 = its size is somebody else's
}

// Open returns the engine that the options ask for, for the network namespace of the calling thread. Asked for ipvs by name on a kernel
// without it, it fails and says so; it never takes another engine then.
func Open(ctx context.Context, o Options) (Choice, error) {
	o.Mark = cmp.Or(o.Mark, nft.DefaultMark)
	c, err := open(ctx, o)
	if err != nil {
		return c, err
	}
	settings := link.Forwarding()
	c.Keep = link.Forwarding()
	if c.Engine.Name() == IPVS {
		settings = append(settings, link.IPVS()...)
		c.Keep = append(c.Keep, link.Silence()...) // IPVS's own the engine changes at times
	}
	if err := conntrack.Load(); err != nil {
		return c, err
	}
	if c.Raised, err = link.Raise(o.ProcSys, settings...); err != nil || o.CPUs == 0 {
		return c, err
	}
	more, missed := link.Raise(o.ProcSys, link.Conntrack(o.CPUs)...)
	c.Raised, c.Missed = append(c.Raised, more...), missed
	return c, nil
}

func open(ctx context.Context, o Options) (Choice, error) {
	switch o.Name {
	case IPVS:
		if err := ipvs.Probe(ctx); err != nil {
			return Choice{}, fmt.Errorf("engine ipvs is not possible here: %w", err)
		}
		return openIPVS(o)
	case NFT:
		return openNFT(ctx, o)
	case Auto:
		if err := ipvs.Probe(ctx); err != nil {
			c, openErr := openNFT(ctx, o)
			c.Why = err.Error()
			return c, openErr
		}
		c, err := openIPVS(o)
		c.Why = "the kernel has IPVS"
		return c, err
	default:
		return Choice{}, fmt.Errorf("unknown engine %q: want %s, %s or %s", o.Name, Auto, IPVS, NFT)
	}
}

func openIPVS(o Options) (Choice, error) {
	marks, err := ipvs.NewMarks(o.Mark, nft.InsideBit(o.Mark))
	if err != nil {
		return Choice{}, err
	}
	guard, err := nft.OpenTable(nft.Options{Mark: o.Mark, Inside: marks.Of})
	if err != nil {
		return Choice{}, err
	}
	e, err := ipvs.New(ipvs.Options{Guard: guard, Local: link.Routes{}, Tunnels: link.Tunnels{ProcSys: o.ProcSys}, Flows: conntrack.New(), Marks: marks})
	return Choice{Engine: e, Lacks: guard.Onward()}, err
}

func openNFT(ctx context.Context, o Options) (Choice, error) {
	if err := retireIPVS(ctx, o.ProcSys); err != nil {
		return Choice{}, err
	}
	table, err := nft.OpenTable(nft.Options{Forward: true, Mark: o.Mark})
	if err != nil {
		return Choice{}, err
	}
	return Choice{Engine: nft.NewEngine(table, conntrack.New()), Lacks: table.Onward()}, nil
}

// retireIPVS removes what an ipvs engine left on a node that is now to use nft. The other way round there is nothing to do: both have
// the same table.
func retireIPVS(ctx context.Context, procSys string) error {
	if left, err := leftByIPVS(); err != nil || !left {
		return err
	}
	return Cleanup(ctx, procSys)
}
