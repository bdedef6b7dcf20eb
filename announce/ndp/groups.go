package ndp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// memberSocket holds memberships in groups on one link.
type memberSocket interface {
	join(group netip.Addr) error // unix.ENOMEM or unix.ENOBUFS if the socket can hold no more
	leave(group netip.Addr) error
	close()
}

// groups are the solicited-node groups that the addresses of one link need. Addresses whose last 24 bits are equal share one. The
// kernel bounds how many memberships a socket may hold by net.core.optmem_max (some hundreds to some thousands), so there are as
// many sockets as it takes. They receive nothing. Methods may be called concurrently.
type groups struct {
	open func() (memberSocket, error)

	mu      sync.Mutex
	closed  bool
	sockets []memberSocket
	members map[netip.Addr]struct{}     // the addresses that have joined
	joined  map[netip.Addr]memberSocket // by group
	count   map[netip.Addr]int          // by group
}

func newGroups(open func() (memberSocket, error)) *groups {
	return &groups{open: open, members: map[netip.Addr]struct{}{}, joined: map[netip.Addr]memberSocket{}, count: map[netip.Addr]int{}}
}

// Join implements neighbour.Wire.
func (g *groups) Join(addr netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.members[addr]; ok || g.closed {
		return nil
	}
	group := SolicitedNode(addr)
	if g.joined[group] == nil {
		s, err := g.enter(group)
		if err != nil {
			return fmt.Errorf("joining multicast group %s: %w", group, err)
		}
		g.joined[group] = s
	}
	g.members[addr] = struct{}{}
	g.count[group]++
	return nil
}

// enter joins group with a socket that has room, the newest first, or with a further one.
func (g *groups) enter(group netip.Addr) (memberSocket, error) {
	for _, s := range slices.Backward(g.sockets) {
		if err := s.join(group); !errors.Is(err, unix.ENOMEM) && !errors.Is(err, unix.ENOBUFS) {
			return s, err
		}
	}
	s, err := g.open()
	if err != nil {
		return nil, err
	}
	if err := s.join(group); err != nil {
		s.close()
		return nil, err
	}
	g.sockets = append(g.sockets, s)
	return s, nil
}

// Leave implements neighbour.Wire.
func (g *groups) Leave(addr netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.members[addr]; !ok || g.closed {
		return nil
	}
	delete(g.members, addr)
	group := SolicitedNode(addr)
	if g.count[group]--; g.count[group] > 0 {
		return nil
	}
	s := g.joined[group]
	delete(g.count, group)
	delete(g.joined, group)
	if err := s.leave(group); err != nil {
		return fmt.Errorf("leaving multicast group %s: %w", group, err)
	}
	return nil
}

func (g *groups) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.sockets {
		s.close()
	}
	g.sockets, g.closed = nil, true
}

// member is a memberSocket of the kernel's: a UDP socket without an address.
type member struct{ fd, index int }

func openMember(index int) (memberSocket, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a socket for memberships: %w", err)
	}
	return member{fd, index}, nil
}

func (m member) request(group netip.Addr) *unix.IPv6Mreq {
	return &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(m.index)}
}

func (m member) join(group netip.Addr) error {
	return unix.SetsockoptIPv6Mreq(m.fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, m.request(group))
}

func (m member) leave(group netip.Addr) error {
	return unix.SetsockoptIPv6Mreq(m.fd, unix.IPPROTO_IPV6, unix.IPV6_LEAVE_GROUP, m.request(group))
}

func (m member) close() { _ = unix.Close(m.fd) }
