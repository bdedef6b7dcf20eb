package supervisor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/lab/control"
)

// progress is the list of steps so far, which any number of clients can follow.
type progress struct {
	begin time.Time

	mu    sync.Mutex
	steps []control.Step
	more  chan struct{} // closed and replaced when a step was added
	ended bool
}

func newProgress() *progress {
	return &progress{begin: time.Now(), more: make(chan struct{})}
}

func (p *progress) step(format string, args ...any) {
	p.add(control.Step{Text: fmt.Sprintf(format, args...)})
}

func (p *progress) ready(text string) { p.add(control.Step{Text: text, Ready: true}) }

func (p *progress) fail(err error) { p.add(control.Step{Error: err.Error()}) }

func (p *progress) add(step control.Step) {
	p.mu.Lock()
	defer p.mu.Unlock()
	step.Elapsed = time.Since(p.begin)
	p.steps = append(p.steps, step)
	p.ended = step.Ready || step.Error != ""
	close(p.more)
	p.more = make(chan struct{})
}

// isReady reports whether the lab has come up.
func (p *progress) isReady() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended && p.steps[len(p.steps)-1].Ready
}

// hasEnded reports whether the lab has come up or has given up.
func (p *progress) hasEnded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

// follow calls each for every step, until the last one or the end of ctx.
func (p *progress) follow(ctx context.Context, each func(control.Step) error) error {
	for next := 0; ; {
		p.mu.Lock()
		steps, more, ended := p.steps[next:], p.more, p.ended
		p.mu.Unlock()
		for _, step := range steps {
			if err := each(step); err != nil {
				return err
			}
		}
		next += len(steps)
		if ended {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-more:
		}
	}
}
