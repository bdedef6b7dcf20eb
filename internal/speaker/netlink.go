package speaker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/lb"
)

// Netlink reads the links of the network namespace that the process runs in. The zero Netlink is ready for use.
type Netlink struct {
	Buffer int // the kernel's buffer for each kind of event, bytes; 0 = 1 MiB; more than net.core.rmem_max is not given
}

// Links implements [LinkSource]. What counts as a link, and as a subnet on it, says convert.
func (Netlink) Links() ([]lb.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("listing addresses: %w", err)
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V6)
	if err != nil {
		return nil, fmt.Errorf("listing routes: %w", err)
	}
	return convert(links, addrs, routes), nil
}

// convert returns the Ethernet links with a subnet, sorted by name: physical ones, VLANs, bonds, bridges, macvlans. A port of a
// bridge, bond or team is none, whatever addresses it has: what it receives belongs to its master, and a packet socket on it
// would answer a second time. (A member of a VRF keeps its own traffic.)
//
// A subnet is that of an address, or for IPv6 also one that a router advertisement put on the link. An address alone (/32, /128)
// has no neighbours; fe80::/10 is on every link and tells nothing; an IPv6 address that is tentative or a duplicate is not in
// use, a deprecated one is.
func convert(links []netlink.Link, addrs []netlink.Addr, routes []netlink.Route) []lb.Link {
	prefixes := map[int][]netip.Prefix{}
	add := func(index int, p netip.Prefix, ok bool) {
		if ok && !slices.Contains(prefixes[index], p) {
			prefixes[index] = append(prefixes[index], p)
		}
	}
	for _, a := range addrs {
		p, ok := subnet(a)
		add(a.LinkIndex, p, ok)
	}
	for _, r := range routes {
		p, ok := advertised(r)
		add(r.LinkIndex, p, ok)
	}
	vrfs := map[int]bool{}
	for _, l := range links {
		vrfs[l.Attrs().Index] = l.Type() == "vrf"
	}
	var out []lb.Link
	for _, l := range links {
		a := l.Attrs()
		if len(prefixes[a.Index]) == 0 || !ethernet(a) || a.MasterIndex != 0 && !vrfs[a.MasterIndex] {
			continue
		}
		slices.SortFunc(prefixes[a.Index], netip.Prefix.Compare)
		out = append(out, lb.Link{Name: a.Name, Index: a.Index, MAC: lb.MAC(a.HardwareAddr), Up: carriesTraffic(a), Prefixes: prefixes[a.Index]})
	}
	slices.SortFunc(out, func(a, b lb.Link) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// subnet returns the subnet of an address.
func subnet(a netlink.Addr) (netip.Prefix, bool) {
	if a.IPNet == nil || a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 && a.Flags&unix.IFA_F_OPTIMISTIC == 0 {
		return netip.Prefix{}, false
	}
	return neighbours(*a.IPNet)
}

// advertised returns the subnet that an IPv6 route puts on its link, if the kernel or a network manager has made it from an
// address or a router advertisement.
func advertised(r netlink.Route) (netip.Prefix, bool) {
	if r.Dst == nil || r.Gw != nil || len(r.MultiPath) > 0 || r.Via != nil || r.Type != unix.RTN_UNICAST && r.Type != unix.RTN_UNSPEC {
		return netip.Prefix{}, false
	}
	if r.Protocol != unix.RTPROT_KERNEL && r.Protocol != unix.RTPROT_RA {
		return netip.Prefix{}, false
	}
	p, ok := neighbours(*r.Dst)
	return p, ok && p.Addr().Is6() && p.Bits() > 0
}

// neighbours returns n if an address of a Service could be in it and there could be others.
func neighbours(n net.IPNet) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	addr = addr.Unmap()
	bits, _ := n.Mask.Size()
	p, err := addr.Prefix(bits)
	return p, err == nil && bits < addr.BitLen() && (addr.Is4() || !addr.IsLinkLocalUnicast() && !addr.IsMulticast())
}

func ethernet(a *netlink.LinkAttrs) bool {
	const has, lacks = unix.IFF_BROADCAST, unix.IFF_LOOPBACK | unix.IFF_NOARP | unix.IFF_POINTOPOINT
	return len(a.HardwareAddr) == len(lb.MAC{}) && a.RawFlags&has != 0 && a.RawFlags&lacks == 0
}

func carriesTraffic(a *netlink.LinkAttrs) bool {
	const up = unix.IFF_UP | unix.IFF_RUNNING
	return a.RawFlags&up == up
}

// Kernel implements [KernelSource].
func (Netlink) Kernel() (Kernel, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return Kernel{}, fmt.Errorf("listing links: %w", err)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return Kernel{}, fmt.Errorf("listing addresses: %w", err)
	}
	k := Kernel{Assigned: map[netip.Addr][]string{}, ARPIgnore: map[string]int{}}
	names := map[int]string{}
	all := arpIgnore("all")
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
		k.ARPIgnore[l.Attrs().Name] = max(all, arpIgnore(l.Attrs().Name))
	}
	for _, a := range addrs {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			addr = addr.Unmap()
			k.Assigned[addr] = append(k.Assigned[addr], names[a.LinkIndex])
		}
	}
	for _, holders := range k.Assigned {
		slices.Sort(holders)
	}
	return k, nil
}

// arpIgnore returns the setting of an interface; one that has gone, or cannot be read, counts as the kernel's default.
func arpIgnore(iface string) int {
	text, err := os.ReadFile(filepath.Join("/proc/sys/net/ipv4/conf", iface, "arp_ignore"))
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(text))) // the kernel writes numbers
	return n
}

// eventBuffer is the default of Netlink.Buffer.
const eventBuffer = 1 << 20

// Watch implements [LinkSource]. When the kernel had more events than the buffer holds, Watch ends with an error; what was
// missed is found by reading everything again.
func (n Netlink) Watch(ctx context.Context, changed func()) error {
	buffer := cmp.Or(n.Buffer, eventBuffer)
	done := make(chan struct{})
	defer close(done)
	failed := make(chan error, 3)
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	links, addrs, routes := make(chan netlink.LinkUpdate, 64), make(chan netlink.AddrUpdate, 64), make(chan netlink.RouteUpdate, 64)
	if err := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{ErrorCallback: fail, ReceiveBufferSize: buffer}); err != nil {
		return fmt.Errorf("subscribing to link events: %w", err)
	}
	defer drain(links)
	if err := netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{ErrorCallback: fail, ReceiveBufferSize: buffer}); err != nil {
		return fmt.Errorf("subscribing to address events: %w", err)
	}
	defer drain(addrs)
	if err := netlink.RouteSubscribeWithOptions(routes, done, netlink.RouteSubscribeOptions{ErrorCallback: fail, ReceiveBufferSize: buffer}); err != nil {
		return fmt.Errorf("subscribing to route events: %w", err)
	}
	defer drain(routes)
	changed() // what happened before the subscription
	for {
		open, news := true, true
		var r netlink.RouteUpdate
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return fmt.Errorf("receiving link events: %w", err)
		case _, open = <-links:
		case _, open = <-addrs:
		case r, open = <-routes:
			_, news = advertised(r.Route) // routes come and go by the thousand
		}
		if !open {
			return errors.New("link events ended")
		}
		if news {
			changed()
		}
	}
}

// drain has the library's goroutine, which may be about to send an event, see that its socket is closed.
func drain[T any](events <-chan T) {
	go func() {
		for range events {
		}
	}()
}
