package udp

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/bfd"
)

// receive reads every socket until it is empty.
func (l *loop) receive(now time.Time) {
	if l.polled[0].Revents != 0 {
		var counter [8]byte
		_, _ = unix.Read(l.g.wake, counter[:]) // its value says nothing
	}
	for _, r := range l.receivers {
		for {
			n, err := l.reader.read(r.fd)
			if err != nil {
				l.g.metrics.sendErrors.Inc()
				break
			}
			for i := range n {
				d := l.reader.datagram(i)
				if drop := l.deliver(&d, r, now); drop != "" {
					l.g.metrics.drop(drop)
				}
			}
			if n < batch {
				break
			}
		}
		r.emptied = now
	}
	for i, p := range l.polled {
		if s := l.owners[i]; s != nil && p.Revents != 0 && s.fd == int(p.Fd) {
			l.pendingError(s, now)
		}
	}
}

// pendingError takes the error that the network has sent to a session's socket.
func (l *loop) pendingError(s *session, now time.Time) {
	code, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && unix.Errno(code) == unix.ECONNREFUSED {
		l.refuse(s, now)
		l.report(s, now)
	}
}

// deliver gives a packet to its session, or says why it is discarded (RFC 5880 section 6.8.6, RFC 5881 section 5, RFC 5883
// section 4).
func (l *loop) deliver(d *datagram, r *receiver, now time.Time) bfd.Drop {
	p, drop := bfd.Parse(d.payload)
	if drop != "" {
		return drop
	}
	s, drop := l.find(d, p.YourDiscriminator, r)
	if drop != "" {
		return drop
	}
	at := d.arrived(now, r.emptied)
	before := s.bfd.RoundTrip()
	if drop := s.bfd.Receive(p, at); drop != "" {
		return drop
	}
	l.g.metrics.received.Inc()
	if !l.lazy {
		l.g.metrics.receiveLate.Observe(now.Sub(at).Seconds())
	}
	if rt := s.bfd.RoundTrip(); rt.After(before) {
		l.confirm(s, rt)
	}
	l.dirty = l.dirty || p.Poll || p.Final // intervals may have changed
	l.report(s, now)
	return ""
}

// find returns the session to which a packet belongs. The discriminator alone would do where there is one, but a packet from
// elsewhere is nobody's that we know.
func (l *loop) find(d *datagram, discriminator uint32, r *receiver) (*session, bfd.Drop) {
	if discriminator != 0 {
		s := l.byDiscriminator[discriminator]
		if s == nil {
			return nil, bfd.DropNoSession
		}
		return s, l.admits(s, d, r)
	}
	drop := DropSource
	for _, s := range l.byRemote[d.from] {
		if drop = l.admits(s, d, r); drop == "" {
			return s, ""
		}
	}
	return nil, drop
}

func (l *loop) admits(s *session, d *datagram, r *receiver) bfd.Drop {
	least := 255
	switch {
	case s.peer.Multihop && s.want.MinTTL != 0:
		least = int(s.want.MinTTL)
	case s.peer.Multihop:
		least = DefaultMinTTL
	}
	switch {
	case d.from != s.peer.Remote, l.receivers[s.from] != r,
		!s.peer.Local.IsUnspecified() && d.to != s.peer.Local,
		s.iface != 0 && d.iface != s.iface:
		return DropSource
	case d.ttl < least:
		return DropTTL
	}
	return ""
}

// gapLimit returns how long we may sleep unnoticed from now on: the shortest time until a peer would call us down, which counts
// from the last packet that we sent and not from the last time that we were awake. 0 = nobody watches us.
func (l *loop) gapLimit(now time.Time) time.Duration {
	var limit time.Duration
	for _, s := range l.sessions {
		if !s.bfd.Sending() {
			continue
		}
		if l.g.o.GapLimit > 0 {
			return l.g.o.GapLimit
		}
		patience := s.bfd.TxInterval() * time.Duration(s.want.Multiplier)
		if d := max(1, s.bfd.Sent().Add(patience).Sub(now)); limit == 0 || d < limit {
			limit = d
		}
	}
	return limit
}

// checkSleep notices that the loop was asleep for longer than it may, and says so before it says that it is awake.
func (l *loop) checkSleep(now time.Time) bool {
	boot := boottime()
	gap, limit := time.Duration(boot-l.woke), time.Duration(l.g.limit.Load())
	slept := limit > 0 && gap > limit
	if slept {
		l.g.stale.Store(true)
		l.g.sleeps.Add(1) // before ticked says that we are awake
		l.slept = now
		l.g.metrics.gaps.Inc()
		if l.g.o.Slept != nil {
			l.g.o.Slept(gap)
		}
		l.g.note(true, "bfd was asleep", "gap", gap, "limit", limit)
	}
	l.woke = boot
	l.g.ticked.Store(boot)
	return slept
}

// resume begins anew after a sleep, with what had arrived meanwhile read: nobody is accused of what we may have missed, and a
// round trip with every peer is begun.
func (l *loop) resume(now time.Time) {
	for _, s := range l.sessions {
		s.bfd.Excuse(now)
		s.bfd.Probe()
	}
}

// confirm takes note of a round trip.
func (l *loop) confirm(s *session, begun time.Time) {
	l.dirty = true
	if l.g.stale.Load() && !begun.Before(l.slept) {
		l.g.stale.Store(false)
		if l.g.o.Confirmed != nil {
			l.g.o.Confirmed(s.peer)
		}
	}
}

// publish shows the sessions to others.
func (l *loop) publish(now time.Time) {
	shown := make(map[Peer]Session, len(l.sessions))
	var count [4]int
	for p, s := range l.sessions {
		shown[p] = Session{Status: s.bfd.Status(), Err: s.err, Factor: s.pace.Factor(now)}
		count[s.bfd.State()]++
	}
	l.g.shown.Store(&shown)
	for state, n := range count {
		l.g.metrics.sessions.WithLabelValues(bfd.State(state).String()).Set(float64(n))
	}
	l.dirty, l.published = false, now
}
