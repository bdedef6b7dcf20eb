package main

import (
	"context"
	"os"
	"runtime/debug"
	"time"
)

const (
	// gcPercent is how much may be allocated between two collections, in percent of what is in use: a third of Go's default. The speaker
	// holds a cluster's Services and allocates little between changes, so a collection costs a node less than the memory would.
	gcPercent = 30

	// afterStart is when what filling the caches took is given back to the node.
	afterStart = 10 * time.Second
)

// collectEarly has less garbage kept than Go does by itself, unless GOGC says how much it shall be.
func collectEarly() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// giveBack returns the memory that only the start has needed to the node. Go would keep it for minutes.
func giveBack(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(afterStart):
		debug.FreeOSMemory()
	}
}
