package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
)

// Tunnels are the devices that unwrap what other nodes send for this node's endpoints, in the network namespace of the calling thread, and
// the setting by which IPVS takes up connections in their middle. The kernel loads modules ipip and ip6_tunnel for them; the devices that
// these bring along, tunl0 and ip6tnl0, are others' and not touched.
type Tunnels struct {
	ProcSys string // as for [Raise]
}

// sloppy is the setting: with it any packet of a TCP connection may be the first that this node sees.
const sloppy = "net/ipv4/vs/sloppy_tcp"

// expire is the setting by which IPVS ends connections a tick after their destination was deleted (S61).
const expire = "net/ipv4/vs/expire_nodest_conn"

// forever is the lifetime of an address, in seconds, that does not end.
const forever = 0xffffffff

// Up makes the devices for the families of the endpoints, which are on this node, and takes away others; IPv4's is there always, as a sign
// that sloppy_tcp is our doing. It returns the MTU on the way to the endpoints and the peers, whichever is smallest. What is there already
// is left as it is.
func (t Tunnels) Up(endpoints, peers []netip.Addr) (datapath.MTU, error) {
	if err := up(netip.IPv4Unspecified()); err != nil {
		return datapath.MTU{}, err
	}
	six := slices.ContainsFunc(endpoints, netip.Addr.Is6)
	change := down
	if six {
		change = up
	}
	if err := change(netip.IPv6Unspecified()); err != nil {
		return datapath.MTU{}, err
	}
	// Clients' packets come in through the device, and no answer leaves through it: a loose filter. The larger value of "all" and of the
	// device counts.
	name := datapath.TunnelDevice(netip.IPv4Unspecified()).Name
	if _, err := Raise(t.ProcSys, Sysctl{"net/ipv4/conf/" + name + "/rp_filter", 2}, Sysctl{sloppy, 1}); err != nil {
		return datapath.MTU{}, err
	}
	return mtu(endpoints, peers)
}

// Read returns the names of the devices that Up has made.
func (Tunnels) Read() (devices []string, err error) {
	for _, family := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		name := datapath.TunnelDevice(family).Name
		_, err := netlink.LinkByName(name)
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("finding device %s: %w", name, err)
		}
		devices = append(devices, name)
	}
	return devices, nil
}

// Down takes back what Up has made, and nothing if there is nothing.
func (t Tunnels) Down() error {
	name := datapath.TunnelDevice(netip.IPv4Unspecified()).Name
	if _, err := netlink.LinkByName(name); errors.As(err, new(netlink.LinkNotFoundError)) {
		return down(netip.IPv6Unspecified())
	}
	var errs []error
	err := os.WriteFile(filepath.Join(t.ProcSys, filepath.FromSlash(sloppy)), []byte("0"), 0o644)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, fmt.Errorf("setting sysctl %s: %w", sloppy, err))
	}
	return errors.Join(append(errs, down(netip.IPv6Unspecified()), down(netip.IPv4Unspecified()))...)
}

// Spare suspends what [IPVS] sets, that connections end with their destination, until it is called with false. Packets for a destination
// that is not there are dropped meanwhile.
func (t Tunnels) Spare(connections bool) error {
	value := "1"
	if connections {
		value = "0"
	}
	if err := os.WriteFile(filepath.Join(t.ProcSys, filepath.FromSlash(expire)), []byte(value), 0o644); err != nil {
		return fmt.Errorf("setting sysctl %s: %w", expire, err)
	}
	return nil
}

