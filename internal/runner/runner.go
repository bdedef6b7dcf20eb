package runner

import (
	"context"
	"errors"
	"time"
)

// Options sets the pace of a [Runner].
type Options struct {
	MinInterval time.Duration // least time from the end of one call to the start of the next; 0 = none. One that MaxInterval has made has no rest after it
	MaxInterval time.Duration // longest time without a call; 0 = wait for triggers only
	RetryMin    time.Duration // delay after a first failure, doubled by each further one; default 100 ms
	RetryMax    time.Duration // longest such delay; default 30 s
}

func (o Options) validate() (Options, error) {
	if o.RetryMin == 0 {
		o.RetryMin = 100 * time.Millisecond
	}
	if o.RetryMax == 0 {
		o.RetryMax = 30 * time.Second
	}
	switch {
	case o.MinInterval < 0 || o.RetryMin < 0 || o.MaxInterval < 0:
		return o, errors.New("runner: an interval is negative")
	case o.MaxInterval > 0 && o.MaxInterval < o.MinInterval:
		return o, errors.New("runner: MaxInterval is less than MinInterval")
	case o.RetryMax < o.RetryMin:
		return o, errors.New("runner: RetryMax is less than RetryMin")
	}
	return o, nil
}

// Runner calls one function, never twice at the same time.
type Runner struct {
	fn      func(context.Context) error
	o       Options
	trigger chan struct{}
}

// New returns a Runner for fn. It panics if the options contradict each other. An error from fn means "call me again
// soon"; fn itself logs it.
func New(fn func(context.Context) error, o Options) *Runner {
	o, err := o.validate()
	if err != nil {
		panic(err)
	}
	return &Runner{fn: fn, o: o, trigger: make(chan struct{}, 1)}
}

// Trigger asks for a call that starts after this moment. It never blocks and may be called from any goroutine, before Run
// as well.
func (r *Runner) Trigger() {
	select {
	case r.trigger <- struct{}{}:
	default: // one is pending already, and it will see what we saw
	}
}

// Run calls the function once at the start and then as triggers and intervals ask, until ctx is done; it returns nil.
func (r *Runner) Run(ctx context.Context) error {
	failures, rest := 0, r.o.MinInterval
	for {
		r.drain()
		if err := r.fn(ctx); err != nil {
			failures++
		} else {
			failures = 0
		}
		if !sleep(ctx, rest) {
			return nil
		}
		asked, ok := r.wait(ctx, failures, rest)
		if !ok {
			return nil
		}
		if rest = r.o.MinInterval; !asked && failures == 0 {
			rest = 0
		}
	}
}

// drain forgets a trigger that came before the call that is about to start.
func (r *Runner) drain() {
	select {
	case <-r.trigger:
	default:
	}
}

// wait blocks until the next call is due, after a rest, and reports whether somebody asked for it; ok is false if ctx is done.
func (r *Runner) wait(ctx context.Context, failures int, rest time.Duration) (asked, ok bool) {
	var due <-chan time.Time
	if d, ok := r.delay(failures, rest); ok {
		t := time.NewTimer(d)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-ctx.Done():
		return false, false
	case <-r.trigger:
		asked = true
	case <-due:
	}
	return asked, ctx.Err() == nil
}

// delay is the time from the end of the rest to the next call if nothing triggers it; false means forever.
func (r *Runner) delay(failures int, rest time.Duration) (time.Duration, bool) {
	if failures == 0 {
		return max(r.o.MaxInterval-rest, 0), r.o.MaxInterval > 0
	}
	d := r.o.RetryMin
	for range failures - 1 {
		if d = d * 2; d >= r.o.RetryMax {
			d = r.o.RetryMax
			break
		}
	}
	return d, true
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
