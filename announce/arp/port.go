package arp

import (
	"fmt"
	"net"
	"syscall"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/lb"
)

// wire carries whole Ethernet frames of one link. Write does not block; Close unblocks Read.
type wire interface {
	Read(b []byte) (int, error)
	Write(b []byte) (int, error)
	Close() error
}

// listen opens a packet socket that sees the ARP frames that l receives. The socket is read and written through its file
// descriptor: packet.Conn would allocate an address per packet.
func listen(l lb.Link) (wire, error) {
	c, err := packet.Listen(&net.Interface{Index: l.Index, Name: l.Name, HardwareAddr: l.MAC[:]}, packet.Raw, etherTypeARP, nil)
	if err != nil {
		return nil, fmt.Errorf("opening ARP socket on %s: %w", l.Name, err)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("accessing ARP socket on %s: %w", l.Name, err)
	}
	s := &socket{Conn: c, raw: raw}
	s.recv = s.receive
	return s, nil
}

type socket struct {
	*packet.Conn
	raw syscall.RawConn

	// One Read at a time: its argument and results pass through here, because a closure would be an allocation per packet.
	recv func(fd uintptr) bool
	buf  []byte
	n    int
	err  error
}

// Read implements wire. It must not be called concurrently.
func (s *socket) Read(b []byte) (int, error) {
	s.buf = b
	if err := s.raw.Read(s.recv); err != nil {
		return 0, err
	}
	return max(s.n, 0), s.err
}

// receive reads once; false makes the runtime's poller wait until there is something to read.
func (s *socket) receive(fd uintptr) bool {
	s.n, s.err = unix.Read(int(fd), s.buf)
	return s.err != unix.EAGAIN && s.err != unix.EINTR
}

// Write implements wire. It never waits: where the device's queue is full the frame is lost, as it would be on the wire.
func (s *socket) Write(b []byte) (n int, err error) {
	controlErr := s.raw.Control(func(fd uintptr) { n, err = unix.Write(int(fd), b) })
	if controlErr != nil {
		return 0, controlErr
	}
	return max(n, 0), err
}
