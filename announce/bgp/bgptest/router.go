package bgptest

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/announce/bgp/wire"
	"github.com/fairlead-lb/fairlead/lb"
)

// patience is how long a router waits for anything.
const patience = 30 * time.Second

// T is what the package needs of a test; *testing.T is one. Fatalf must not return.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Router is the other end of sessions.
type Router struct {
	t T
	net.Listener
}

// Listen makes a router on the loopback interface.
func Listen(t T) *Router {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	check(t, err)
	return On(t, l)
}

// On makes a router on a listener, which is closed after the test.
func On(t T, l net.Listener) *Router {
	t.Cleanup(func() { l.Close() })
	return &Router{t, l}
}

// Peer is the router as a neighbour that is told one path.
func (r *Router) Peer() bgp.Peer {
	at := netip.MustParseAddrPort(r.Addr().String())
	return bgp.Peer{Name: "p", Addr: at.Addr(), Port: at.Port(), MyASN: 64512, PeerASN: 64513, RouterID: netip.MustParseAddr("192.0.2.1"), HoldTime: 90 * time.Second,
		Keepalive: 30 * time.Second, ConnectRetry: time.Second, Families: []lb.Family{lb.IPv4, lb.IPv6}, RestartTime: 120 * time.Second,
		Paths: []bgp.Path{{Prefix: netip.MustParsePrefix("198.51.100.1/32")}}}
}

// Accept waits for a connection of ours.
func (r *Router) Accept() *Line {
	r.t.Helper()
	if l, ok := r.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		check(r.t, l.SetDeadline(time.Now().Add(patience)))
	}
	conn, err := r.Listener.Accept()
	check(r.t, err)
	r.t.Cleanup(func() { conn.Close() })
	check(r.t, conn.SetDeadline(time.Now().Add(patience)))
	return &Line{r.t, conn}
}

// Line is a connection as the router has it.
type Line struct {
	t T
	net.Conn
}

// Send sends bytes as they are.
func (l *Line) Send(b []byte) {
	l.t.Helper()
	_, err := l.Write(b)
	check(l.t, err)
}

// Expect skips keepalives and returns the next message, which must be of a kind.
func (l *Line) Expect(kind wire.Type) []byte {
	l.t.Helper()
	for {
		got, body, err := wire.Read(l, make([]byte, wire.MaxMessage))
		check(l.t, err)
		if got == kind {
			return body
		}
		if got != wire.TypeKeepalive {
			l.t.Fatalf("got a message of type %d with %x, want type %d", got, body, kind)
		}
	}
}

// Update returns the next UPDATE.
func (l *Line) Update() wire.Update {
	l.t.Helper()
	u, err := wire.ParseUpdate(l.Expect(wire.TypeUpdate))
	check(l.t, err)
	return u
}

// Notified expects a NOTIFICATION, whatever comes before it.
func (l *Line) Notified(code wire.Code, subcode uint8) {
	l.t.Helper()
	for {
		kind, body, err := wire.Read(l, make([]byte, wire.MaxMessage))
		check(l.t, err)
		if kind == wire.TypeNotification {
			if n := wire.ParseNotification(body); !n.Has(code, subcode) {
				l.t.Fatalf("got %v, want %d/%d", n, code, subcode)
			}
			return
		}
	}
}

// Closed expects the end of the connection without a NOTIFICATION.
func (l *Line) Closed() {
	l.t.Helper()
	for {
		kind, body, err := wire.Read(l, make([]byte, wire.MaxMessage))
		if err != nil {
			if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
				l.t.Fatalf("%v", err)
			}
			return
		}
		if kind == wire.TypeNotification {
			l.t.Fatalf("closed with %v", wire.ParseNotification(body))
		}
	}
}

// Open is what the router says of itself.
func Open() wire.Open {
	return wire.Open{ASN: 64513, ID: netip.MustParseAddr("192.0.2.2"), HoldTime: 90, Families: []lb.Family{lb.IPv4, lb.IPv6}, Graceful: &wire.Graceful{}}
}

// Shake brings a session up and returns our OPEN.
func (l *Line) Shake() wire.Open {
	l.t.Helper()
	ours, err := wire.ParseOpen(l.Expect(wire.TypeOpen))
	check(l.t, err)
	l.Send(Open().Bytes())
	l.Expect(wire.TypeKeepalive)
	l.Send(wire.Keepalive())
	return ours
}

func check(t T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}
