package bfd

import "time"

// Receive takes a packet that was parsed by [Parse] and arrived at the given time, preferably by the kernel's clock
// (RFC 5880 section 6.8.6). A discarded packet has changed nothing, but for DropAdminDown, where it was noted what the peer is.
// Call [Session.Tick] afterwards.
func (s *Session) Receive(p Packet, at time.Time) Drop {
	if p.YourDiscriminator != 0 && p.YourDiscriminator != s.local {
		return DropNoSession
	}
	if drop := s.authenticate(&p, at); drop != "" {
		return drop
	}
	s.remote = remote{discriminator: p.MyDiscriminator, state: p.State, diag: p.Diag, demand: p.Demand, multiplier: p.Multiplier,
		minRx: p.RequiredMinRx, minTx: p.DesiredMinTx}
	s.excused = false
	if at.After(s.heard) {
		s.heard = at
	}
	if s.state == AdminDown {
		return DropAdminDown
	}
	if p.Final && p.YourDiscriminator != 0 {
		s.finish(at)
	}
	s.follow(p.State, at)
	s.final = s.final || p.Poll
	return ""
}

// authenticate checks the packet's authentication section and moves the window of sequence numbers.
func (s *Session) authenticate(p *Packet, at time.Time) Drop {
	if drop := s.cfg.Auth.verify(p); drop != "" {
		return drop
	}
	if s.cfg.Auth.Type < KeyedMD5 {
		return ""
	}
	known := !s.seqSeen.IsZero() && at.Sub(s.seqSeen) < 2*s.DetectionTime() // RFC 5880 section 6.8.1, bfd.AuthSeqKnown
	if known && !inWindow(s.cfg.Auth.Type, s.rcvSeq, p.Auth.Sequence, max(p.Multiplier, s.cfg.Multiplier)) {
		return DropSequence
	}
	s.rcvSeq, s.seqSeen = p.Auth.Sequence, at
	return ""
}

// follow changes our state according to the peer's (the state machine of RFC 5880 sections 6.2 and 6.8.6).
func (s *Session) follow(remote State, at time.Time) {
	switch {
	case remote == AdminDown:
		if s.state != Down {
			s.enter(Down, DiagNeighborSignaledDown, CausePeerAdminDown, at)
		}
	case s.state == Down && remote == Down:
		s.enter(Init, DiagNone, CauseHandshake, at)
	case s.state == Down && remote == Init, s.state == Init && remote != Down:
		s.enter(Up, DiagNone, CauseHandshake, at)
	case s.state == Up && remote == Down:
		s.enter(Down, DiagNeighborSignaledDown, CausePeerDown, at)
	}
}

// startPoll begins a poll sequence, or another one after that which is under way: an answer may belong to its older packets.
func (s *Session) startPoll() {
	s.poll.again = s.poll.active && !s.poll.begun.IsZero()
	s.poll.active = true
	s.urgent = true
}

// finish ends a poll sequence: the peer goes by our new intervals from now on, and so do we.
func (s *Session) finish(at time.Time) {
	s.asked.open = max(0, s.asked.open-1)
	if !s.poll.active || s.poll.begun.IsZero() || at.Before(s.poll.begun) {
		return
	}
	if s.poll.stale > 0 && at.Sub(s.poll.begun) < s.DetectionTime() {
		s.poll.stale--
		return
	}
	s.roundTrip = s.poll.begun
	again := s.poll.again
	s.poll = poll{}
	if again {
		s.startPoll()
		return
	}
	s.tx, s.rx = s.desired, s.required
}

// TxInterval returns the transmit interval that is in use, before jitter (RFC 5880 section 6.8.2). It is 0 if the peer wants no
// periodic packets.
func (s *Session) TxInterval() time.Duration {
	if s.remote.minRx == 0 {
		return 0
	}
	return max(s.tx, s.remote.minRx)
}

// DetectionTime returns after how long a silence the peer is called down (RFC 5880 section 6.8.4). It is 0 if it was never heard.
func (s *Session) DetectionTime() time.Duration {
	return time.Duration(s.remote.multiplier) * max(s.rx, s.remote.minTx)
}