// up makes the device of a family, which unwraps what is for its own address only.
func up(family netip.Addr) error {
	d := datapath.TunnelDevice(family)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = d.Name
	var device netlink.Link = &netlink.Iptun{LinkAttrs: attrs, Local: d.Addr.AsSlice(), Proto: unix.IPPROTO_IPIP}
	if d.Addr.Is6() {
		device = &netlink.Ip6tnl{LinkAttrs: attrs, Local: d.Addr.AsSlice(), Proto: unix.IPPROTO_IPV6}
	}
	if err := netlink.LinkAdd(device); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("adding device %s of type %s, which needs module %s: %w", d.Name, device.Type(), module(family), err)
	}
	link, err := netlink.LinkByName(d.Name)
	if err != nil {
		return fmt.Errorf("finding device %s: %w", d.Name, err)
	}
	// The address is for incoming packets: the kernel shall not choose it as a source.
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: d.Addr.AsSlice(), Mask: net.CIDRMask(d.Addr.BitLen(), d.Addr.BitLen())}, Scope: int(netlink.SCOPE_HOST)}
	if d.Addr.Is6() {
		addr.Scope, addr.Flags, addr.ValidLft, addr.PreferedLft = 0, unix.IFA_F_NODAD, forever, 0
	}
	if err := netlink.AddrAdd(link, addr); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("adding address %s to device %s: %w", d.Addr, d.Name, err)
	}
	if link.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting device %s up: %w", d.Name, err)
	}
	return nil
}

func module(family netip.Addr) string {
	if family.Is4() {
		return "ipip"
	}
	return "ip6_tunnel"
}

func down(family netip.Addr) error {
	name := datapath.TunnelDevice(family).Name
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("deleting device %s: %w", name, err)
	}
	return nil
}

// mtu returns the smallest on the way to the addresses, for each family that has an endpoint.
func mtu(endpoints, peers []netip.Addr) (out datapath.MTU, err error) {
	links := map[int]int{}
	for _, a := range slices.Concat(endpoints, peers) {
		least := &out.IPv4
		if a.Is6() {
			least = &out.IPv6
		}
		if !slices.ContainsFunc(endpoints, func(e netip.Addr) bool { return e.Is4() == a.Is4() }) {
			continue
		}
		n, err := mtuTo(a, links)
		if err != nil {
			return out, err
		}
		if n > 0 && (*least == 0 || n < *least) {
			*least = n
		}
	}
	return out, nil
}

// mtuTo returns the MTU on the way to a, or 0 if a is the node's own or cannot be reached. Links are those of links that are known.
func mtuTo(a netip.Addr, links map[int]int) (int, error) {
	routes, err := netlink.RouteGet(a.AsSlice())
	if err != nil || len(routes) == 0 || routes[0].Type == unix.RTN_LOCAL {
		return 0, nil
	}
	index := routes[0].LinkIndex
	if _, known := links[index]; !known {
		link, err := netlink.LinkByIndex(index)
		if err != nil {
			return 0, fmt.Errorf("reading the MTU on the way to %s: %w", a, err)
		}
		links[index] = link.Attrs().MTU
	}
	if n := routes[0].MTU; n > 0 {
		return min(n, links[index]), nil
	}
	return links[index], nil
}

// MissingModules returns those that the kernel lacks for [Tunnels.Up], after it has tried to load them. It makes a throwaway device of each kind.
func MissingModules() (missing []string, err error) {
	for _, family := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		device := throwaway(family)
		switch err := netlink.LinkAdd(device); {
		case errors.Is(err, unix.EOPNOTSUPP):
			missing = append(missing, module(family))
			continue
		case err != nil && !errors.Is(err, unix.EEXIST):
			return missing, fmt.Errorf("adding a throwaway device of type %s: %w", device.Type(), err)
		}
		if err := netlink.LinkDel(device); err != nil && !errors.Is(err, unix.ENODEV) {
			return missing, fmt.Errorf("deleting device %s: %w", device.Attrs().Name, err)
		}
	}
	return missing, nil
}

// throwaway is a device that differs from all others in the other end of its tunnel, the dummy address of RFC 7600 and one of RFC 6666.
func throwaway(family netip.Addr) netlink.Link {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "fairlead-try"
	if family.Is4() {
		return &netlink.Iptun{LinkAttrs: attrs, Remote: net.IPv4(192, 0, 0, 8), Proto: unix.IPPROTO_IPIP}
	}
	return &netlink.Ip6tnl{LinkAttrs: attrs, Remote: net.ParseIP("100::8"), Proto: unix.IPPROTO_IPV6}
}
