package neighbour

import (
	"net/netip"

	"github.com/fairlead-lb/fairlead/lb"
)

// Owned is a set of addresses on one link.
type Owned map[netip.Addr]struct{}

// Codec is a protocol by which hosts find the hardware address of a neighbour. Its methods may be called concurrently; all
// but Listen are pure.
type Codec interface {
	// Serves reports whether the protocol is in charge of the address's family.
	Serves(addr netip.Addr) bool
	// Listen opens a socket that sees what other stations on the link send.
	Listen(l lb.Link) (Wire, error)
	// Judge reads a frame for a node that has mac on the link and announces the addresses in owned there. An answer is appended to
	// reply, which is not touched otherwise.
	Judge(frame []byte, owned Owned, mac lb.MAC, reply []byte) Verdict
	// Announcement returns the frames that tell the segment that addr is at mac now.
	Announcement(addr netip.Addr, mac lb.MAC) [][]byte
	// Probe returns the frame that asks whether another station has addr, without telling anybody that this one wants it.
	Probe(addr netip.Addr, mac lb.MAC) []byte
}

// Verdict is what a frame means to a node. The zero Verdict means nothing.
type Verdict struct {
	Asks  bool  // it asks for the hardware address of some address, whoever has it
	Claim Claim // what the frame's sender uses; zero if it came from this node
	Reply []byte
}

// Claim says that a station uses an address or, with Probe, wants to.
type Claim struct {
	Addr  netip.Addr // the zero Addr means that nothing is claimed
	MAC   lb.MAC
	Probe bool
}

// Wire carries whole Ethernet frames of one link. Write does not block; Close unblocks Read.
type Wire interface {
	Read(b []byte) (int, error)
	Write(b []byte) (int, error)
	Close() error
	// Join has the network deliver the packets that ask for addr, where it does not do so for every station anyway. It may be
	// called again; Leave undoes it.
	Join(addr netip.Addr) error
	Leave(addr netip.Addr) error
}
