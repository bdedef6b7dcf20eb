package nft

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fairlead-lb/fairlead/datapath"
)

// Flows forgets what the kernel remembers about connections that the state no longer has an endpoint for; datapath/conntrack
// does it. Of have and want it needs the servers in which they differ. Every Sync calls it, if only for what an earlier call has left undone.
type Flows interface {
	Forget(ctx context.Context, have, want datapath.State) error
}

// Engine is the whole datapath in one table. It is not safe for concurrent use.
type Engine struct {
	table *Table
	flows Flows
}

// NewEngine returns an engine on a table that was opened with Forward.
func NewEngine(t *Table, flows Flows) *Engine {
	return &Engine{table: t, flows: flows}
}

// Name returns "nft".
func (e *Engine) Name() string { return "nft" }

// Sync makes the kernel hold want and returns what it holds: all of it, or all but what the reached state's Refused and the error say,
// or on any other error what it held before. A want equal to the last one costs two small netlink requests and writes nothing.
func (e *Engine) Sync(ctx context.Context, want datapath.State, now time.Time) (datapath.State, error) {
	from, to, err := e.table.set(ctx, want, now)
	to.NodeAddrs = want.NodeAddrs // of a difference, which from and to are, it has only the new ones
	forgetting := e.flows.Forget(ctx, from, to)
	if forgetting != nil {
		forgetting = fmt.Errorf("forgetting flows: %w", forgetting)
	}
	var rejected datapath.Rejected
	if other := rejected.Add(err); other != nil {
		return e.table.have, errors.Join(other, forgetting)
	}
	return e.table.have.Lacking(nil, rejected), errors.Join(err, forgetting)
}

// Writes returns how many transactions were committed so far.
func (e *Engine) Writes() int { return e.table.writes }

// Cleanup removes everything the engine ever wrote. Connections that conntrack knows go on.
func (e *Engine) Cleanup(ctx context.Context) error {
	return e.table.Delete(ctx)
}
