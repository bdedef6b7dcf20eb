package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/announce/bgp/session"
)

// Options configures [Serve].
type Options struct {
	Path string // of the unix socket
	Log  *slog.Logger

	// KeepOnCrash is how long the paths stay with the routers after the speaker has crashed, if it is not back by then. 0 = not at
	// all: nobody knows whether this node still forwards.
	KeepOnCrash time.Duration

	// Grace is how long the speaker may take to end after this process was told to stop, less than the pod's grace period. Then the
	// sessions are closed in any case.
	Grace time.Duration
}

func (o Options) validate() error {
	switch {
	case o.Path == "" || o.Log == nil:
		return errors.New("process: Path and Log are required")
	case o.KeepOnCrash < 0 || o.Grace < 0:
		return fmt.Errorf("process: KeepOnCrash %s and Grace %s must not be negative", o.KeepOnCrash, o.Grace)
	}
	return nil
}

// server is the process with the sessions. One goroutine owns the fields below the line.
type server struct {
	o       Options
	speaker *session.Speaker
	joined  chan *client
	said    chan saying
	left    chan *client
	changed chan struct{} // the report

	now   *client // the speaker; nil = away
	state bgp.State
	kept  map[string][]bgp.Path // of a speaker that was to return, until one has said all that it has to say; nil = none
	away  <-chan time.Time      // when they are withdrawn
}

// client is a connection of a speaker.
type client struct {
	conn  *net.UnixConn
	state bgp.State // as it has said
}

type saying struct {
	from  *client
	state bgp.State
}

// Serve runs the sessions until ctx is done and the speaker has ended, or Grace has passed. It returns nil then.
func Serve(ctx context.Context, o Options) error {
	if err := o.validate(); err != nil {
		return err
	}
	s := &server{o: o, joined: make(chan *client), said: make(chan saying), left: make(chan *client), changed: make(chan struct{}, 1)}
	var err error
	s.speaker, err = session.New(session.Options{Log: o.Log, Changed: func() {
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}})
	if err != nil {
		return err
	}
	l, err := listen(o.Path)
	if err != nil {
		return err
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	g, failing := errgroup.WithContext(work)
	context.AfterFunc(failing, func() { l.Close() })
	g.Go(func() error { return s.accept(failing, g, l) })
	g.Go(func() error { return s.speaker.Run(failing) })
	g.Go(func() error { defer stop(); s.run(ctx, failing); return nil })
	return g.Wait()
}

// listen opens the socket anew. The directory is the pod's own; who may connect is asked of the kernel. The file stays when the process
// ends: by then it may be the next one's.
func listen(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing the socket of an earlier process: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o666); err != nil {
		l.Close()
		return nil, fmt.Errorf("opening %s to the speaker: %w", path, err)
	}
	return l, nil
}

// accept takes connections of root and of our own user until the listener is closed.
func (s *server) accept(ctx context.Context, g *errgroup.Group, l *net.UnixListener) error {
	for {
		conn, err := l.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accepting the speaker: %w", err)
		}
		if uid, err := user(conn); err != nil || uid != 0 && uid != os.Getuid() {
			s.o.Log.Warn("stranger at the speaker's socket", "uid", uid, "err", err)
			conn.Close()
			continue
		}
		g.Go(func() error { s.attend(ctx, &client{conn: conn}); return nil })
	}
}

// user returns who is at the other end.
func user(conn *net.UnixConn) (uid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	uid = -1
	if cerr := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid = int(cred.Uid)
		}
	}); cerr != nil {
		return -1, cerr
	}
	return uid, err
}

// attend reads what a speaker says until it ends or is silent.
func (s *server) attend(ctx context.Context, c *client) {
	defer context.AfterFunc(ctx, func() { c.conn.Close() })()
	defer c.conn.Close()
	err := s.hear(ctx, c)
	s.o.Log.Info("speaker has left", "err", err)
	select {
	case s.left <- c:
	case <-ctx.Done():
	}
}

