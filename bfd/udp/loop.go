package udp

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/bfd"
)

// loop is the state of the thread.
type loop struct {
	g               *Group
	sessions        map[Peer]*session
	byDiscriminator map[uint32]*session
	byRemote        map[netip.Addr][]*session
	all             []*session // and those that say goodbye
	receivers       map[endpoint]*receiver
	sources         map[uint16]bool // ports in use

	applied   *map[Peer]Config // the last want
	rebuild   bool             // the sockets have changed: polled is out of date
	polled    []unix.PollFd    // eventfd, receivers, then the sending sockets if Options.Refused
	owners    []*session       // of polled
	dirty     bool             // something that Sessions shows has changed
	published time.Time

	reader *reader
	out    []bfd.Packet
	buffer [bfd.MaxSize]byte
	roll   float64 // the dice of this round, if Options.Aligned
	lazy   bool    // packets wait in the sockets for the next round
	woke   int64   // the last round, CLOCK_BOOTTIME
	slept  time.Time
}

func newLoop(g *Group) *loop {
	return &loop{g: g, sessions: map[Peer]*session{}, byDiscriminator: map[uint32]*session{}, byRemote: map[netip.Addr][]*session{},
		receivers: map[endpoint]*receiver{}, sources: map[uint16]bool{}, rebuild: true, dirty: true,
		reader: newReader(), out: make([]bfd.Packet, 0, 2)}
}

// dice is what sessions roll. Those that shall send at the same moment see the same.
func (l *loop) dice() float64 {
	if l.g.o.Aligned {
		return l.roll
	}
	return rand.Float64()
}

// run serves the sessions until ctx is done and every peer has been told.
func (l *loop) run(ctx context.Context) error {
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and its priority with it
	l.prepare()
	defer l.end()
	for {
		now, err := l.wait()
		if err != nil {
			return fmt.Errorf("waiting for bfd packets on %d sockets: %w", len(l.polled), err)
		}
		l.roll = rand.Float64()
		slept := l.checkSleep(now)
		l.receive(now)
		if slept {
			l.resume(now)
		}
		if want := l.g.want.Load(); want != l.applied && ctx.Err() == nil {
			l.applied = want
			l.apply(now)
		}
		if ctx.Err() != nil {
			for _, s := range l.sessions {
				l.leave(s, now)
			}
		}
		l.round(now)
		if ctx.Err() != nil && len(l.sessions)+len(l.all) == 0 {
			return nil
		}
	}
}

// prepare asks for what the thread needs; without it the sessions work, but worse.
func (l *loop) prepare() {
	l.g.metrics.realtime.Set(0)
	if err := l.g.o.realtime(); err != nil {
		l.g.note(true, "sending bfd without real-time priority: a busy machine may be called dead; give CAP_SYS_NICE", "err", err)
	} else if l.g.o.Priority > 0 {
		l.g.metrics.realtime.Set(1)
	}
	if err := l.g.o.lock(); err != nil {
		l.g.note(true, "running bfd in memory that may be paged out; give CAP_IPC_LOCK", "err", err)
	}
	l.woke = boottime()
}

// end closes what is open.
func (l *loop) end() {
	for _, s := range l.all {
		l.closeSending(s)
	}
	clear(l.sessions)
	l.closeUnused()
	l.g.limit.Store(0)
	l.g.ticked.Store(0)
	l.g.stale.Store(false)
	l.publish(time.Now())
}

// wait sleeps until a packet comes, a session is due or somebody calls, and returns the time. Whatever arrived before that
// time is in the sockets; who has not been heard by then has been silent.
func (l *loop) wait() (time.Time, error) {
	l.collect()
	l.listen()
	timeout := max(0, time.Until(l.next()))
	ts := unix.NsecToTimespec(int64(timeout))
	for {
		_, err := unix.Ppoll(l.polled, &ts, nil)
		switch err {
		case nil, unix.EINTR:
			return time.Now(), nil
		case unix.ENOMEM:
			time.Sleep(time.Millisecond)
		default:
			return time.Time{}, err
		}
	}
}

