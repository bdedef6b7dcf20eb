package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/lb"
)

// redial is how long to wait before the process is looked for again.
const redial = 50 * time.Millisecond

// ClientOptions configures a [Client].
type ClientOptions struct {
	Path    string // of the process's unix socket
	Log     *slog.Logger
	Changed func() // is called when the report has changed; it must not block
}

// Client is the speaker's end. Its methods are safe for concurrent use.
type Client struct {
	o    ClientOptions
	wake chan struct{}

	mu     sync.Mutex
	want   bgp.State
	set    bool // want has been
	report bgp.Report
	there  bool // the process has reported since it was reached
}

// NewClient returns a Client that has nothing to say.
func NewClient(o ClientOptions) (*Client, error) {
	if o.Path == "" || o.Log == nil || o.Changed == nil {
		return nil, errors.New("process: Path, Log and Changed are required")
	}
	return &Client{o: o, wake: make(chan struct{}, 1)}, nil
}

// Set says what is wanted from now on. The state must not be changed afterwards. It does not block.
func (c *Client) Set(s bgp.State) {
	c.mu.Lock()
	c.want, c.set = s, true
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Report returns what the process has said last. While it is away, no session is established, and Seq stays: routers may keep
// what they were told.
func (c *Client) Report() bgp.Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := bgp.Report{Sessions: slices.Clone(c.report.Sessions), Seq: c.report.Seq}
	if c.there {
		return out
	}
	known := map[string]bgp.Session{}
	for _, s := range out.Sessions {
		known[s.Peer] = s
	}
	out.Sessions = nil
	for _, p := range c.want.Peers {
		s := known[p.Name]
		s.Peer, s.State, s.Reason = p.Name, bgp.Idle, lb.BGPProcessDown
		s.Message = "the process of the BGP sessions does not answer; it is started again at once: see the log of the container bgp"
		s.PrefixesIn, s.Sent, s.Pending = 0, 0, len(p.Paths)
		out.Sessions = append(out.Sessions, s)
	}
	return out
}

// Run keeps the connection until ctx is done. The process takes its end for a crash unless the last State said Keep or had no paths.
func (c *Client) Run(ctx context.Context) error {
	for logged := false; ctx.Err() == nil; {
		err := c.connect(ctx, func() { logged = false })
		c.mu.Lock()
		was := c.there
		c.there = false
		c.mu.Unlock()
		if was {
			c.o.Changed()
		}
		if ctx.Err() == nil && !logged {
			c.o.Log.Warn("process of the bgp sessions not reached", "err", err)
			logged = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(redial):
		}
	}
	return nil
}

// connect holds one connection until it breaks.
func (c *Client) connect(ctx context.Context, reached func()) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.o.Path)
	if err != nil {
		return err
	}
	defer conn.Close()
	g, work := errgroup.WithContext(ctx)
	stop := context.AfterFunc(work, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()
	g.Go(func() error { return c.hear(work, conn, reached) })
	g.Go(func() error { return c.say(work, conn) })
	return g.Wait()
}

// say sends what is wanted, and that we live.
func (c *Client) say(ctx context.Context, conn net.Conn) error {
	send := func(m message) error {
		_ = conn.SetWriteDeadline(time.Now().Add(ioTime))
		return write(conn, m)
	}
	if err := send(message{Version: Version}); err != nil {
		return err
	}
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	var told bgp.State
	for first := true; ; {
		ended := ctx.Err() != nil // before we look: the last State is told too
		c.mu.Lock()
		want, set := c.want, c.set
		c.mu.Unlock()
		if set && (first || want.Seq != told.Seq || !want.Equal(told)) {
			d := diff(told, want)
			if err := send(message{State: &d}); err != nil {
				return err
			}
			told, first = want, false
		}
		if ended {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-c.wake:
		case <-tick.C:
			if err := send(message{}); err != nil {
				return err
			}
		}
	}
}

// hear takes the process's reports.
func (c *Client) hear(ctx context.Context, conn net.Conn, reached func()) error {
	for first := true; ; first = false {
		_ = conn.SetReadDeadline(time.Now().Add(silence))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		m, err := read(conn, maxReport)
		if err != nil {
			return err
		}
		if first {
			if err := greet(m); err != nil {
				return err
			}
			c.o.Log.Info("process of the bgp sessions reached")
			reached()
		}
		if m.Report == nil {
			continue
		}
		if len(m.Report.Sessions) > maxSessions {
			return fmt.Errorf("reading a report: it has %d sessions", len(m.Report.Sessions))
		}
		c.mu.Lock()
		c.report, c.there = *m.Report, true
		c.mu.Unlock()
		c.o.Changed()
	}
}

// maxSessions is the greatest number of sessions that a report may have: the process is not trusted with our memory.
const maxSessions = 1000
