package gossip

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// What whoever reaches the port can make this process hold. memberlist itself gives each connection a goroutine and 2 s, and
// reads up to 20 MB from it before it knows whether the sender has the key. A state of 100 members takes 200 kB.
const (
	streamsInAll       = 128
	streamsPerAddr     = 16
	streamsOfStrangers = 8       // from addresses where no speaker is known
	bytesPerStream     = 4 << 20 // from a speaker's address
	bytesPerStranger   = 1 << 20 // a member that nobody knows yet brings no more than its own record
	linesPerSecond     = 20      // of memberlist's log: it writes one for each bad packet
)

// guard is memberlist's network transport with bounds on the connections that others open.
type guard struct {
	*memberlist.NetTransport
	bind     netip.Addr
	known    func(netip.Addr) bool
	admitted chan net.Conn
	done     chan struct{}
	running  sync.WaitGroup
	closed   sync.Once

	mu        sync.Mutex // guards the following
	perAddr   map[netip.Addr]int
	inAll     int
	strangers int
}

func newGuard(bind netip.AddrPort, lines io.Writer, known func(netip.Addr) bool) (*guard, error) {
	t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{bind.Addr().String()}, BindPort: int(bind.Port()), Logger: log.New(lines, "", log.LstdFlags)})
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", bind, err)
	}
	g := &guard{NetTransport: t, bind: bind.Addr(), known: known, admitted: make(chan net.Conn), done: make(chan struct{}), perAddr: map[netip.Addr]int{}}
	g.running.Go(g.run)
	return g, nil
}

// Shutdown closes the sockets. It is called by memberlist, or by close if memberlist never came to run.
func (g *guard) Shutdown() (err error) {
	g.closed.Do(func() { err = g.NetTransport.Shutdown() })
	return err
}

// close ends everything, memberlist's use of it first.
func (g *guard) close() {
	_ = g.Shutdown()
	close(g.done)
	g.running.Wait()
}

// StreamCh returns the connections that are admitted.
func (g *guard) StreamCh() <-chan net.Conn { return g.admitted }

// DialAddressTimeout connects from the address that the others know, also where the node has several.
func (g *guard) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(g.bind, 0))}
	return d.Dial("tcp", to.Addr)
}

// run admits or closes connections. It outlives the sockets: they wait for it to take what has been accepted.
func (g *guard) run() {
	for {
		select {
		case <-g.done:
			return
		case conn := <-g.NetTransport.StreamCh():
			admitted := g.admit(conn)
			if admitted == nil {
				_ = conn.Close()
				continue
			}
			select {
			case g.admitted <- admitted:
			case <-g.done:
				_ = admitted.Close()
				return
			}
		}
	}
}

// admit returns conn with its bounds, or nil if there are too many.
func (g *guard) admit(conn net.Conn) net.Conn {
	from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return nil
	}
	addr := from.Addr().Unmap()
	known := g.known(addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inAll >= streamsInAll || g.perAddr[addr] >= streamsPerAddr || !known && g.strangers >= streamsOfStrangers {
		return nil
	}
	b := &boundedConn{Conn: conn, left: bytesPerStream}
	g.inAll++
	g.perAddr[addr]++
	if !known {
		g.strangers++
		b.left = bytesPerStranger
	}
	b.release = sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.inAll--
		if g.perAddr[addr]--; g.perAddr[addr] == 0 {
			delete(g.perAddr, addr)
		}
		if !known {
			g.strangers--
		}
	})
	return b
}

// boundedConn is a connection from which only so much can be read. One goroutine reads it.
type boundedConn struct {
	net.Conn
	left    int
	release func()
}

var errTooMuch = errors.New("the sender exceeds what a member ever sends")

// Read implements io.Reader.
func (c *boundedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// Close implements io.Closer.
func (c *boundedConn) Close() error {
	c.release()
	return c.Conn.Close()
}

// quiet passes on so many lines in each second.
type quiet struct {
	to io.Writer

	mu     sync.Mutex
	second int64
	lines  int
}

// Write implements io.Writer; each call is one line.
func (q *quiet) Write(p []byte) (int, error) {
	q.mu.Lock()
	now := time.Now().Unix()
	if now != q.second {
		q.second, q.lines = now, 0
	}
	q.lines++
	over := q.lines > linesPerSecond
	q.mu.Unlock()
	if over {
		return len(p), nil
	}
	return q.to.Write(p)
}
