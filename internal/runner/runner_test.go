package runner

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// calls runs r's function in a bubble, lets script act on it, and returns when each call started.
func calls(t *testing.T, o Options, fn func(n int) error, script func(r *Runner)) []time.Duration {
	t.Helper()
	var at []time.Duration
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		r := New(func(context.Context) error {
			at = append(at, time.Since(start))
			return fn(len(at))
		}, o)
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		script(r)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return at
}

func succeed(int) error { return nil }

func TestRunner(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name   string
		o      Options
		fn     func(n int) error
		script func(r *Runner)
		want   []time.Duration
	}{
		{name: "one call at the start", fn: succeed, script: func(*Runner) { time.Sleep(time.Hour) }, want: []time.Duration{0}},
		{name: "triggers are merged and keep the minimum interval", o: Options{MinInterval: 50 * ms}, fn: succeed,
			script: func(r *Runner) {
				for range 10 {
					r.Trigger()
					time.Sleep(10 * ms)
				}
				time.Sleep(time.Hour)
			}, want: []time.Duration{0, 50 * ms, 100 * ms}},
		{name: "a trigger after a rest is served at once", o: Options{MinInterval: 50 * ms}, fn: succeed,
			script: func(r *Runner) { time.Sleep(time.Second); r.Trigger(); time.Sleep(time.Second) }, want: []time.Duration{0, time.Second}},
		{name: "the maximum interval calls without a trigger", o: Options{MinInterval: 10 * ms, MaxInterval: time.Second}, fn: succeed,
			script: func(*Runner) { time.Sleep(2500 * ms) }, want: []time.Duration{0, time.Second, 2 * time.Second}},
		{name: "a trigger just after such a call does not wait", o: Options{MinInterval: 50 * ms, MaxInterval: time.Second}, fn: succeed,
			script: func(r *Runner) {
				time.Sleep(1010 * ms)
				r.Trigger()
				time.Sleep(10 * ms)
				r.Trigger()
				time.Sleep(time.Second)
			}, want: []time.Duration{0, time.Second, 1010 * ms, 1060 * ms}},
		{name: "failures are repeated with growing delay", o: Options{RetryMin: 100 * ms, RetryMax: 300 * ms},
			fn: func(n int) error {
				if n < 5 {
					return errors.New("not yet")
				}
				return nil
			},
			script: func(*Runner) { time.Sleep(time.Hour) }, want: []time.Duration{0, 100 * ms, 300 * ms, 600 * ms, 900 * ms}},
		{name: "a trigger does not wait for the retry", o: Options{RetryMin: time.Minute, RetryMax: time.Minute},
			fn:     func(n int) error { return map[int]error{1: errors.New("not yet")}[n] },
			script: func(r *Runner) { time.Sleep(time.Second); r.Trigger(); time.Sleep(time.Hour) }, want: []time.Duration{0, time.Second}},
		{name: "a trigger during a call causes another", fn: func(int) error { time.Sleep(time.Second); return nil },
			script: func(r *Runner) { time.Sleep(500 * ms); r.Trigger(); time.Sleep(time.Hour) }, want: []time.Duration{0, time.Second}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, calls(t, tt.o, tt.fn, tt.script)); d != "" {
				t.Errorf("calls (-want +got):\n%s", d)
			}
		})
	}
}

func TestOptionsThatContradict(t *testing.T) {
	for _, o := range []Options{{MinInterval: -1}, {MinInterval: 2, MaxInterval: 1}, {RetryMin: 2, RetryMax: 1}} {
		if _, err := o.validate(); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}
