package neighbour

import (
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/lb"
)

// Conflict says that another station uses an address that is or shall be announced on a link.
type Conflict struct {
	Addr      netip.Addr
	Interface string
	MAC       lb.MAC
}

// Options configures a [Responder]. The functions are called from its goroutines and must not block nor call back into it.
type Options struct {
	Log        *slog.Logger
	Registerer prometheus.Registerer
	Changed    func()         // what Working, Conflicts or the next Set return has changed
	Conflict   func(Conflict) // about an announced address at most every 10 s, about a probed one after each attempt that was answered

	// Speaker reports whether mac belongs to another speaker, whose probes and claims are settled by election; nil = no mac does.
	Speaker func(mac lb.MAC) bool

	// MayAnswer is asked before anything is sent; while it is false, nothing is. nil = always true.
	MayAnswer func() bool

	// Rate is how many announcements and probes are sent per second over all addresses and links; default 5000, least 100.
	Rate int
}

func (o Options) validate() (Options, error) {
	if o.Rate == 0 {
		o.Rate = 5000
	}
	if o.Speaker == nil {
		o.Speaker = func(lb.MAC) bool { return false }
	}
	if o.MayAnswer == nil {
		o.MayAnswer = func() bool { return true }
	}
	switch {
	case o.Log == nil || o.Registerer == nil || o.Changed == nil || o.Conflict == nil:
		return o, errors.New("neighbour: Log, Registerer, Changed and Conflict are required")
	case o.Rate < 100:
		return o, errors.New("neighbour: Rate is below 100 per second")
	}
	return o, nil
}

const (
	pace          = 10 * time.Millisecond // between two batches of announcements and probes
	retryOpen     = time.Second           // after a socket could not be opened
	reopen        = pace * 10             // after a socket has failed: its link may be going down, of which we shall hear
	refreshMin    = 60 * time.Second      // switches age a port's addresses after 300 s, some much sooner
	refreshSpread = 40 * time.Second
	conflictEvery = 10 * time.Second // RFC 5227 DEFEND_INTERVAL
	defendEvery   = time.Second      // per address; shorter than the RFC's, because we do not yield afterwards
	probeAgain    = 25 * time.Second // after a conflict
	probeSoon     = time.Second      // after another station has probed for the address too
	probeSpread   = 10 * time.Second
	fencePoll     = pace // how soon the end of a fence is noticed
)
