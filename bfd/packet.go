package bfd

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// State is the state of a session as it is written on the wire (RFC 5880 section 4.1).
type State uint8

// The states of a session.
const (
	AdminDown State = iota
	Down
	Init
	Up
)

// String returns the word of the RFC.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

var stateNames = [...]string{"AdminDown", "Down", "Init", "Up"}

// Diag is the diagnostic code that says why a session last left Up (RFC 5880 section 4.1).
type Diag uint8

// The diagnostic codes.
const (
	DiagNone Diag = iota
	DiagDetectionTimeExpired
	DiagEchoFailed
	DiagNeighborSignaledDown
	DiagForwardingPlaneReset
	DiagPathDown
	DiagConcatenatedPathDown
	DiagAdminDown
	DiagReverseConcatenatedPathDown
)

// String returns the diagnostic in one word.
func (d Diag) String() string {
	if int(d) < len(diagNames) {
		return diagNames[d]
	}
	return fmt.Sprintf("Diag(%d)", uint8(d))
}

var diagNames = [...]string{"None", "DetectionTimeExpired", "EchoFailed", "NeighborSignaledDown", "ForwardingPlaneReset", "PathDown",
	"ConcatenatedPathDown", "AdminDown", "ReverseConcatenatedPathDown"}

// Drop says in one word why a packet was discarded; it is a metric's label. The empty Drop means that it was not.
type Drop string

// Why a packet is discarded (RFC 5880 sections 6.7 and 6.8.6).
const (
	DropShort           Drop = "Short"           // fewer bytes than a packet has, or than its Length field says
	DropVersion         Drop = "Version"         // not version 1
	DropLength          Drop = "Length"          // the Length field does not fit the sections
	DropMultiplier      Drop = "Multiplier"      // Detect Mult is 0
	DropMultipoint      Drop = "Multipoint"      // the M bit is set
	DropFlags           Drop = "Flags"           // P and F are both set
	DropMyDiscriminator Drop = "MyDiscriminator" // My Discriminator is 0
	DropNoDiscriminator Drop = "NoDiscriminator" // Your Discriminator is 0 in a state that needs it
	DropAuthSection     Drop = "AuthSection"     // the authentication section is malformed or of an unknown type
	DropNoSession       Drop = "NoSession"       // Your Discriminator is not ours, or the addresses match no session
	DropAuthType        Drop = "AuthType"        // authentication is missing, unexpected or of another type than configured
	DropKeyID           Drop = "KeyID"           // no key has this ID
	DropDigest          Drop = "Digest"          // the digest or the password is wrong
	DropSequence        Drop = "Sequence"        // the sequence number is outside of the window: a replay, or long reordered
	DropAdminDown       Drop = "AdminDown"       // the session is administratively down here
)

// Sizes of packets in bytes.
const (
	MinSize = 24                // the mandatory section
	MaxSize = MinSize + sha1Len // with the longest authentication section
)

// MaxInterval is the longest interval that fits the wire: 2^32-1 microseconds.
const MaxInterval = math.MaxUint32 * time.Microsecond

// Packet is one BFD control packet. Intervals are whole microseconds between 0 and MaxInterval. It is comparable.
type Packet struct {
	Diag              Diag
	State             State
	Poll, Final       bool
	ControlPlane      bool // C: the sender's BFD does not share the fate of its control plane
	Demand            bool // D: the sender asks that nothing be sent to it periodically
	Multiplier        uint8
	MyDiscriminator   uint32
	YourDiscriminator uint32
	DesiredMinTx      time.Duration
	RequiredMinRx     time.Duration
	RequiredMinEchoRx time.Duration
	Auth              Auth // the A bit is set if Auth.Type is not 0
}

const (
	version  = 1
	bitPoll  = 0x20
	bitFinal = 0x10
	bitC     = 0x08
	bitA     = 0x04
	bitD     = 0x02
	bitM     = 0x01
)

// Append appends the packet as it goes on the wire.
func (p Packet) Append(b []byte) []byte {
	flags := byte(p.State)<<6 | bit(p.Poll, bitPoll) | bit(p.Final, bitFinal) | bit(p.ControlPlane, bitC) | bit(p.Demand, bitD) |
		bit(p.Auth.Type != AuthNone, bitA)
	b = append(b, version<<5|byte(p.Diag)&0x1f, flags, p.Multiplier, byte(MinSize+p.Auth.size()))
	b = binary.BigEndian.AppendUint32(b, p.MyDiscriminator)
	b = binary.BigEndian.AppendUint32(b, p.YourDiscriminator)
	b = binary.BigEndian.AppendUint32(b, microseconds(p.DesiredMinTx))
	b = binary.BigEndian.AppendUint32(b, microseconds(p.RequiredMinRx))
	b = binary.BigEndian.AppendUint32(b, microseconds(p.RequiredMinEchoRx))
	return p.Auth.append(b)
}

// Parse reads a packet and checks what RFC 5880 section 6.8.6 demands of it by itself, without knowledge of a session. Bytes
// behind the packet's own length are ignored. The packet is valid if the Drop is empty.
func Parse(b []byte) (Packet, Drop) {
	if len(b) < MinSize {
		return Packet{}, DropShort
	}
	size, flags := int(b[3]), b[1]
	switch {
	case b[0]>>5 != version:
		return Packet{}, DropVersion
	case size < MinSize:
		return Packet{}, DropLength
	case size > len(b):
		return Packet{}, DropShort
	case b[2] == 0:
		return Packet{}, DropMultiplier
	case flags&bitM != 0:
		return Packet{}, DropMultipoint
	case flags&bitPoll != 0 && flags&bitFinal != 0:
		return Packet{}, DropFlags
	}
	p := Packet{
		Diag: Diag(b[0] & 0x1f), State: State(flags >> 6),
		Poll: flags&bitPoll != 0, Final: flags&bitFinal != 0, ControlPlane: flags&bitC != 0, Demand: flags&bitD != 0,
		Multiplier:        b[2],
		MyDiscriminator:   binary.BigEndian.Uint32(b[4:]),
		YourDiscriminator: binary.BigEndian.Uint32(b[8:]),
		DesiredMinTx:      interval(b[12:]),
		RequiredMinRx:     interval(b[16:]),
		RequiredMinEchoRx: interval(b[20:]),
	}
	switch {
	case p.MyDiscriminator == 0:
		return Packet{}, DropMyDiscriminator
	case p.YourDiscriminator == 0 && p.State != Down && p.State != AdminDown:
		return Packet{}, DropNoDiscriminator
	case flags&bitA == 0 && size != MinSize:
		return Packet{}, DropLength
	case flags&bitA == 0:
		return p, ""
	}
	var ok bool
	if p.Auth, ok = parseAuth(b[MinSize:size]); !ok {
		return Packet{}, DropAuthSection
	}
	return p, ""
}

func bit(set bool, mask byte) byte {
	if set {
		return mask
	}
	return 0
}

func interval(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}

func microseconds(d time.Duration) uint32 {
	return uint32(min(max(d, 0), MaxInterval) / time.Microsecond)
}
