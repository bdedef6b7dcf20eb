package neighbour

import (
	"fmt"
	"net"
	"syscall"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/lb"
)

// Open opens a packet socket that sees the frames of one EtherType that l receives and match accepts: instructions that load from
// the frame and let it fall through if it is wanted, or skip one instruction more than they are long if not. Frames for other
// stations (a promiscuous interface sees them), and those of a VLAN that l does not belong to, are never seen. The socket is
// read and written through its file descriptor: packet.Conn would allocate an address per packet.
func Open(l lb.Link, etherType int, match ...bpf.Instruction) (*Socket, error) {
	filter, err := bpf.Assemble(program(match))
	if err != nil {
		return nil, fmt.Errorf("assembling packet filter: %w", err)
	}
	c, err := packet.Listen(&net.Interface{Index: l.Index, Name: l.Name, HardwareAddr: l.MAC[:]}, packet.Raw, etherType, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("opening packet socket on %s: %w", l.Name, err)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("accessing packet socket on %s: %w", l.Name, err)
	}
	s := &Socket{Conn: c, raw: raw}
	s.recv = s.receive
	return s, nil
}

// program is the filter that lets pass what match wants among the frames that are for this station. Linux hands a packet socket
// those of a VLAN without interface too, without their tag, and marks them as somebody else's.
func program(match []bpf.Instruction) []bpf.Instruction {
	out := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: unix.PACKET_OTHERHOST, SkipTrue: uint8(len(match) + 1)},
	}
	out = append(out, match...)
	return append(out, bpf.RetConstant{Val: maxFrame}, bpf.RetConstant{Val: 0})
}

// Socket is a Wire without groups.
type Socket struct {
	*packet.Conn
	raw syscall.RawConn

	// One Read at a time: its argument and results pass through here, because a closure would be an allocation per packet.
	recv func(fd uintptr) bool
	buf  []byte
	n    int
	err  error
}

// Read implements Wire. It must not be called concurrently.
func (s *Socket) Read(b []byte) (int, error) {
	s.buf = b
	if err := s.raw.Read(s.recv); err != nil {
		return 0, err
	}
	return max(s.n, 0), s.err
}

// receive reads once; false makes the runtime's poller wait until there is something to read.
func (s *Socket) receive(fd uintptr) bool {
	s.n, s.err = unix.Read(int(fd), s.buf)
	return s.err != unix.EAGAIN && s.err != unix.EINTR
}

// Write implements Wire. It never waits: where the device's queue is full the frame is lost, as it would be on the wire.
func (s *Socket) Write(b []byte) (n int, err error) {
	controlErr := s.raw.Control(func(fd uintptr) { n, err = unix.Write(int(fd), b) })
	if controlErr != nil {
		return 0, controlErr
	}
	return max(n, 0), err
}
