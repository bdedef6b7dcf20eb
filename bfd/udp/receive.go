package udp

import (
	"encoding/binary"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batch is how many packets one system call reads.
const batch = 32

const (
	packetSpace  = 128 // a control packet has at most 52 bytes
	controlSpace = 128 // three messages: time, TTL, packet info
)

// datagram is a received packet with what the kernel says about it. It is valid until the next read.
type datagram struct {
	payload []byte
	from    netip.Addr // without zone
	to      netip.Addr
	iface   int
	ttl     int
	stamped bool
	time    int64 // when it arrived, CLOCK_REALTIME in nanoseconds
}

// mmsghdr is the kernel's struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// reader has the memory for one recvmmsg, which is used again and again.
type reader struct {
	headers  [batch]mmsghdr
	iovecs   [batch]unix.Iovec
	names    [batch]unix.RawSockaddrInet6 // the larger of the two
	packets  [batch][packetSpace]byte
	controls [batch][controlSpace]byte
}

func newReader() *reader {
	r := &reader{}
	for i := range r.headers {
		r.iovecs[i].Base = &r.packets[i][0]
		r.iovecs[i].SetLen(packetSpace)
		h := &r.headers[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Iov = &r.iovecs[i]
		h.SetIovlen(1)
		h.Control = &r.controls[i][0]
	}
	return r
}

// read reads up to batch packets without waiting; fewer mean that the socket is empty.
func (r *reader) read(fd int) (int, error) {
	for i := range r.headers {
		h := &r.headers[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(controlSpace)
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.headers[0])), batch, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EAGAIN:
			return 0, nil
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// datagram returns the i-th packet of the last read.
func (r *reader) datagram(i int) datagram {
	h := &r.headers[i]
	d := datagram{payload: r.packets[i][:min(h.n, packetSpace)], from: address(&r.names[i])}
	d.control(r.controls[i][:min(uint64(h.hdr.Controllen), controlSpace)])
	return d
}

// control reads the control messages.
func (d *datagram) control(b []byte) {
	for len(b) >= unix.CmsgLen(0) {
		h, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			return
		}
		b = rest
		switch {
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_TIMESTAMPNS && len(data) >= int(unsafe.Sizeof(unix.Timespec{})):
			ts := *(*unix.Timespec)(unsafe.Pointer(&data[0]))
			d.time, d.stamped = ts.Nano(), true
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TTL && len(data) >= 4,
			h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT && len(data) >= 4:
			d.ttl = int(binary.NativeEndian.Uint32(data))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0]))
			d.iface, d.to = int(info.Ifindex), netip.AddrFrom4(info.Addr)
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
			d.iface, d.to = int(info.Ifindex), netip.AddrFrom16(info.Addr)
		}
	}
}

func address(name *unix.RawSockaddrInet6) netip.Addr {
	switch name.Family {
	case unix.AF_INET:
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr)
	case unix.AF_INET6:
		return netip.AddrFrom16(name.Addr)
	}
	return netip.Addr{}
}

// arrived translates the kernel's timestamp to now's clock. A step of the wall clock must not move a packet: it arrived after
// the socket was last found empty, and not in the future.
func (d *datagram) arrived(now, emptied time.Time) time.Time {
	if !d.stamped {
		return now
	}
	at := now.Add(time.Duration(d.time - now.UnixNano()))
	switch {
	case at.After(now): // or while we read
		return now
	case at.Before(emptied):
		return emptied
	}
	return at
}
