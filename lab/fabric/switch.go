package fabric

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/lab/topology"
)

// Switch is the namespace that all cables end in. Its methods may be called
// concurrently.
type Switch struct {
	handle *netlink.Handle
}

// NewSwitch turns the calling process's network namespace, which must be a fresh
// one, into the switch of a lab.
func NewSwitch() (*Switch, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening netlink socket: %w", err)
	}
	s := &Switch{handle: handle}
	// A switch has no addresses, and frames that pass it are no business of netfilter.
	settings := []topology.Sysctl{
		{Key: "net.ipv6.conf.all.disable_ipv6", Value: "1", Optional: true},
		{Key: "net.ipv6.conf.default.disable_ipv6", Value: "1", Optional: true},
		{Key: "net.bridge.bridge-nf-call-iptables", Value: "0", Optional: true},
		{Key: "net.bridge.bridge-nf-call-ip6tables", Value: "0", Optional: true},
		{Key: "net.bridge.bridge-nf-call-arptables", Value: "0", Optional: true},
	}
	if err := SetSysctls(settings); err != nil {
		return nil, err
	}
	for _, segment := range []topology.Segment{topology.LAN, topology.MGMT} {
		if err := s.addBridge(string(segment)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Switch) addBridge(name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	// Without a querier in the lab, snooping would lose neighbour solicitations.
	snooping := false
	bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}
	if err := s.handle.LinkAdd(bridge); err != nil {
		return fmt.Errorf("adding bridge %s: %w", name, err)
	}
	if err := s.handle.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("setting bridge %s up: %w", name, err)
	}
	return nil
}

// SetPort switches a port on or off; off takes the carrier from the member's link.
func (s *Switch) SetPort(port string, up bool) error {
	link, err := s.handle.LinkByName(port)
	if err != nil {
		return fmt.Errorf("finding port %s: %w", port, err)
	}
	change, verb := s.handle.LinkSetDown, "down"
	if up {
		change, verb = s.handle.LinkSetUp, "up"
	}
	if err := change(link); err != nil {
		return fmt.Errorf("setting port %s %s: %w", port, verb, err)
	}
	return nil
}

// PortUp reports whether a port exists and is switched on.
func (s *Switch) PortUp(port string) bool {
	link, err := s.handle.LinkByName(port)
	return err == nil && link.Attrs().RawFlags&unix.IFF_UP != 0
}

// Unplug removes a member's cables. Those that are gone already, as after the end
// of the member's namespace, are no error.
func (s *Switch) Unplug(member topology.Member) error {
	var errs []error
	for _, cable := range member.Links {
		link, err := s.handle.LinkByName(cable.Port)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			continue
		}
		if err == nil {
			err = s.handle.LinkDel(link)
		}
		if err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("removing port %s: %w", cable.Port, err))
		}
	}
	return errors.Join(errs...)
}

// SetSysctls writes settings of the calling thread's network namespace.
func SetSysctls(settings []topology.Sysctl) error {
	for _, s := range settings {
		path := filepath.Join("/proc/sys", strings.ReplaceAll(s.Key, ".", "/"))
		err := os.WriteFile(path, []byte(s.Value), 0)
		if s.Optional && errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("setting %s to %s: %w", s.Key, s.Value, err)
		}
	}
	return nil
}
