package fabric

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/lab/netns"
	"github.com/fairlead-lb/fairlead/lab/topology"
)

// Plug connects a member, whose network namespace is at path, with the switch and
// gives it its addresses and routes. Its sysctls must have been set.
func (s *Switch) Plug(member topology.Member, path string) error {
	namespace, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening namespace of %s: %w", member.Name, err)
	}
	defer namespace.Close()
	for _, cable := range member.Links {
		if err := s.addCable(cable, namespace); err != nil {
			return err
		}
	}
	err = netns.Do(path, func() error {
		handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("opening netlink socket: %w", err)
		}
		defer handle.Close()
		return configure(handle, member)
	})
	if err != nil {
		return fmt.Errorf("configuring %s: %w", member.Name, err)
	}
	return nil
}

func (s *Switch) addCable(cable topology.Link, namespace *os.File) error {
	bridge, err := s.handle.LinkByName(string(cable.Segment))
	if err != nil {
		return fmt.Errorf("finding bridge %s: %w", cable.Segment, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = cable.Port
	attrs.MasterIndex = bridge.Attrs().Index
	veth := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         cable.Name,
		PeerHardwareAddr: cable.MAC,
		PeerNamespace:    netlink.NsFd(int(namespace.Fd())),
	}
	if err := s.handle.LinkAdd(veth); err != nil {
		return fmt.Errorf("adding port %s: %w", cable.Port, err)
	}
	return s.SetPort(cable.Port, true)
}

func configure(handle *netlink.Handle, member topology.Member) error {
	loopback := topology.Link{Name: "lo", Addrs: member.Loopback}
	for _, link := range append([]topology.Link{loopback}, member.Links...) {
		if err := configureLink(handle, link); err != nil {
			return err
		}
	}
	for _, route := range member.Routes {
		if err := addRoute(handle, route); err != nil {
			return err
		}
	}
	return nil
}

func configureLink(handle *netlink.Handle, link topology.Link) error {
	device, err := handle.LinkByName(link.Name)
	if err != nil {
		return fmt.Errorf("finding link %s: %w", link.Name, err)
	}
	for _, prefix := range link.Addrs {
		addr := &netlink.Addr{IPNet: ipNet(prefix)}
		if prefix.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD // unique by plan; usable at once
		}
		if err := handle.AddrAdd(device, addr); err != nil {
			return fmt.Errorf("adding %s to %s: %w", prefix, link.Name, err)
		}
	}
	if err := handle.LinkSetUp(device); err != nil {
		return fmt.Errorf("setting link %s up: %w", link.Name, err)
	}
	return nil
}

func addRoute(handle *netlink.Handle, route topology.Route) error {
	device, err := handle.LinkByName(route.Link)
	if err != nil {
		return fmt.Errorf("finding link %s: %w", route.Link, err)
	}
	err = handle.RouteAdd(&netlink.Route{
		LinkIndex: device.Attrs().Index,
		Dst:       ipNet(route.To),
		Gw:        net.IP(route.Via.AsSlice()),
	})
	if err != nil {
		return fmt.Errorf("adding route to %s via %s: %w", route.To, route.Via, err)
	}
	return nil
}

// ipNet keeps the host bits, which netlink wants in an address.
func ipNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{
		IP:   net.IP(prefix.Addr().AsSlice()),
		Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
	}
}
