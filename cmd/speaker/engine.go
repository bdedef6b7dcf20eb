package main

import (
	"context"
	"io"
	"log/slog"
	"runtime"

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