// periodic tells whether packets may be sent periodically (RFC 5880 sections 6.6 and 6.8.7).
func (s *Session) periodic() bool {
	switch {
	case s.cfg.Passive && s.remote.discriminator == 0, s.remote.minRx == 0:
		return false
	case s.remote.demand && s.state == Up && s.remote.state == Up:
		return s.poll.active
	}
	return true
}

// due returns when the next periodic packet is due. The interval may have become shorter since the last one was sent.
func (s *Session) due() time.Time {
	return s.sent.Add(time.Duration(float64(s.TxInterval()) * s.factor))
}

// Late returns how long ago the periodic packet that now sends was due, if one is.
func (s *Session) Late(now time.Time) (time.Duration, bool) {
	late := now.Sub(s.due())
	return late, late >= 0 && s.periodic()
}

// Next returns when Tick must be called if nothing else happens; zero means never.
func (s *Session) Next() time.Time {
	var next time.Time
	if s.remote.discriminator != 0 {
		next = s.heard.Add(s.DetectionTime())
	}
	if due, ok := s.nextTx(); ok && (next.IsZero() || due.Before(next)) {
		next = due
	}
	return next
}

func (s *Session) nextTx() (time.Time, bool) {
	switch {
	case s.final:
		return s.heard, true
	case s.urgent && s.mayAnnounce():
		return s.sent, true
	}
	return s.due(), s.periodic()
}

// mayAnnounce tells whether a change may be sent between the periodic packets. Demand mode and a Required Min RX of 0 forbid
// periodic packets only.
func (s *Session) mayAnnounce() bool { return !s.cfg.Passive || s.remote.discriminator != 0 }

// Tick does what is due: it calls the peer down if it has been silent for the detection time, and appends to out what has to
// be sent now, at most two packets.
func (s *Session) Tick(now time.Time, out []Packet) []Packet {
	s.expire(now)
	if s.final {
		s.final = false
		p := s.packet()
		p.Final = true
		out = append(out, s.sign(p))
	}
	if !(s.urgent && s.mayAnnounce()) && (!s.periodic() || now.Before(s.due())) {
		return out
	}
	s.urgent = false
	s.sent, s.factor = now, s.jitter()
	p := s.packet()
	p.Poll = s.poll.active
	if p.Poll {
		s.ask(now)
	}
	return append(out, s.sign(p))
}

// ask notes that a poll is sent. Those that were not answered for a detection time never will be.
func (s *Session) ask(now time.Time) {
	if now.Sub(s.asked.last) >= s.DetectionTime() {
		s.asked.open = 0
	}
	if s.poll.begun.IsZero() {
		s.poll.begun, s.poll.stale = now, s.asked.open
	}
	s.asked.open++
	s.asked.last = now
}

// expire notices that the peer has been silent for the detection time (RFC 5880 sections 6.8.1 and 6.8.4).
func (s *Session) expire(now time.Time) {
	if s.remote.discriminator == 0 || now.Before(s.heard.Add(s.DetectionTime())) {
		return
	}
	if s.state == Init || s.state == Up {
		s.enter(Down, DiagDetectionTimeExpired, CauseDetectionExpired, now)
	}
	// The multiplier and the interval stay: the sequence number is forgotten after twice the detection time.
	s.remote.discriminator, s.remote.state, s.remote.demand, s.remote.minRx = 0, Down, false, time.Microsecond
}

// jitter draws which part of the interval is waited (RFC 5880 section 6.8.7).
func (s *Session) jitter() float64 {
	if s.cfg.Multiplier == 1 {
		return 0.75 + 0.15*s.dice()
	}
	return 0.75 + 0.25*s.dice()
}

func (s *Session) packet() Packet {
	return Packet{Diag: s.diag, State: s.state, ControlPlane: s.cfg.Independent, Multiplier: s.cfg.Multiplier, MyDiscriminator: s.local,
		YourDiscriminator: s.remote.discriminator, DesiredMinTx: s.desired, RequiredMinRx: s.required}
}

func (s *Session) sign(p Packet) Packet {
	s.cfg.Auth.sign(&p, s.xmitSeq)
	s.xmitSeq++ // the kinds that are not meticulous leave it to us when
	return p
}
