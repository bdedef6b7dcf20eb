package udp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Group serves many sessions with one thread. Create it with [New]; it works while Run runs. Its methods may be called from any
// goroutine, before Run, during it and afterwards, and never wait for the thread.
type Group struct {
	o       Options
	metrics *metrics
	notices chan notice

	mu   sync.Mutex // guards wake against being closed; the loop takes it only when it has ended
	wake int        // eventfd; -1 = closed

	want  atomic.Pointer[map[Peer]Config]
	shown atomic.Pointer[map[Peer]Session]

	// For Fresh, on CLOCK_BOOTTIME in nanoseconds.
	ticked atomic.Int64 // when the loop was last awake; 0 = it does not run
	limit  atomic.Int64 // how long it may sleep; 0 = nobody watches us
	stale  atomic.Bool  // it has slept too long, and no round trip was confirmed since
	sleeps atomic.Uint64
}

// notice is a line for the log, which the loop does not write itself.
type notice struct {
	message string
	args    []any
	warn    bool
}

// New returns a Group without sessions.
func New(o Options) (*Group, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("creating an eventfd: %w", err)
	}
	g := &Group{o: o, metrics: newMetrics(o.Registerer, o.Name), wake: wake, notices: make(chan notice, 256)}
	g.want.Store(&map[Peer]Config{})
	g.shown.Store(&map[Peer]Session{})
	return g, nil
}

// Set makes want the whole set of sessions. New ones are started, others get their new configuration while they run, and the
// peers of those that are gone are told AdminDown. What is invalid is left out and named in the error; the rest is served.
func (g *Group) Set(want map[Peer]Config) error {
	valid := maps.Clone(want)
	var errs []error
	for p, c := range want {
		if err := errors.Join(p.validate(), c.Validate()); err != nil {
			errs = append(errs, fmt.Errorf("setting session %s: %w", p, err))
			delete(valid, p)
		}
	}
	if valid == nil {
		valid = map[Peer]Config{}
	}
	g.want.Store(&valid)
	g.kick()
	return errors.Join(errs...)
}

// Sessions returns how the sessions are. States are of this moment, times and intervals at most a second old. The map is a copy.
func (g *Group) Sessions() map[Peer]Session { return maps.Clone(*g.shown.Load()) }

// Fresh tells whether we may act as one that was not replaced: the loop is awake, and since it last slept for longer than
// Options.GapLimit a peer has answered a poll that was begun afterwards. It is false from the first instruction after a stop of
// the process or the machine, and costs one system call, so that a responder can ask before every answer. A group that never ran
// or has ended, or that no peer watches, is fresh; how long to wait for a round trip when every peer is dead, the caller decides.
func (g *Group) Fresh() bool {
	ticked, limit := g.ticked.Load(), g.limit.Load()
	if g.stale.Load() {
		return false
	}
	return ticked == 0 || limit == 0 || boottime()-ticked <= limit
}

// GoOn makes a group fresh that no peer has answered since it slept, because its caller has waited for long enough. It does not
// undo a sleep that is counted only later.
func (g *Group) GoOn() { g.stale.Store(false) }

// Sleeps returns how often the loop slept for longer than Options.GapLimit. A sleep is counted before Fresh is true again, which
// may be a fraction of a millisecond after waking: who asks Fresh and then Sleeps misses none.
func (g *Group) Sleeps() uint64 { return g.sleeps.Load() }

// Run serves the sessions until ctx is done; then it tells the peers AdminDown, closes the sockets and returns nil. It returns
// an error only if the loop cannot wait for packets. A Group runs once.
func (g *Group) Run(ctx context.Context) error {
	defer g.close()
	group, running := errgroup.WithContext(context.Background())
	stop := context.AfterFunc(ctx, g.kick)
	defer stop()
	group.Go(func() error {
		defer close(g.notices)
		return newLoop(g).run(ctx)
	})
	group.Go(func() error {
		for n := range g.notices {
			if n.warn {
				g.o.Log.WarnContext(running, n.message, n.args...)
			} else {
				g.o.Log.InfoContext(running, n.message, n.args...)
			}
		}
		return nil
	})
	return group.Wait()
}

// kick wakes the loop.
func (g *Group) kick() {
	g.mu.Lock()
	defer g.mu.Unlock()
	one := [8]byte{1}                 // any value but 0 in either byte order
	_, _ = unix.Write(g.wake, one[:]) // fails only if it has been woken 2^56 times, or has ended
}

func (g *Group) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = unix.Close(g.wake) // nothing is lost with it
	g.wake = -1
}

// note hands a line to the log; it is lost if the log is stuck.
func (g *Group) note(warn bool, message string, args ...any) {
	select {
	case g.notices <- notice{message, args, warn}:
	default:
	}
}

// boottime returns CLOCK_BOOTTIME in nanoseconds: it goes on while the machine is suspended.
func boottime() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("udp: reading CLOCK_BOOTTIME: " + err.Error())
	}
	return ts.Nano()
}

// publishEvery is the greatest age of the times in [Group.Sessions].
const publishEvery = time.Second
