package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/lb"
)

// pair runs node-1 and node-2 until the test ends and returns when they know each other. Transport nil = real sockets.
func pair(t *testing.T, key keyring.Key, addr func(int) netip.AddrPort, transport func(int) *host) (stop func(), members []*Gossip) {
	t.Helper()
	var stops []func()
	for i := range 2 {
		o := Options{Node: lb.NodeName(fmt.Sprintf("node-%d", i+1)), Bind: addr(i), Keys: []keyring.Key{key}, Log: slog.New(slog.DiscardHandler), Changed: func() {},
			Peers: func(context.Context) ([]netip.AddrPort, error) { return []netip.AddrPort{addr(0), addr(1)}, nil }}
		if transport != nil {
			o.Transport = transport(i)
		}
		g, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, g)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		stops = append(stops, func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	until(t, 10*time.Second, func() bool { return len(members[0].Members()) == 2 && len(members[1].Members()) == 2 })
	stop = sync.OnceFunc(func() {
		for _, stop := range stops { // one after the other: who leaves last need not wait for anybody to hear it
			stop()
		}
	})
	t.Cleanup(stop)
	return stop, members
}

// capture returns the datagrams of a whole life of two members with that key: joining, probing, claiming, leaving.
func capture(t *testing.T, key keyring.Key) (packets [][]byte) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		var mu sync.Mutex
		n.tap = func(b []byte) {
			mu.Lock()
			defer mu.Unlock()
			packets = append(packets, slices.Clone(b))
		}
		stop, members := pair(t, key, addrOf, func(i int) *host { return n.newHost(addrOf(i)) })
		members[1].SetSelf(claims(1000))
		until(t, 10*time.Second, func() bool { m := members[0].Members(); return m[1].Claim(netip.MustParseAddr("192.0.2.200")) == 1000 })
		stop()
		time.Sleep(time.Minute) // memberlist's timers
	})
	if len(packets) < 5 {
		t.Fatalf("captured %d datagrams", len(packets))
	}
	return packets
}

// What a stranger sends to the port of real sockets changes nothing and costs a bounded number of goroutines.
func TestStrangersOnTheWire(t *testing.T) {
	key := testKey(7)
	replay, foreign := capture(t, key), capture(t, testKey(8))
	at := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 71, byte(1 + i)}), 17948)
	}
	_, members := pair(t, key, at, nil)
	members[1].SetSelf(claims(1))
	good := func() bool {
		m := members[0].Members()
		return len(m) == 2 && len(m[1].Claims) == 1 && m[1].Claims[0].Epoch == 1 && len(members[1].Members()) == 2
	}
	until(t, 5*time.Second, good)
	before := runtime.NumGoroutine()

	conn, err := net.Dial("udp", at(0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	dice := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		b := make([]byte, dice.IntN(1400))
		for i := range b {
			b[i] = byte(dice.Uint32())
		}
		_, _ = conn.Write(b)
	}
	for _, b := range foreign {
		_, _ = conn.Write(b)
	}
	time.Sleep(50 * time.Millisecond)
	if !good() {
		t.Error("bytes without the key changed something")
	}
	for _, b := range replay { // under the right key, but of earlier processes
		_, _ = conn.Write(b)
		if m := members[0].Members(); len(m) == 2 && m[1].Claim(netip.MustParseAddr("192.0.2.200")) >= 1000 {
			t.Fatal("a replayed claim is believed")
		}
	}

	refused := 0
	start := time.Now()
	for range 200 { // each says a byte and waits
		c, err := net.Dial("tcp", at(0).String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, _ = c.Write([]byte{10})
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); err != nil && !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "timeout") {
			refused++
		}
		if n := runtime.NumGoroutine() - before; n > 3*streamsOfStrangers {
			t.Fatalf("%d goroutines more than before", n)
		}
	}
	t.Logf("%d of 200 idle connections were refused; %s", refused, time.Since(start))
	if refused < 150 {
		t.Errorf("%d of 200 idle connections were refused", refused)
	}
	asked := time.Now()
	members[1].Rejoin()
	until(t, 5*time.Second, func() bool { return members[1].UpToDate(asked) }) // a member is heard beside the strangers
	until(t, 5*time.Second, good)                                              // who is said by the replay to have left contradicts
}

// from is a connection that says it comes from an address.
type from struct {
	net.Conn
	addr string
}

// RemoteAddr implements net.Conn.
func (f from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.addr)) }

func TestGuardBounds(t *testing.T) {
	known := netip.MustParseAddr("192.0.2.1")
	for name, tc := range map[string]struct {
		addr  func(i int) string
		limit int
	}{
		"a speaker":     {func(i int) string { return fmt.Sprintf("192.0.2.1:%d", 1000+i) }, streamsPerAddr},
		"its IPv6 form": {func(i int) string { return fmt.Sprintf("[::ffff:192.0.2.1]:%d", 1000+i) }, streamsPerAddr},
		"a stranger":    {func(i int) string { return fmt.Sprintf("198.51.100.1:%d", 1000+i) }, streamsOfStrangers},
		"strangers":     {func(i int) string { return fmt.Sprintf("198.51.100.%d:1000", i+1) }, streamsOfStrangers},
	} {
		g := &guard{known: func(a netip.Addr) bool { return a == known }, perAddr: map[netip.Addr]int{}}
		var open []net.Conn
		for i := range 200 {
			near, _ := net.Pipe()
			if c := g.admit(from{near, tc.addr(i)}); c != nil {
				open = append(open, c)
			}
		}
		if len(open) != tc.limit {
			t.Errorf("%s: %d connections, want %d", name, len(open), tc.limit)
		}
		for _, c := range open {
			_ = c.Close()
			_ = c.Close() // counts once
		}
		if g.inAll != 0 || g.strangers != 0 || len(g.perAddr) != 0 {
			t.Errorf("%s: after all were closed: %+v", name, g)
		}
	}
}

func TestGuardBoundsWhatIsRead(t *testing.T) {
	near, far := net.Pipe()
	g := &guard{known: func(netip.Addr) bool { return false }, perAddr: map[netip.Addr]int{}}
	c := g.admit(from{near, "198.51.100.1:1"})
	go func() {
		_, _ = io.Copy(far, io.LimitReader(zeros{}, 10*bytesPerStranger))
	}()
	n, err := io.Copy(io.Discard, c)
	if n != bytesPerStranger || !errors.Is(err, errTooMuch) {
		t.Errorf("read %d bytes, %v", n, err)
	}
	_ = c.Close()
}

type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestLogOfAFloodIsShort(t *testing.T) {
	var b strings.Builder
	q := &quiet{to: &b}
	for range 10 * linesPerSecond {
		_, _ = q.Write([]byte("Decrypt packet failed\n"))
	}
	if n := strings.Count(b.String(), "\n"); n < linesPerSecond || n > 3*linesPerSecond {
		t.Errorf("%d lines", n)
	}
}
