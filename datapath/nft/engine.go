package nft

import (
	"context"
	"fmt"
	"time"

	"github.com/fairlead-lb/fairlead/datapath"
)

// Flows forgets what the kernel remembers about connections that the state no longer has an endpoint for; datapath/conntrack
// does it.
type Flows interface {
	Forget(ctx context.Context, have, want datapath.State) error
}

// Engine is the whole datapath in one table. It is not safe for concurrent use.
type Engine struct {
	table *Table
	flows Flows
	have  datapath.State
	known bool // have is what the kernel holds, not merely the zero value
}

// NewEngine returns an engine on a table that was opened with Forward.
func NewEngine(t *Table, flows Flows) *Engine {
	return &Engine{table: t, flows: flows}
}

// Name returns "nft".
func (e *Engine) Name() string { return "nft" }

// Sync makes the kernel hold want and returns what it holds: all of it, or on error what it held before. A want equal to the last
// one costs two small netlink requests and writes nothing.
func (e *Engine) Sync(ctx context.Context, want datapath.State, now time.Time) (datapath.State, error) {
	want = want.Plain()
	if err := e.table.Set(ctx, want, now); err != nil {
		return e.have, err
	}
	before, same := e.have, e.known && e.have.Equal(want)
	e.have, e.known = want, true
	if same {
		return e.have, nil
	}
	if err := e.flows.Forget(ctx, before, want); err != nil {
		return e.have, fmt.Errorf("forgetting flows: %w", err)
	}
	return e.have, nil
}

// Writes returns how many transactions were committed so far.
func (e *Engine) Writes() int { return e.table.writes }

// Cleanup removes everything the engine ever wrote. Connections that conntrack knows go on.
func (e *Engine) Cleanup(ctx context.Context) error {
	e.have, e.known = datapath.State{}, false
	return e.table.Delete(ctx)
}
