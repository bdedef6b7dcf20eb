package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fairlead-lb/fairlead/lab/reaper"
)

// Pauses between restarts, and how long a program has to run for the pause to
// start again at its minimum.
const (
	minPause = 500 * time.Millisecond
	maxPause = 10 * time.Second
	wellTime = 30 * time.Second

	// stopGrace is how long a program may take to obey before it is killed. The API
	// server, which serves nobody new meanwhile, would wait a minute for its watchers.
	stopGrace = 5 * time.Second
)

// Spec is a program to run.
type Spec struct {
	Name string   `json:"name"`
	Argv []string `json:"argv"` // path and arguments
	Env  []string `json:"env"`  // added to the environment
	Log  string   `json:"log"`  // file that standard output and error are appended to
}

// Options are what a Daemon needs besides its Spec.
type Options struct {
	Reaper *reaper.Reaper
	Log    *slog.Logger
	// Start starts cmd; nil means Reaper.Start. The supervisor enters a namespace first.
	Start func(cmd *exec.Cmd) (*reaper.Child, error)
}

// Daemon runs a Spec. Its methods are safe for concurrent use.
type Daemon struct {
	spec     Spec
	options  Options
	requests chan request
	pid      atomic.Int64
}

type request struct {
	start  bool
	signal syscall.Signal // to stop with
	done   chan error
}

// New returns a Daemon; Run starts it.
func New(spec Spec, options Options) *Daemon {
	if options.Start == nil {
		options.Start = options.Reaper.Start
	}
	return &Daemon{spec: spec, options: options, requests: make(chan request)}
}

// Name is that of the Spec.
func (d *Daemon) Name() string { return d.spec.Name }

// Pid is that of the running program, 0 when none runs.
func (d *Daemon) Pid() int { return int(d.pid.Load()) }

// Start has a stopped program started, and returns when it is. It does nothing when
// the program runs.
func (d *Daemon) Start(ctx context.Context) error {
	return d.request(ctx, request{start: true})
}

// Stop ends the program with signal and returns when it has ended; it stays ended
// until Start. It does nothing when no program runs.
func (d *Daemon) Stop(ctx context.Context, signal syscall.Signal) error {
	return d.request(ctx, request{signal: signal})
}

func (d *Daemon) request(ctx context.Context, r request) error {
	r.done = make(chan error, 1)
	select {
	case d.requests <- r:
	case <-ctx.Done():
		return fmt.Errorf("waiting for %s: %w", d.spec.Name, ctx.Err())
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("waiting for %s: %w", d.spec.Name, ctx.Err())
	}
}

// Run keeps the program running until ctx ends. It leaves the program alone then:
// what ends a Daemon's owner, pid 1, ends the program too.
func (d *Daemon) Run(ctx context.Context) error {
	pause := minPause
	for ctx.Err() == nil {
		begin := time.Now()
		child, err := d.launch()
		if err != nil {
			d.options.Log.Error("daemon not started", "daemon", d.spec.Name, "err", err)
		} else {
			err = d.watch(ctx, child)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err == nil { // stopped and started again on request
			pause = minPause
			continue
		}
		if time.Since(begin) > wellTime {
			pause = minPause
		}
		d.options.Log.Warn("daemon ended, restarting", "daemon", d.spec.Name, "pause", pause, "err", err)
		if !d.pause(ctx, pause) {
			pause = minPause
			continue
		}
		pause = min(2*pause, maxPause)
	}
	return nil
}

func (d *Daemon) launch() (*reaper.Child, error) {
	log, err := os.OpenFile(d.spec.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(d.spec.Argv[0], d.spec.Argv[1:]...)
	cmd.Env = append(os.Environ(), d.spec.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	child, err := d.options.Start(cmd)
	if err != nil {
		return nil, err
	}
	d.pid.Store(int64(child.Pid))
	d.options.Log.Info("daemon started", "daemon", d.spec.Name, "pid", child.Pid)
	return child, nil
}

// watch returns how the child ended by itself, or nil after it was stopped and is
// to be started again.
func (d *Daemon) watch(ctx context.Context, child *reaper.Child) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-child.Done():
			d.pid.Store(0)
			if err := child.Err(); err != nil {
				return err
			}
			return fmt.Errorf("exit status 0")
		case r := <-d.requests:
			if r.start {
				r.done <- nil
				continue
			}
			if err := stop(child, r.signal); err != nil {
				r.done <- err
				continue
			}
			d.pid.Store(0)
			d.options.Log.Info("daemon stopped", "daemon", d.spec.Name)
			r.done <- nil
			d.idle(ctx)
			return nil
		}
	}
}

func stop(child *reaper.Child, signal syscall.Signal) error {
	if err := child.Signal(signal); err != nil {
		return err
	}
	select {
	case <-child.Done():
		return nil
	case <-time.After(stopGrace):
	}
	if err := child.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-child.Done()
	return nil
}

// idle waits for the request to start again.
func (d *Daemon) idle(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-d.requests:
			r.done <- nil
			if r.start {
				return
			}
		}
	}
}

// pause waits before a restart. It reports false when a request took its place.
func (d *Daemon) pause(ctx context.Context, length time.Duration) bool {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return true
	case <-timer.C:
		return true
	case r := <-d.requests:
		r.done <- nil
		if !r.start {
			d.idle(ctx)
		}
		return false
	}
}
