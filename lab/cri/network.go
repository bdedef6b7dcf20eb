package cri

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	bridgeName = "cni0"
	podLink    = "eth0"
)

// network connects pods to the node: a bridge with the first address of every pod prefix, one veth
// pair per pod.
//
// A pod's address is a host address and its only route leads to the bridge, so packets between pods
// of one node are routed, not switched. That way they pass the node's packet filter in both
// directions, as they must for address translation, on kernels without br_netfilter too.
type network struct {
	mu        sync.Mutex
	addresses *addresses
	bridge    *netlink.Bridge // nil until the first pod
	ports     []hostPort
}

func newNetwork(prefixes []netip.Prefix) *network { return &network{addresses: newAddresses(prefixes)} }

// attach gives the network namespace of process pid an interface and addresses, and returns the
// addresses and their number for detach. peer is the name of the node's end.
func (n *network) attach(pid int, peer string) ([]netip.Addr, int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.ensureBridge(); err != nil {
		return nil, 0, err
	}
	number, err := n.addresses.take()
	if err != nil {
		return nil, 0, err
	}
	addrs := n.addresses.of(number)
	if err := n.connect(pid, peer, addrs); err != nil {
		n.addresses.release(number)
		return nil, 0, err
	}
	return addrs, number, nil
}

// detach removes the node's end of a pod's link and frees its addresses.
func (n *network) detach(peer string, number int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addresses.release(number)
	link, err := netlink.LinkByName(peer)
	var gone netlink.LinkNotFoundError
	if errors.As(err, &gone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("finding %s: %w", peer, err)
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("deleting %s: %w", peer, err)
	}
	return nil
}

func (n *network) ensureBridge() error {
	if n.bridge != nil {
		return nil
	}
	gateways := n.addresses.of(1)
	snooping := false // it would drop neighbour solicitations until the bridge has heard a querier
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridgeName
	attrs.HardwareAddr = mac(gateways[0])
	bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}
	if err := netlink.LinkAdd(bridge); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("creating bridge %s: %w", bridgeName, err)
	}
	link, err := netlink.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("finding bridge %s: %w", bridgeName, err)
	}
	bridge.Attrs().Index = link.Attrs().Index
	for i, gateway := range gateways {
		if err := netlink.AddrReplace(bridge, address(gateway, n.addresses.prefixes[i].Bits())); err != nil {
			return fmt.Errorf("adding %s to %s: %w", gateway, bridgeName, err)
		}
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("setting up %s: %w", bridgeName, err)
	}
	if err := setSysctls(nodeSysctls); err != nil {
		return err
	}
	n.bridge = bridge
	return nil
}

// nodeSysctls make the node a router for its pods. Redirects would tell pods to talk past it, and a
// bridge that calls the packet filter translates addresses by itself, without routing.
const nodeSysctls = "net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 " +
	"net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.cni0.send_redirects=0 " +
	"net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0"

// podSysctls make addresses usable at once and keep routes as they are set.
const podSysctls = "net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.accept_ra=0 " +
	"net.ipv6.conf.all.accept_redirects=0 net.ipv6.conf.default.accept_redirects=0"

func setSysctls(list string) error {
	for _, s := range strings.Fields(list) {
		name, value, _ := strings.Cut(s, "=")
		err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6 or br_netfilter
			return fmt.Errorf("setting sysctl %s: %w", name, err)
		}
	}
	return nil
}

func (n *network) connect(pid int, peer string, addrs []netip.Addr) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = peer
	attrs.MasterIndex = n.bridge.Attrs().Index
	veth := netlink.NewVeth(attrs)
	veth.PeerName = podLink
	veth.PeerHardwareAddr = mac(addrs[0])
	veth.PeerNamespace = netlink.NsPid(pid)
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("creating link %s: %w", peer, err)
	}
	err := netlink.LinkSetUp(veth)
	if err == nil {
		// For a br_netfilter that is loaded later: it sends a pod's packet to itself back by the same port.
		err = netlink.LinkSetHairpin(veth, true)
	}
	if err == nil {
		err = n.configurePod(pid, addrs)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("connecting pod: %w", err), netlink.LinkDel(veth))
	}
	return nil
}

func (n *network) configurePod(pid int, addrs []netip.Addr) error {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return fmt.Errorf("opening network namespace of process %d: %w", pid, err)
	}
	defer ns.Close()
	pod, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("opening netlink socket in pod: %w", err)
	}
	defer pod.Close()
	for _, name := range []string{"lo", podLink} {
		link, err := pod.LinkByName(name)
		if err != nil {
			return fmt.Errorf("finding %s: %w", name, err)
		}
		if err := pod.LinkSetUp(link); err != nil {
			return fmt.Errorf("setting up %s: %w", name, err)
		}
	}
	link, err := pod.LinkByName(podLink)
	if err != nil {
		return fmt.Errorf("finding %s: %w", podLink, err)
	}
	gateways := n.addresses.of(1)
	for i, addr := range addrs {
		if err := addRoutes(pod, link, addr, gateways[i]); err != nil {
			return err
		}
	}
	return nil
}

func addRoutes(pod *netlink.Handle, link netlink.Link, addr, gateway netip.Addr) error {
	if err := pod.AddrReplace(link, address(addr, addr.BitLen())); err != nil {
		return fmt.Errorf("adding address %s: %w", addr, err)
	}
	index := link.Attrs().Index
	onLink := &netlink.Route{LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: prefix(gateway, gateway.BitLen())}
	if err := pod.RouteReplace(onLink); err != nil {
		return fmt.Errorf("adding route to %s: %w", gateway, err)
	}
	if err := pod.RouteReplace(&netlink.Route{LinkIndex: index, Gw: gateway.AsSlice()}); err != nil {
		return fmt.Errorf("adding default route by %s: %w", gateway, err)
	}
	return nil
}

func prefix(a netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}
}

// address skips duplicate address detection: the runtime hands out every address once.
func address(a netip.Addr, bits int) *netlink.Addr {
	addr := &netlink.Addr{IPNet: prefix(a, bits)}
	if a.Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return addr
}

// mac derives a hardware address from an IP address, so that a neighbour cache stays right when an
// address moves to another pod.
func mac(a netip.Addr) net.HardwareAddr {
	b := a.AsSlice()
	return append(net.HardwareAddr{0x0a, 0x58}, b[len(b)-4:]...)
}
