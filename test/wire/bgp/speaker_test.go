//go:build wire

package bgp

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/announce/bgp/session"
	"github.com/fairlead-lb/fairlead/lb"
	"github.com/fairlead-lb/fairlead/test/router"
)

// The addresses of both ends of the cable.
var (
	us4, us6     = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	them4, them6 = netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")
)

const (
	ourASN   = 64512
	theirASN = 64513
)

// link is a router's namespace at the other end of our cable v0.
func link(t *testing.T) *router.Host {
	t.Helper()
	h := router.NewHost(t)
	router.Cable(t, nil, "v0", []string{us4.String() + "/24", us6.String() + "/64"}, h, "eth0", []string{them4.String() + "/24", them6.String() + "/64"})
	return h
}

// peer is a neighbour with usual settings.
func peer(name string, addr netip.Addr) bgp.Peer {
	return bgp.Peer{Name: name, Addr: addr, Port: 179, MyASN: ourASN, PeerASN: theirASN, RouterID: us4, HoldTime: 9 * time.Second, Keepalive: 3 * time.Second,
		ConnectRetry: time.Second, Families: []lb.Family{lb.IPv4, lb.IPv6}}
}

// paths are single addresses of both families.
func paths(prefixes ...string) (out []bgp.Path) {
	for _, s := range prefixes {
		out = append(out, bgp.Path{Prefix: netip.MustParsePrefix(s)})
	}
	slices.SortFunc(out, func(a, b bgp.Path) int { return a.Prefix.Compare(b.Prefix) })
	return out
}

// speaker is a Speaker in this process.
type speaker struct {
	*session.Speaker
	t    *testing.T
	stop func()
}

func start(t *testing.T, peers ...bgp.Peer) *speaker {
	t.Helper()
	s := &speaker{t: t}
	var err error
	s.Speaker, err = session.New(session.Options{Log: slog.New(slog.NewTextHandler(logs{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	router.Check(t, err)
	s.set(peers...)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	s.stop = sync.OnceFunc(func() { cancel(); router.Check(t, <-ended) })
	t.Cleanup(s.stop)
	return s
}

type logs struct{ t *testing.T }

var _ io.Writer = logs{}

// Write implements io.Writer.
func (l logs) Write(b []byte) (int, error) { l.t.Log(strings.TrimSpace(string(b))); return len(b), nil }

func (s *speaker) set(peers ...bgp.Peer) {
	s.Set(bgp.State{Peers: peers, Complete: true, Preserved: true})
}

// session returns how the session with a peer is.
func (s *speaker) session(name string) bgp.Session {
	for _, x := range s.Report().Sessions {
		if x.Peer == name {
			return x
		}
	}
	return bgp.Session{}
}

// up waits until the session is established and all is told.
func (s *speaker) up(name string) time.Duration {
	s.t.Helper()
	defer func() {
		if s.t.Failed() {
			s.t.Logf("%+v", s.session(name))
		}
	}()
	return router.Until(s.t, name+" established", func() bool { x := s.session(name); return x.State == bgp.Established && x.Pending == 0 })
}

// refused waits until the session is down for a reason.
func (s *speaker) refused(name string, want lb.Reason) bgp.Session {
	s.t.Helper()
	defer func() {
		if s.t.Failed() {
			s.t.Logf("%+v", s.session(name))
		}
	}()
	router.Until(s.t, name+" down for "+string(want), func() bool { x := s.session(name); return x.State != bgp.Established && x.Reason == want })
	x := s.session(name)
	s.t.Logf("%s: %s (last error: %s)", x.Reason, x.Message, x.LastError)
	return x
}
