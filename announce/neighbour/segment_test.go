package neighbour_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/announce/arp"
	"github.com/fairlead-lb/fairlead/announce/ndp"
	. "github.com/fairlead-lb/fairlead/announce/neighbour"
	"github.com/fairlead-lb/fairlead/lb"
)

var (
	ours    = lb.MAC{2, 0, 0, 0, 0, 1}
	ours1   = lb.MAC{2, 0, 0, 0, 1, 1} // of eth1
	theirs  = lb.MAC{2, 0, 0, 0, 0, 2}
	peers   = lb.MAC{2, 0, 0, 0, 0, 3} // another speaker's
	station = lb.MAC{2, 0, 0, 0, 0, 0x64}
)

// protocol is a codec and what a test needs to know of it.
type protocol struct {
	Codec
	peer                        Codec // another station's: its probes have another nonce
	vip, other, client, foreign netip.Addr
	ask                         func(addr netip.Addr) []byte             // what a client's host sends
	answer                      func(addr netip.Addr, mac lb.MAC) []byte // to a probe
	nth                         func(i int) netip.Addr
}

func protocols() map[string]protocol {
	v4, v6 := netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("2001:db8::200")
	return map[string]protocol{
		"arp": {
			Codec: arp.Codec{}, peer: arp.Codec{}, vip: v4, other: netip.MustParseAddr("192.0.2.201"), client: netip.MustParseAddr("192.0.2.100"), foreign: v6,
			ask: func(a netip.Addr) []byte {
				return arp.Packet{EthDst: arp.Broadcast(), EthSrc: station, Op: arp.Request, SenderMAC: station, SenderIP: netip.MustParseAddr("192.0.2.100"), TargetIP: a}.Append(nil)
			},
			answer: func(a netip.Addr, mac lb.MAC) []byte {
				return arp.Packet{EthDst: ours, EthSrc: mac, Op: arp.Reply, SenderMAC: mac, SenderIP: a, TargetMAC: ours, TargetIP: netip.IPv4Unspecified()}.Append(nil)
			},
			nth: func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) },
		},
		"ndp": {
			Codec: ndp.NewCodec(), peer: ndp.NewCodec(), vip: v6, other: netip.MustParseAddr("2001:db8::201"), client: netip.MustParseAddr("2001:db8::100"), foreign: v4,
			ask: func(a netip.Addr) []byte {
				p := ndp.Probe(a, station, [6]byte{})
				p.Src, p.HasNonce, p.LinkAddr, p.HasLinkAddr = netip.MustParseAddr("2001:db8::100"), false, station, true
				return p.Append(nil)
			},
			answer: func(a netip.Addr, mac lb.MAC) []byte { return ndp.Unsolicited(a, mac).Append(nil) },
			nth: func(i int) netip.Addr {
				return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(i >> 8), 15: byte(i)})
			},
		},
	}
}

// segment is a fake Ethernet: it keeps what was sent on each link and delivers what the test puts there. It is the protocol's
// codec, with sockets of its own.
type segment struct {
	protocol
	start time.Time
	may   atomic.Bool            // MayAnswer
	known atomic.Pointer[lb.MAC] // of another speaker

	mu        sync.Mutex
	sent      []sent
	wires     map[string]*fakeWire
	deny      map[string]bool // links whose socket cannot be opened
	conflicts []Conflict
	changed   int
}

// sent is a frame that has left: an announcement, a probe or an answer.
type sent struct {
	At          time.Duration
	Iface, What string
	Addr        netip.Addr
	MAC         lb.MAC
}

// read describes a frame of ours.
func (s *segment) read(frame []byte) sent {
	v := s.peer.Judge(frame, nil, lb.MAC{}, nil)
	out := sent{Addr: v.Claim.Addr, MAC: v.Claim.MAC, What: "answer"}
	if v.Claim.Probe {
		out.What = "probe"
	}
	if slices.ContainsFunc(s.Announcement(out.Addr, out.MAC), func(b []byte) bool { return string(b) == string(frame) }) {
		out.What = "announcement"
	}
	return out
}