func (s *server) hear(ctx context.Context, c *client) error {
	for first := true; ; first = false {
		_ = c.conn.SetReadDeadline(time.Now().Add(silence))
		m, err := read(c.conn, maxState)
		if err != nil {
			return err
		}
		if first {
			if err := greet(m); err != nil {
				return err
			}
			select {
			case s.joined <- c:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if m.State == nil {
			continue
		}
		c.state = m.State.apply(c.state)
		select {
		case s.said <- saying{c, c.state}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// reportEvery is how often counters that nobody waits for are told.
const reportEvery = time.Second

// run owns what is wanted. It returns when the sessions shall end.
func (s *server) run(ctx, failing context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	stopping := ctx.Done()
	var grace <-chan time.Time
	for {
		joined := s.joined
		if s.now != nil {
			joined = nil // one after the other: the last word of the old one decides what is kept
		}
		select {
		case <-failing.Done():
			return
		case <-stopping:
			stopping, grace = nil, time.After(s.o.Grace)
			s.o.Log.Info("stopping", "speaker", s.now != nil, "grace", s.o.Grace)
		case <-grace: // whether the speaker is still draining or this process alone is replaced, the paths go unless it has said Keep
			return
		case c := <-joined:
			s.join(c)
		case x := <-s.said:
			if x.from == s.now {
				s.state = x.state
				s.set()
			}
		case c := <-s.left:
			s.leave(c)
		case <-s.away:
			s.o.Log.Warn("speaker is not back in time, its paths are withdrawn")
			s.kept, s.away = nil, nil
			s.set()
		case <-s.changed:
			s.report()
		case <-tick.C:
			s.report()
		}
		if stopping == nil && s.now == nil {
			s.state.Keep = s.state.Keep || s.kept != nil // what waits for the speaker's return does so at the routers
			s.set()
			return
		}
	}
}

// join makes a connection the speaker's.
func (s *server) join(c *client) {
	s.o.Log.Info("speaker has joined")
	s.now = c
	if err := s.send(message{Version: Version}); err == nil {
		s.report()
	}
}

// leave decides what becomes of the paths of a speaker that has ended.
func (s *server) leave(c *client) {
	if c != s.now {
		return
	}
	s.now = nil
	if s.state.Keep {
		s.park()
		return
	}
	if hold := s.o.KeepOnCrash; hold > 0 {
		s.o.Log.Warn("paths are kept for the speaker's return", "for", hold)
		s.kept, s.away = map[string][]bgp.Path{}, time.After(hold)
		for _, p := range s.state.Peers {
			s.kept[p.Name] = p.Paths
		}
	}
	s.state = without(s.state)
	s.set()
}

// park closes the sessions with graceful restart in silence before their BFD ends, so that the peers keep the paths themselves, for as
// long as the restart time. The others lose them: nobody would see to it.
func (s *server) park() {
	s.o.Log.Info("speaker is to return: sessions with graceful restart end in silence")
	state := without(s.state)
	state.Keep = true
	state.Peers = slices.DeleteFunc(state.Peers, func(p bgp.Peer) bool { return p.GracefulRestart })
	s.state = state
	s.set()
}

// without returns the state without paths. The sessions stay, so that a speaker that returns announces at once.
func without(state bgp.State) bgp.State {
	peers := state.Peers
	state.Keep, state.Complete, state.Peers = false, false, nil
	for _, p := range peers {
		p.Paths = nil
		state.Peers = append(state.Peers, p)
	}
	return state
}

// set tells the sessions what the speaker wants. Until it has said all, what was kept for it counts too.
func (s *server) set() {
	state := s.state
	if state.Complete {
		s.kept, s.away = nil, nil
	}
	if s.kept != nil {
		state.Peers = slices.Clone(state.Peers)
		for i, p := range state.Peers {
			_, fresh := bgp.Diff(s.kept[p.Name], p.Paths)
			state.Peers[i].Paths = bgp.Apply(s.kept[p.Name], nil, fresh)
		}
	}
	s.speaker.Set(state)
}

// report tells the speaker how the sessions are.
func (s *server) report() {
	if s.now != nil {
		r := s.speaker.Report()
		_ = s.send(message{Report: &r}) // the connection is closed if it fails
	}
}

// send writes to the speaker, which is dropped if it does not read.
func (s *server) send(m message) error {
	_ = s.now.conn.SetWriteDeadline(time.Now().Add(ioTime))
	err := write(s.now.conn, m)
	if err != nil {
		s.now.conn.Close()
	}
	return err
}