// collect lists the sockets to wait for.
func (l *loop) collect() {
	if !l.rebuild {
		return
	}
	l.rebuild = false
	l.polled = append(l.polled[:0], unix.PollFd{Fd: int32(l.g.wake), Events: unix.POLLIN})
	for _, r := range l.receivers {
		l.polled = append(l.polled, unix.PollFd{Fd: int32(r.fd), Events: unix.POLLIN})
	}
	l.owners = append(l.owners[:0], make([]*session, len(l.polled))...)
	if !l.g.o.Refused {
		return
	}
	for _, s := range l.all {
		if s.fd >= 0 {
			l.polled = append(l.polled, unix.PollFd{Fd: int32(s.fd)}) // errors only
			l.owners = append(l.owners, s)
		}
	}
}

// listen decides whether packets wake the loop. With Options.Batched and nothing to learn from them but that the peers live
// they wait for the next round, at the latest when a peer has to be judged: all of them are read then, and their timestamps count.
func (l *loop) listen() {
	l.lazy = l.g.o.Batched && !l.g.stale.Load() && !slices.ContainsFunc(l.all, func(s *session) bool { return !s.bfd.Steady() })
	events := int16(unix.POLLIN)
	if l.lazy {
		events = 0
	}
	for i := range l.polled[1 : 1+len(l.receivers)] {
		l.polled[1+i].Events = events
	}
}

// next returns when something is due.
func (l *loop) next() time.Time {
	next := l.published.Add(publishEvery)
	if limit := time.Duration(l.g.limit.Load()); limit > 0 {
		next = earlier(next, time.Now().Add(limit/2)) // to be seen awake
	}
	for _, s := range l.all {
		switch {
		case s.farewells > 0:
			next = earlier(next, s.farewell)
		case s.fd < 0:
			next = earlier(earlier(next, s.retry), s.bfd.Next())
		default:
			next = earlier(earlier(next, s.bfd.Next()), s.pace.Next())
		}
	}
	return next
}

// earlier returns the earlier of two times; a zero one means never.
func earlier(a, b time.Time) time.Time {
	if b.IsZero() || !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}

// round does what is due at now.
func (l *loop) round(now time.Time) {
	l.align(now)
	for i := len(l.all) - 1; i >= 0; i-- { // backwards: a session that has said goodbye is removed
		s := l.all[i]
		if s.farewells > 0 {
			l.sayGoodbye(s, now)
			continue
		}
		if s.fd < 0 && !now.Before(s.retry) {
			l.open(s, now)
		}
		if due := s.pace.Next(); !due.IsZero() && !now.Before(due) {
			l.configure(s, now)
		}
		if due := s.bfd.Next(); !due.IsZero() && !now.Before(due) {
			l.tick(s, now)
		}
	}
	l.g.limit.Store(int64(l.gapLimit(now)))
	if l.dirty || now.Sub(l.published) >= publishEvery {
		l.publish(now)
	}
}

// align lets all sessions that are Up send now if one of them is due.
func (l *loop) align(now time.Time) {
	if !l.g.o.Aligned {
		return
	}
	base, due := time.Duration(0), false
	for _, s := range l.sessions {
		if !s.bfd.Sending() {
			continue
		}
		if d := s.bfd.TxInterval(); base == 0 || d < base {
			base = d
		}
		due = due || !now.Before(s.bfd.Next())
	}
	if !due {
		return
	}
	for _, s := range l.sessions {
		s.bfd.Hasten(now, base)
	}
}

// tick lets a session do what is due, and passes on what comes of it.
func (l *loop) tick(s *session, now time.Time) {
	if late, ok := s.bfd.Late(now); ok {
		l.g.metrics.sendLate.Observe(late.Seconds())
	}
	l.out = s.bfd.Tick(now, l.out[:0])
	for _, p := range l.out {
		l.transmit(s, p, now)
	}
	l.report(s, now)
}

// report passes on the changes of a session.
func (l *loop) report(s *session, now time.Time) {
	events := s.bfd.Events()
	for _, e := range events {
		l.dirty = true
		l.g.metrics.transitions.WithLabelValues(e.To.String(), string(e.Cause)).Inc()
		l.g.note(false, "bfd session changed", "peer", s.peer, "state", e.To, "was", e.From, "reason", e.Cause)
		if s.farewells == 0 {
			l.g.o.Changed(s.peer, e)
		}
		if s.pace.Observe(e, s.want.DesiredMinTx*time.Duration(s.want.Multiplier)) {
			l.g.metrics.falseAlarms.Inc()
		}
	}
	if len(events) > 0 && l.g.o.Widen {
		l.configure(s, now)
	}
}
