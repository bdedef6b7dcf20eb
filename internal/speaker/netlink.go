package speaker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/lb"
)

// Netlink reads the links of the network namespace that the process runs in.
type Netlink struct{}

// Links implements [LinkSource]. It returns the Ethernet links with an IPv4 subnet, sorted by name: IPv4 because that is what
// the announcer speaks, and no /32 because an address alone on a link has no neighbours. Ports of bonds and bridges have no
// subnet, their master has it.
func (Netlink) Links() ([]lb.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("listing addresses: %w", err)
	}
	prefixes := map[int][]netip.Prefix{}
	for _, a := range addrs {
		if p, ok := subnet(a); ok && !slices.Contains(prefixes[a.LinkIndex], p) {
			prefixes[a.LinkIndex] = append(prefixes[a.LinkIndex], p)
		}
	}
	var out []lb.Link
	for _, l := range links {
		a := l.Attrs()
		if len(prefixes[a.Index]) == 0 || !ethernet(a) {
			continue
		}
		slices.SortFunc(prefixes[a.Index], netip.Prefix.Compare)
		out = append(out, lb.Link{Name: a.Name, Index: a.Index, MAC: lb.MAC(a.HardwareAddr), Up: carriesTraffic(a), Prefixes: prefixes[a.Index]})
	}
	slices.SortFunc(out, func(a, b lb.Link) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func subnet(a netlink.Addr) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(a.IP.To4())
	if !ok {
		return netip.Prefix{}, false
	}
	bits, _ := a.Mask.Size()
	p, err := addr.Prefix(bits)
	return p, err == nil && bits < addr.BitLen()
}

func ethernet(a *netlink.LinkAttrs) bool {
	const has, lacks = unix.IFF_BROADCAST, unix.IFF_LOOPBACK | unix.IFF_NOARP | unix.IFF_POINTOPOINT
	return len(a.HardwareAddr) == len(lb.MAC{}) && a.RawFlags&has != 0 && a.RawFlags&lacks == 0
}

func carriesTraffic(a *netlink.LinkAttrs) bool {
	const up = unix.IFF_UP | unix.IFF_RUNNING
	return a.RawFlags&up == up
}

// Watch implements [LinkSource].
func (Netlink) Watch(ctx context.Context, changed func()) error {
	done := make(chan struct{})
	defer close(done)
	failed := make(chan error, 2)
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	links := make(chan netlink.LinkUpdate, 64)
	if err := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{ErrorCallback: fail}); err != nil {
		return fmt.Errorf("subscribing to link events: %w", err)
	}
	addrs := make(chan netlink.AddrUpdate, 64)
	if err := netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{ErrorCallback: fail}); err != nil {
		return fmt.Errorf("subscribing to address events: %w", err)
	}
	changed() // what happened before the subscription
	for {
		open := true
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return fmt.Errorf("receiving link events: %w", err)
		case _, open = <-links:
		case _, open = <-addrs:
		}
		if !open {
			return errors.New("link events ended")
		}
		changed()
	}
}
