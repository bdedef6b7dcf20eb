package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Protocol is the origin that our routes carry (`ip route show table local proto 76`); 76 is free in rt_protos.
const Protocol = 76

// loopback is the index of lo in every network namespace.
const loopback = 1

// Routes are the VIPs that the network namespace of the calling thread delivers locally.
type Routes struct{}

// Read returns the VIPs that Fairlead added, sorted.
func (Routes) Read() ([]netip.Addr, error) {
	filter := netlink.Route{Table: unix.RT_TABLE_LOCAL, Protocol: Protocol}
	var out []netip.Addr
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			return nil, fmt.Errorf("listing local routes: %w", err)
		}
		for _, r := range routes {
			if r.Dst == nil {
				continue
			}
			if a, ok := netip.AddrFromSlice(r.Dst.IP); ok {
				out = append(out, a.Unmap())
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), nil
}

// Has reports whether the node delivers packets to vip locally, for whatever reason.
func (Routes) Has(vip netip.Addr) (bool, error) {
	routes, err := netlink.RouteGet(vip.AsSlice())
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking up the route to %s: %w", vip, err)
	}
	return len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL, nil
}

// Up makes the node deliver packets to vip locally. An address that the node already has, ours or not, is left as it is; then
// nothing was added.
func (Routes) Up(vip netip.Addr) (added bool, err error) {
	switch err := netlink.RouteAdd(route(vip)); {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EEXIST):
		return false, nil
	default:
		return false, fmt.Errorf("adding local route for %s: %w", vip, err)
	}
}

// Down takes back what Up added, and nothing else.
func (Routes) Down(vip netip.Addr) error {
	if err := netlink.RouteDel(route(vip)); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("deleting local route for %s: %w", vip, err)
	}
	return nil
}

func route(vip netip.Addr) *netlink.Route {
	return &netlink.Route{
		Dst:       &net.IPNet{IP: vip.AsSlice(), Mask: net.CIDRMask(vip.BitLen(), vip.BitLen())},
		LinkIndex: loopback,
		Table:     unix.RT_TABLE_LOCAL,
		Type:      unix.RTN_LOCAL,
		Scope:     netlink.SCOPE_HOST,
		Protocol:  Protocol,
	}
}
