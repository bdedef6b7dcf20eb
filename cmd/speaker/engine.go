package main

import (
	"context"
	"io"
	"log/slog"
	"runtime"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/fairlead-lb/fairlead/datapath/engine"
	"github.com/fairlead-lb/fairlead/datapath/link"
	"github.com/fairlead-lb/fairlead/internal/speaker"
)

// openEngine opens the datapath engine, none in mode none, and says in the log which one it is and why.
func (p *process) openEngine(ctx context.Context, f config, log *slog.Logger) (speaker.Engine, error) {
	if f.mode == "none" {
		return nil, nil
	}
	logrus.SetOutput(io.Discard) // the IPVS library complains there about what engine.Open reports properly
	o := engine.Options{Name: f.engine, ProcSys: f.procSys, Mark: uint32(f.mark)}
	if f.forwarding.Full {
		o.CPUs = runtime.NumCPU()
	}
	c, err := engine.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	p.settings = c.Keep
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

// keepEvery is how often kernel settings are looked at again.
const keepEvery = 30 * time.Second

// keepSettings raises kernel settings again that somebody has lowered, until ctx is done: without ip_forward no packet reaches a pod, and
// without arp_ignore every node answers for every address.
func keepSettings(ctx context.Context, procSys string, settings []link.Sysctl, log *slog.Logger) {
	every(ctx, keepEvery, func() (done bool) {
		raised, err := link.Raise(procSys, settings...)
		for _, s := range raised {
			log.Warn("somebody lowered a kernel setting, raised again; look for it in /etc/sysctl.conf and /etc/sysctl.d", "setting", s.String())
		}
		if err != nil {
			log.Warn("kernel settings not raised again", "err", err)
		}
		return false
	})
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
	every(ctx, removeEvery, func() (done bool) { return removeLeft(ctx, remove, log) })
}

// every calls do at each interval from now on, until it is done or ctx is.
func every(ctx context.Context, interval time.Duration, do func() (done bool)) {
	again := time.NewTicker(interval)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
			if do() {
				return
			}
		}
	}
}
