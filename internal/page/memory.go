package page

import (
	"context"
	"fmt"
	"time"

	"github.com/fairlead-lb/fairlead/internal/explain"
	"github.com/fairlead-lb/fairlead/lb"
)

// memory gathers facts, one request at a time, and keeps them while they are fresh: however many look at the page, the API server and
// the speakers are asked once. It is safe for concurrent use.
type memory struct {
	source Source
	turn   chan struct{} // holds one token: who has it may use the rest
	facts  map[lb.ServiceKey]gathered
}

type gathered struct {
	facts explain.Facts
	at    time.Time
}

func newMemory(source Source) *memory {
	m := &memory{source: source, turn: make(chan struct{}, 1), facts: map[lb.ServiceKey]gathered{}}
	m.turn <- struct{}{}
	return m
}

// get returns facts that are fresh, and when they were gathered. They are shared: nobody may write to them.
func (m *memory) get(ctx context.Context, of lb.ServiceKey) (*explain.Facts, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-m.turn:
	case <-ctx.Done():
		return nil, time.Time{}, fmt.Errorf("waiting for others' facts: %w", context.Cause(ctx))
	}
	defer func() { m.turn <- struct{}{} }()
	now := time.Now()
	for key, g := range m.facts {
		if now.Sub(g.at) > fresh || len(m.facts) >= kept && key != of {
			delete(m.facts, key)
		}
	}
	g, ok := m.facts[of]
	if !ok {
		facts, err := m.source(ctx, of)
		if err != nil {
			return nil, time.Time{}, err
		}
		g = gathered{facts, time.Now()}
		m.facts[of] = g
	}
	return &g.facts, g.at, nil
}
