package main

import (
	"context"
	"io"
	"log/slog"
	"runtime"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/fairlead-lb/fairlead/datapath/engine"
	"github.com/fairlead-lb/fairlead/internal/speaker"
)

// openEngine opens a datapath engine and says in the log which one it is and why.
func openEngine(ctx context.Context, f config, log *slog.Logger) (speaker.Engine, error) {
	logrus.SetOutput(io.Discard) // the IPVS library complains there about what engine.Open reports properly
	o := engine.Options{Name: f.engine, ProcSys: f.procSys, Mark: uint32(f.mark)}
	if f.forwarding.Full {
		o.CPUs = runtime.NumCPU()
	}
	c, err := engine.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	for _, s := range c.Raised {
		log.Info("kernel setting raised, it will stay so", "setting", s.String())
	}
	if c.Lacks != nil {
		log.Warn("kernel lacks something", "err", c.Lacks)
	}
	if c.Missed != nil {
		log.Warn("kernel settings not raised", "err", c.Missed)
	}
	log.Info("datapath engine opened", "engine", c.Engine.Name(), "asked", f.engine, "why", c.Why)
	return c.Engine, nil
}

// removeEvery is how often what could not be removed is tried again.
const removeEvery = 30 * time.Second

// removeLeft removes, on a node that only announces, what a speaker of another mode left in the kernel, where it would forward for ever as it
// was told last, in front of who is to forward now. It reports whether nothing is left.
func removeLeft(ctx context.Context, remove func(context.Context) (left []string, err error), log *slog.Logger) bool {
	left, err := remove(ctx)
	switch {
	case err != nil:
		log.Error("cannot remove what another mode left on this node, will try again", "found", left, "after", removeEvery, "err", err)
	case len(left) > 0:
		log.Info("removed what another mode left on this node", "found", left)
	}
	return err == nil
}

// removeLater is for what could not be removed at once.
func removeLater(ctx context.Context, remove func(context.Context) (left []string, err error), log *slog.Logger) {
	again := time.NewTicker(removeEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
			if removeLeft(ctx, remove, log) {
				return
			}
		}
	}
}
