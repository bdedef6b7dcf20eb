package udp

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/bfd"
)

// Ports of RFC 5881 section 4 and RFC 5883 section 5.
const (
	SingleHopPort = 3784
	MultihopPort  = 4784
)

// DefaultMinTTL is the least TTL of a multihop packet that is accepted unless Config.MinTTL says otherwise: one router between.
const DefaultMinTTL = 254

// Peer names a session. It is comparable. Addresses have no zone: Interface stands for it.
type Peer struct {
	Local     netip.Addr // ours; unspecified (0.0.0.0 or ::) = the one that the kernel chooses
	Remote    netip.Addr
	Interface string // send and receive on this one only; required for link-local addresses
	Multihop  bool   // RFC 5883; else the TTL must be 255 on arrival
}

// String returns "local->remote%interface", followed by " multihop" for such a session.
func (p Peer) String() string {
	s := fmt.Sprintf("%s->%s", p.Local, p.Remote)
	if p.Interface != "" {
		s += "%" + p.Interface
	}
	if p.Multihop {
		s += " multihop"
	}
	return s
}

func (p Peer) validate() error {
	switch {
	case !p.Local.IsValid() || !p.Remote.IsValid():
		return fmt.Errorf("udp: peer %s lacks an address; give Local (0.0.0.0 or :: for any) and Remote", p)
	case p.Local.Is4() != p.Remote.Is4() || p.Local.Is4In6() || p.Remote.Is4In6():
		return fmt.Errorf("udp: peer %s mixes address families; use two IPv4 or two IPv6 addresses", p)
	case p.Local.Zone() != "" || p.Remote.Zone() != "":
		return fmt.Errorf("udp: peer %s has a zone; name it in Interface", p)
	case p.Remote.IsUnspecified() || p.Remote.IsMulticast():
		return fmt.Errorf("udp: the remote address of peer %s is no host's; use a unicast address", p)
	case (p.Remote.IsLinkLocalUnicast() || p.Local.IsLinkLocalUnicast()) && p.Remote.Is6() && p.Interface == "":
		return fmt.Errorf("udp: peer %s is link-local; name its Interface", p)
	}
	return nil
}

// Config is what we want of a session.
type Config struct {
	bfd.Config
	MinTTL uint8 // of received multihop packets, 1 to 255; 0 = DefaultMinTTL. Single hop is always 255
}

// Session is a snapshot of a session.
type Session struct {
	bfd.Status
	Err    error // why it cannot send or listen at present; it is tried again every second
	Factor int   // by which its intervals are widened after false alarms: 1, 2 or 4
}

// Options configures a [Group].
type Options struct {
	Name       string // the metrics' label "group": "heartbeat", "bgp"
	Log        *slog.Logger
	Registerer prometheus.Registerer

	// Changed is called for every change of a session's state, in order, on the group's own thread: it must not block, lock or
	// do work. A send to a channel with room is right.
	Changed func(Peer, bfd.Event)

	// Port is used by all sessions, at both ends, instead of the RFCs' ports. 0 = 3784, and 4784 for multihop.
	Port uint16

	// The following are for sessions between our own processes, the heartbeat.

	Aligned bool // all sessions that are Up send at the same moment, so that all watchers of a dead node notice together
	Batched bool // while all sessions are Up and quiet, read what has arrived only when something is due: one wake-up for all peers
	Refused bool // an ICMP port unreachable takes an Up session down at once: the peer's process is dead, its node lives
	Widen   bool // double the intervals after a false alarm, see bfd.Pace

	// GapLimit is how long the loop may have been asleep without concern, by CLOCK_BOOTTIME; 0 = the shortest time after which
	// a peer would call us down. Slept is called after a longer sleep, before anything is sent, and then Confirmed once, when
	// the first round trip that was begun afterwards has succeeded; both under the same rule as Changed, and both may be nil.
	GapLimit  time.Duration
	Slept     func(d time.Duration)
	Confirmed func(Peer)

	Priority   int  // SCHED_FIFO priority of the loop's thread, 1 to 99; 0 = normal. Needs CAP_SYS_NICE; logged once if refused
	LockMemory bool // mlockall, so that no page of the process waits for a disk. Needs CAP_IPC_LOCK
}

func (o Options) validate() error {
	switch {
	case o.Name == "" || o.Log == nil || o.Registerer == nil || o.Changed == nil:
		return errors.New("udp: Name, Log, Registerer and Changed are required")
	case o.Priority < 0 || o.Priority > 99:
		return fmt.Errorf("udp: Priority is %d; use 1 to 99, or 0 for normal scheduling", o.Priority)
	case o.GapLimit < 0:
		return fmt.Errorf("udp: GapLimit is %s; use 0 or more", o.GapLimit)
	}
	return nil
}

// port returns the UDP port of a session at both ends.
func (o Options) port(p Peer) uint16 {
	switch {
	case o.Port != 0:
		return o.Port
	case p.Multihop:
		return MultihopPort
	}
	return SingleHopPort
}
