package bfd

import (
	"errors"
	"fmt"
	"time"
)

// DefaultSlowTx is the least transmit interval that RFC 5880 section 6.8.3 allows while a session is not Up.
const DefaultSlowTx = time.Second

// Config is what one end of a session wants. Intervals are cut to whole microseconds, the unit of the wire.
type Config struct {
	DesiredMinTx  time.Duration // send no more often than this; 1 ms to 1 h
	RequiredMinRx time.Duration // the peer shall send no more often than this; 1 ms to 1 h
	Multiplier    uint8         // the peer calls us down after this many missed packets; 1 to 255

	// SlowTx is the least transmit interval while the session is not Up; 0 means DefaultSlowTx. The RFC demands at least a
	// second of strangers; a shorter one is for sessions between our own processes.
	SlowTx time.Duration

	Passive     bool // send nothing before the peer has spoken
	Independent bool // set the C bit: we go on when the protocol that the peer closes at our end has to be restarted
	AdminDown   bool // hold the session down and tell the peer that this is on purpose
	Auth        Keyring
}

// Validate says what is wrong with the configuration, naming the field, its value and the way out.
func (c Config) Validate() error {
	interval := func(field string, d time.Duration) error {
		if d < time.Millisecond || d > time.Hour {
			return fmt.Errorf("bfd: %s is %s; use 1ms to 1h", field, d)
		}
		return nil
	}
	var slow, mult error
	if c.SlowTx != 0 {
		slow = interval("SlowTx", c.SlowTx)
	}
	if c.Multiplier == 0 {
		mult = errors.New("bfd: Multiplier is 0; use 1 to 255")
	}
	return errors.Join(interval("DesiredMinTx", c.DesiredMinTx), interval("RequiredMinRx", c.RequiredMinRx), slow, mult, c.Auth.validate())
}

func (c Config) normal() Config {
	if c.SlowTx == 0 {
		c.SlowTx = DefaultSlowTx
	}
	c.DesiredMinTx = c.DesiredMinTx.Truncate(time.Microsecond)
	c.RequiredMinRx = c.RequiredMinRx.Truncate(time.Microsecond)
	c.SlowTx = c.SlowTx.Truncate(time.Microsecond)
	return c
}

// Cause says in one word why a session has changed its state; it is a metric's label.
type Cause string

// Why a session changes its state.
const (
	CauseHandshake        Cause = "Handshake"        // both ends hear each other: Init, then Up
	CauseDetectionExpired Cause = "DetectionExpired" // nothing was heard from the peer for the detection time
	CausePeerDown         Cause = "PeerDown"         // the peer says that it does not hear us, or it has restarted
	CausePeerAdminDown    Cause = "PeerAdminDown"    // the peer is going down on purpose
	CauseAdminDown        Cause = "AdminDown"        // we are, or are no longer, administratively down
	CauseRefused          Cause = "Refused"          // the peer's kernel says that nobody listens: the process is dead, the node lives
	CauseLinkDown         Cause = "LinkDown"         // the link has no carrier
)

// Event is a change of a session's state.
type Event struct {
	From, To State
	Diag     Diag
	Cause    Cause
	Peer     uint32    // the peer's discriminator, which tells one instance of it from the next
	At       time.Time // when the packet arrived that made the change, or when it was found out
}

// Session is one end of a BFD session (RFC 5880 section 6.8). Every method takes the present time, which must not go
// backwards by more than the lateness of packets.
//
// The caller passes packets to [Session.Receive], calls [Session.Tick] afterwards and not later than [Session.Next] says, sends
// what Tick returns, and takes what has changed from [Session.Events]. It must have received whatever lies in the socket
// before it calls Tick, or its own lateness is taken for the peer's silence.
type Session struct {
	cfg   Config
	local uint32         // our discriminator
	dice  func() float64 // in [0, 1)

	state  State
	diag   Diag
	since  time.Time // of the state
	events []Event

	remote remote
	heard  time.Time // when the last accepted packet arrived, or see Excuse

	excused bool

	// What we tell the peer, and what we go by: while a poll sequence is under way, the more patient of old and new.
	desired, required time.Duration
	tx, rx            time.Duration

	sent      time.Time // when the last periodic packet was sent, at first when the session was made
	factor    float64   // jitter of the interval after it
	urgent    bool      // send without waiting for the interval
	final     bool      // answer a poll
	poll      poll
	asked     asked
	roundTrip time.Time

	xmitSeq uint32
	rcvSeq  uint32
	seqSeen time.Time // when rcvSeq arrived; zero = never
}

// remote is what the peer's last packet said.
type remote struct {
	discriminator uint32
	state         State
	diag          Diag
	demand        bool
	multiplier    uint8
	minRx, minTx  time.Duration
}

// poll is a poll sequence (RFC 5880 section 6.5).
type poll struct {
	active bool
	begun  time.Time // when the first packet with P was sent; zero before
	again  bool      // what shall be confirmed has changed since: begin another one after this
	stale  int       // so many answers may still come to polls of earlier sequences
}

// asked counts the polls that were not answered, so that an answer to an old one is not taken for one to a new one.
type asked struct {
	open int
	last time.Time
}

// New returns a session in state Down. The discriminator must be random, not 0 and unique in this process. dice returns
// random numbers in [0, 1) for the jitter and the first sequence number.
func New(c Config, discriminator uint32, dice func() float64, now time.Time) (*Session, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if discriminator == 0 {
		return nil, errors.New("bfd: the discriminator is 0; draw another one")
	}
	s := &Session{cfg: c.normal(), local: discriminator, dice: dice, state: Down, since: now, sent: now, remote: unheard()}
	s.xmitSeq = uint32(dice() * (1 << 32))
	if c.AdminDown {
		s.state, s.diag = AdminDown, DiagAdminDown
	}
	s.retime()
	s.urgent = true
	return s, nil
}

