package bed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/announce/arp"
)

// Claim is a packet by which a node said that an address is at its own.
type Claim struct {
	At    time.Time // when the packet left the node's cable, by the kernel's clock
	Node  int
	Addr  netip.Addr
	Asked bool // an answer to one station; otherwise it was sent to all
}

// String returns the claim on one line.
func (c Claim) String() string {
	return fmt.Sprintf("%s node %d has %s (asked %v)", c.At.Format("15:04:05.000000"), c.Node, c.Addr, c.Asked)
}

// Capture records the claims of all nodes from [LAN.Capture] to Stop.
type Capture struct {
	l    *LAN
	fd   int
	stop chan struct{}
	done chan error

	mu     sync.Mutex
	claims []Claim
}

// Capture starts recording.
func (l *LAN) Capture() *Capture {
	l.t.Helper()
	fd, err := openCapture()
	l.check(err)
	c := &Capture{l: l, fd: fd, stop: make(chan struct{}), done: make(chan error, 1)}
	go func() { c.done <- c.run() }()
	return c
}

// Stop ends the recording and returns all of it in the order of time. It fails the test if the kernel has lost packets.
func (c *Capture) Stop() []Claim {
	c.l.t.Helper()
	close(c.stop)
	c.l.check(<-c.done)
	return c.Claims()
}

// Claims returns what has been recorded so far in the order of time. It may be called from any goroutine.
func (c *Capture) Claims() []Claim {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.SortStableFunc(c.claims, func(a, b Claim) int { return a.At.Compare(b.At) })
	return slices.Clone(c.claims)
}

// openCapture opens a socket that sees the ARP and ICMPv6 packets of every interface, with the time of the kernel.
func openCapture() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // nothing before the filter is in place
	if err != nil {
		return 0, fmt.Errorf("opening a packet socket: %w", err)
	}
	f := filter()
	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
	err = errors.Join(
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20000}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all}),
	)
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20) != nil { // needs root outside
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20))
	}
	if err != nil {
		_ = unix.Close(fd)
		return 0, fmt.Errorf("setting up the capture: %w", err)
	}
	return fd, nil
}

// filter passes ARP, and IPv6 packets that carry ICMPv6 without extension headers, of which neighbour advertisements must be.
func filter() []unix.SockFilter {
	const load16, load8, equal, ret = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	return []unix.SockFilter{
		{Code: load16, K: 12},
		{Code: equal, K: unix.ETH_P_ARP, Jt: 3},
		{Code: equal, K: unix.ETH_P_IPV6, Jf: 3},
		{Code: load8, K: 20},
		{Code: equal, K: unix.IPPROTO_ICMPV6, Jf: 1},
		{Code: ret, K: 256},
		{Code: ret, K: 0},
	}
}

func (c *Capture) run() error {
	defer unix.Close(c.fd)
	buf, oob := make([]byte, 256), make([]byte, 128)
	for {
		n, oobn, _, from, err := unix.Recvmsg(c.fd, buf, oob, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			select {
			case <-c.stop:
				return c.lost()
			default:
			}
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("capturing: %w", err)
		default:
			if link, ok := from.(*unix.SockaddrLinklayer); ok && link.Pkttype != unix.PACKET_OUTGOING {
				c.record(link.Ifindex, buf[:n], oob[:oobn])
			}
		}
	}
}

func (c *Capture) lost() error {
	s, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err == nil && s.Drops > 0 {
		err = fmt.Errorf("the capture lost %d packets", s.Drops)
	}
	return err
}

// record notes the packet if it came out of a node's cable and claims an address.
func (c *Capture) record(ifindex int, frame, oob []byte) {
	c.l.mu.Lock()
	i := c.l.ports[ifindex]
	c.l.mu.Unlock()
	addr, asked, ok := claimed(frame)
	if i == 0 || !ok {
		return
	}
	claim := Claim{At: stamp(oob), Node: i, Addr: addr, Asked: asked}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims = append(c.claims, claim)
}

// claimed returns the address that the sender of frame says it has, and whether it tells one station or all.
func claimed(frame []byte) (addr netip.Addr, asked, ok bool) {
	const advertisement, header = 136, 14 + 40
	if p, err := arp.Parse(frame); err == nil {
		return p.SenderIP, p.EthDst[0]&1 == 0, !p.SenderIP.IsUnspecified()
	}
	if len(frame) < header+24 || binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_IPV6 || frame[20] != unix.IPPROTO_ICMPV6 || frame[header] != advertisement {
		return netip.Addr{}, false, false
	}
	return netip.AddrFrom16([16]byte(frame[header+8 : header+24])), frame[0]&1 == 0, true
}

// stamp returns the kernel's time of a packet.
func stamp(oob []byte) time.Time {
	list, err := unix.ParseSocketControlMessage(oob)
	if err == nil {
		for _, m := range list {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
				return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
			}
		}
	}
	panic("bed: a captured packet without a time stamp")
}
