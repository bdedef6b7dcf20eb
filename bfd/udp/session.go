package udp

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/bfd"
)

const (
	retryOpen    = time.Second           // after a socket could not be opened
	refusedEvery = 5 * time.Second       // believe an ICMP port unreachable no more often: somebody might forge them
	farewells    = 3                     // AdminDown packets of a session that ends: one may be lost
	farewellGap  = 10 * time.Millisecond // between two of them
)

// session is a session with its sending socket. Only the loop touches it.
type session struct {
	peer Peer
	want Config
	bfd  *bfd.Session
	pace bfd.Pace

	fd      int // -1 = not open
	source  uint16
	iface   int // 0 = any
	from    endpoint
	retry   time.Time // open the sockets then
	err     error
	refused time.Time // when we last believed that

	farewells int // still to send; the session has left the tables
	farewell  time.Time
}

// endpoint is what a receiving socket is bound to.
type endpoint struct {
	addr  netip.AddrPort
	iface int // of a link-local address
}

// receiver is a receiving socket. Several sessions may share it.
type receiver struct {
	fd      int
	emptied time.Time // when it was last known to be empty
}

// apply makes the sessions those that are wanted.
func (l *loop) apply(now time.Time) {
	want := *l.g.want.Load()
	for _, s := range l.sorted() {
		if _, ok := want[s.peer]; !ok {
			l.leave(s, now)
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(want), compare) {
		s, ok := l.sessions[p]
		if ok {
			s.want = want[p]
			l.configure(s, now)
			continue
		}
		l.start(p, want[p], now)
	}
	l.closeUnused()
}

func compare(a, b Peer) int {
	if c := a.Remote.Compare(b.Remote); c != 0 {
		return c
	}
	return strings.Compare(a.String(), b.String())
}

// sorted returns the sessions in the order of their peers.
func (l *loop) sorted() []*session {
	return slices.SortedFunc(maps.Values(l.sessions), func(a, b *session) int { return compare(a.peer, b.peer) })
}

// start begins a session that is not there yet.
func (l *loop) start(p Peer, c Config, now time.Time) {
	discriminator := rand.Uint32()
	for discriminator == 0 || l.byDiscriminator[discriminator] != nil {
		discriminator = rand.Uint32()
	}
	l.roll = rand.Float64()
	b, err := bfd.New(c.Config, discriminator, l.dice, now)
	if err != nil {
		panic("udp: Set let an invalid configuration pass: " + err.Error())
	}
	s := &session{peer: p, want: c, bfd: b, fd: -1}
	l.sessions[p] = s
	l.byDiscriminator[discriminator] = s
	l.byRemote[p.Remote] = append(l.byRemote[p.Remote], s)
	l.all = append(l.all, s)
	l.open(s, now)
}

// configure gives a session what is wanted of it, widened by its pace.
func (l *loop) configure(s *session, now time.Time) {
	c := s.want.Config
	if l.g.o.Widen {
		factor := time.Duration(s.pace.Factor(now))
		c.DesiredMinTx = min(c.DesiredMinTx*factor, time.Hour)
		c.RequiredMinRx = min(c.RequiredMinRx*factor, time.Hour)
	}
	c.AdminDown = c.AdminDown || s.farewells > 0
	if err := s.bfd.SetConfig(c, now); err != nil {
		panic("udp: Set let an invalid configuration pass: " + err.Error())
	}
}

// leave takes a session out of the tables; it says goodbye and is closed then.
func (l *loop) leave(s *session, now time.Time) {
	delete(l.sessions, s.peer)
	delete(l.byDiscriminator, s.bfd.Status().Discriminator)
	l.byRemote[s.peer.Remote] = slices.DeleteFunc(l.byRemote[s.peer.Remote], func(o *session) bool { return o == s })
	if len(l.byRemote[s.peer.Remote]) == 0 {
		delete(l.byRemote, s.peer.Remote)
	}
	s.farewells, s.farewell = farewells, now
	l.configure(s, now)
}

// sayGoodbye repeats the last packet of a session that leaves.
func (l *loop) sayGoodbye(s *session, now time.Time) {
	if now.Before(s.farewell) {
		return
	}
	s.farewells--
	s.farewell = now.Add(farewellGap)
	s.bfd.Announce()
	l.tick(s, now)
	if s.farewells == 0 {
		l.closeSending(s)
		l.all = slices.DeleteFunc(l.all, func(o *session) bool { return o == s })
	}
}

// open opens what sockets the session lacks.
func (l *loop) open(s *session, now time.Time) {
	iface, err := interfaceIndex(s.peer)
	if err == nil {
		s.iface = iface
		s.from = endpoint{addr: netip.AddrPortFrom(s.peer.Local, l.g.o.port(s.peer))}
		if s.peer.Local.IsLinkLocalUnicast() {
			s.from.iface = iface
		}
		err = l.openSockets(s, now)
	}
	if err != nil {
		l.g.metrics.sendErrors.Inc()
		l.broken(s, err, now)
		return
	}
	if s.err != nil {
		l.g.note(false, "bfd session can send again", "peer", s.peer)
	}
	s.err, s.retry = nil, time.Time{}
	l.dirty = true
}

func (l *loop) openSockets(s *session, now time.Time) error {
	if l.receivers[s.from] == nil {
		fd, err := listen(s.from.addr, s.from.iface)
		if err != nil {
			return err
		}
		l.receivers[s.from] = &receiver{fd: fd, emptied: now}
	}
	fd, source, err := dial(s.peer, s.from.addr.Port(), s.iface, l.sources)
	if err != nil {
		return err
	}
	s.fd, s.source = fd, source
	l.sources[source] = true
	l.rebuild = true
	return nil
}

// broken notes that the session cannot send or listen; it is logged once.
func (l *loop) broken(s *session, err error, now time.Time) {
	if s.err == nil {
		l.g.note(true, "bfd session cannot send", "peer", s.peer, "err", err)
	}
	l.closeSending(s)
	s.err, s.retry = err, now.Add(retryOpen)
	l.dirty = true
}

func (l *loop) closeSending(s *session) {
	if s.fd < 0 {
		return
	}
	_ = unix.Close(s.fd) // nothing is lost with it
	delete(l.sources, s.source)
	s.fd = -1
	l.rebuild = true
}

// closeUnused closes receiving sockets that no session needs.
func (l *loop) closeUnused() {
	used := map[endpoint]bool{}
	for _, s := range l.sessions {
		used[s.from] = true
	}
	for e, r := range l.receivers {
		if !used[e] {
			_ = unix.Close(r.fd) // nothing is lost with it
			delete(l.receivers, e)
			l.rebuild = true
		}
	}
}

// transmit sends one packet of the session.
func (l *loop) transmit(s *session, p bfd.Packet, now time.Time) {
	if s.fd < 0 {
		return
	}
	wire := p.Append(l.buffer[:0])
	_, err := unix.Write(s.fd, wire)
	if errors.Is(err, unix.ECONNREFUSED) { // that was the answer to an earlier packet; this one is not sent yet
		l.refuse(s, now)
		_, err = unix.Write(s.fd, wire)
	}
	if err == nil {
		l.g.metrics.sent.Inc()
		return
	}
	l.g.metrics.sendErrors.Inc()
	if gone(err) && s.bfd.State() != bfd.Up { // an Up session may see the link come back before its detection time ends
		l.broken(s, fmt.Errorf("sending to %s: %w", s.peer.Remote, err), now)
	}
}

// gone tells whether the interface or the address of the socket may be gone for good: then it takes a new socket to send again.
func gone(err error) bool {
	var code unix.Errno
	return errors.As(err, &code) &&
		slices.Contains([]unix.Errno{unix.ENODEV, unix.ENXIO, unix.EINVAL, unix.ENETUNREACH, unix.ENETDOWN, unix.EADDRNOTAVAIL}, code)
}

// refuse takes note of an ICMP port unreachable: where the peer is one of our own processes, it is dead.
func (l *loop) refuse(s *session, now time.Time) {
	if l.g.o.Refused && now.Sub(s.refused) >= refusedEvery && s.bfd.Fail(bfd.CauseRefused, now) {
		s.refused = now
	}
}