// Listen implements Codec.
func (s *segment) Listen(l lb.Link) (Wire, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deny[l.Name] {
		return nil, errors.New("operation not permitted")
	}
	w := &fakeWire{segment: s, name: l.Name, in: make(chan []byte, 16), closed: make(chan struct{}), joined: map[netip.Addr]bool{}}
	s.wires[l.Name] = w
	return w, nil
}

// refuse has the sockets of a link not be opened, or be opened again.
func (s *segment) refuse(iface string, deny bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deny[iface] = deny
}

// wire is the responder's last socket on iface.
func (s *segment) wire(iface string) *fakeWire {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wires[iface]
}

// deliver hands a frame to the responder's socket on iface and waits until it was handled.
func (s *segment) deliver(iface string, frame []byte) {
	s.wire(iface).in <- frame
	synctest.Wait()
}

// taken returns what was sent since the last call.
func (s *segment) taken() []sent {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.sent
	s.sent = nil
	return out
}

// count returns how many of the frames are what.
func count(frames []sent, what string) (n int) {
	for _, f := range frames {
		if f.What == what {
			n++
		}
	}
	return n
}

func (s *segment) reported() []Conflict {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.conflicts)
}

type fakeWire struct {
	segment *segment
	name    string
	in      chan []byte
	closed  chan struct{}
	once    sync.Once
	joined  map[netip.Addr]bool // guarded by segment.mu
}

func (w *fakeWire) Read(b []byte) (int, error) {
	select {
	case f := <-w.in:
		return copy(b, f), nil
	case <-w.closed:
		return 0, io.EOF
	}
}

func (w *fakeWire) Write(b []byte) (int, error) {
	s := w.segment.read(b)
	s.At, s.Iface = time.Since(w.segment.start), w.name
	w.segment.mu.Lock()
	defer w.segment.mu.Unlock()
	w.segment.sent = append(w.segment.sent, s)
	return len(b), nil
}

func (w *fakeWire) Join(a netip.Addr) error {
	w.segment.mu.Lock()
	defer w.segment.mu.Unlock()
	w.joined[a] = true
	return nil
}

func (w *fakeWire) Leave(a netip.Addr) error {
	w.segment.mu.Lock()
	defer w.segment.mu.Unlock()
	delete(w.joined, a)
	return nil
}

func (w *fakeWire) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}

func up(name string, index int, mac lb.MAC) lb.Link {
	return lb.Link{Name: name, Index: index, MAC: mac, Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64")}}
}

func links() []lb.Link { return []lb.Link{up("eth0", 2, ours), up("eth1", 3, ours1)} }

func on(epoch uint64, ifaces ...string) announce.Target {
	return announce.Target{Interfaces: ifaces, Epoch: epoch}
}

func probed(epoch uint64, ifaces ...string) announce.Target {
	return announce.Target{Interfaces: ifaces, Epoch: epoch, Probe: true}
}

type targets = map[netip.Addr]announce.Target

// withResponder runs script beside a running responder whose links eth0 and eth1 are up, once per protocol.
func withResponder(t *testing.T, script func(t *testing.T, r *Responder, s *segment)) {
	t.Helper()
	for name, p := range protocols() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &segment{protocol: p, start: time.Now(), wires: map[string]*fakeWire{}, deny: map[string]bool{}}
				s.may.Store(true)
				s.known.Store(&peers)
				r, err := New(name, s, Options{Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), MayAnswer: s.may.Load,
					Speaker:  func(mac lb.MAC) bool { return mac == *s.known.Load() },
					Changed:  func() { s.mu.Lock(); defer s.mu.Unlock(); s.changed++ },
					Conflict: func(c Conflict) { s.mu.Lock(); defer s.mu.Unlock(); s.conflicts = append(s.conflicts, c) }})
				if err != nil {
					t.Fatal(err)
				}
				r.SetLinks(links())
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- r.Run(ctx) }()
				synctest.Wait()
				script(t, r, s)
				cancel()
				if err := <-done; err != nil {
					t.Errorf("Run: %v", err)
				}
				if len(r.Working()) != 0 {
					t.Error("sockets are open after Run")
				}
			})
		})
	}
}