// unheard are the initial values of RFC 5880 section 6.8.1.
func unheard() remote { return remote{state: Down, minRx: time.Microsecond} }

// SetConfig changes the configuration. A session that is Up stays so: new intervals are agreed upon by a poll sequence.
func (s *Session) SetConfig(c Config, now time.Time) error {
	if err := c.Validate(); err != nil {
		return err
	}
	c = c.normal()
	if c.Multiplier != s.cfg.Multiplier {
		s.urgent = true
	}
	s.cfg = c
	switch {
	case c.AdminDown && s.state != AdminDown:
		s.enter(AdminDown, DiagAdminDown, CauseAdminDown, now)
	case !c.AdminDown && s.state == AdminDown:
		s.enter(Down, DiagNone, CauseAdminDown, now)
	}
	s.retime()
	return nil
}

// Config returns the present configuration.
func (s *Session) Config() Config { return s.cfg }

// Fail takes an Up session down for a reason that was not found in packets: CauseRefused or CauseLinkDown. It reports whether
// the session was Up.
func (s *Session) Fail(cause Cause, now time.Time) bool {
	if s.state != Up {
		return false
	}
	s.enter(Down, DiagPathDown, cause, now)
	return true
}

// Excuse gives the peer a whole detection time from now on: the caller was not able to hear it until now. It does so once until
// the peer is heard again, so that a caller that is always late still notices a dead peer.
func (s *Session) Excuse(now time.Time) {
	if s.heard.Before(now) && !s.heard.IsZero() && !s.excused {
		s.heard, s.excused = now, true
	}
}

// Probe begins a poll sequence if the session is Up, so that [Status.RoundTrip] grows to now or later once the peer has
// answered. A session that is not Up begins one when it comes up.
func (s *Session) Probe() {
	if s.state == Up {
		s.startPoll()
	}
}

// Announce sends a packet at the next Tick, although nothing has changed.
func (s *Session) Announce() { s.urgent = true }

// Sending tells whether the session is Up and sends periodically.
func (s *Session) Sending() bool { return s.state == Up && s.periodic() }

// Steady tells whether the session is Up with no poll sequence under way: the peer's next packets will most likely say nothing new.
func (s *Session) Steady() bool { return s.state == Up && !s.poll.active }

// Sent returns when the last periodic packet was sent; before the first one, when the session was made.
func (s *Session) Sent() time.Time { return s.sent }

// Hasten brings the next periodic packet forward to now if it would become due within d, so that sessions with about the same
// interval send at the same time. It does nothing unless the session is Up.
func (s *Session) Hasten(now time.Time, d time.Duration) {
	if s.Sending() && s.due().Before(now.Add(d)) {
		s.urgent = true
	}
}

// Events returns what has changed since the last call, oldest first. The slice is valid until the next call of any method.
func (s *Session) Events() []Event {
	out := s.events
	s.events = s.events[:0]
	return out
}

// enter changes the state. The peer is told at once (RFC 5880 section 6.8.7).
func (s *Session) enter(to State, diag Diag, cause Cause, at time.Time) {
	s.events = append(s.events, Event{From: s.state, To: to, Diag: diag, Cause: cause, Peer: s.remote.discriminator, At: at})
	s.state, s.diag, s.since, s.urgent = to, diag, at, true
	s.retime()
	if to == Up {
		s.startPoll() // the first round trip, also where no interval changes
	}
}

// retime recomputes the intervals after a change of state or configuration (RFC 5880 section 6.8.3).
func (s *Session) retime() {
	desired, required := s.cfg.DesiredMinTx, s.cfg.RequiredMinRx
	if s.state != Up {
		desired = max(desired, s.cfg.SlowTx)
		s.poll = poll{}
	}
	if desired == s.desired && required == s.required {
		return
	}
	s.desired, s.required = desired, required
	if s.state != Up {
		s.tx, s.rx, s.urgent = desired, required, true
		return
	}
	s.tx, s.rx = min(s.tx, desired), max(s.rx, required)
	s.startPoll()
}

// Status is a snapshot of a session.
type Status struct {
	State               State
	Diag                Diag
	Since               time.Time // of State
	Discriminator       uint32
	RemoteState         State
	RemoteDiag          Diag
	RemoteDiscriminator uint32        // 0 = not heard for a detection time
	TxInterval          time.Duration // in use, before jitter; 0 = the peer wants no periodic packets
	DetectionTime       time.Duration // after which silence of the peer means Down; 0 = never heard
	RemoteMinTx         time.Duration // what the peer said last
	RemoteMinRx         time.Duration
	RemoteMultiplier    uint8
	Heard               time.Time // when the last accepted packet arrived
	RoundTrip           time.Time // the peer has answered a poll that was begun then: both directions worked after it; zero = never
}

// Status returns a snapshot.
func (s *Session) Status() Status {
	return Status{State: s.state, Diag: s.diag, Since: s.since, Discriminator: s.local,
		RemoteState: s.remote.state, RemoteDiag: s.remote.diag, RemoteDiscriminator: s.remote.discriminator,
		TxInterval: s.TxInterval(), DetectionTime: s.DetectionTime(),
		RemoteMinTx: s.remote.minTx, RemoteMinRx: s.remote.minRx, RemoteMultiplier: s.remote.multiplier,
		Heard: s.heard, RoundTrip: s.roundTrip}
}

// State returns the state.
func (s *Session) State() State { return s.state }

// RoundTrip returns what [Status.RoundTrip] says.
func (s *Session) RoundTrip() time.Time { return s.roundTrip }
