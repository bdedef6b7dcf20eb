package speaker

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/lb"
)

func TestConvert(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	attrs := func(change ...func(*netlink.LinkAttrs)) netlink.LinkAttrs {
		a := netlink.LinkAttrs{Name: "eth0", Index: 2, HardwareAddr: mac, RawFlags: unix.IFF_BROADCAST | unix.IFF_UP | unix.IFF_RUNNING}
		for _, c := range change {
			c(&a)
		}
		return a
	}
	enslaved := func(a *netlink.LinkAttrs) { a.MasterIndex = 9 }
	flags := func(set, clear uint32) func(*netlink.LinkAttrs) {
		return func(a *netlink.LinkAttrs) { a.RawFlags = a.RawFlags&^clear | set }
	}
	master := netlink.LinkAttrs{Name: "up0", Index: 9}
	cidr := func(s string) *net.IPNet {
		ip, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		return &net.IPNet{IP: ip, Mask: n.Mask}
	}
	addr := func(s string, flags int) netlink.Addr {
		return netlink.Addr{IPNet: cidr(s), LinkIndex: 2, Flags: flags}
	}
	v4 := addr("192.0.2.11/24", unix.IFA_F_PERMANENT)
	ra := func(change ...func(*netlink.Route)) netlink.Route {
		r := netlink.Route{Dst: cidr("2001:db8::/64"), LinkIndex: 2, Protocol: unix.RTPROT_RA, Type: unix.RTN_UNICAST}
		for _, c := range change {
			c(&r)
		}
		return r
	}
	tests := []struct {
		name   string
		links  []netlink.Link
		addrs  []netlink.Addr
		routes []netlink.Route
		want   []string // prefixes of eth0; nil = no link
		down   bool
	}{
		{name: "a device", links: []netlink.Link{&netlink.Device{LinkAttrs: attrs()}}, addrs: []netlink.Addr{v4}, want: []string{"192.0.2.0/24"}},
		{name: "a VLAN", links: []netlink.Link{&netlink.Vlan{LinkAttrs: attrs(), VlanId: 5}}, addrs: []netlink.Addr{v4}, want: []string{"192.0.2.0/24"}},
		{name: "a bond", links: []netlink.Link{&netlink.Bond{LinkAttrs: attrs()}}, addrs: []netlink.Addr{v4}, want: []string{"192.0.2.0/24"}},
		{name: "a bridge", links: []netlink.Link{&netlink.Bridge{LinkAttrs: attrs()}}, addrs: []netlink.Addr{v4}, want: []string{"192.0.2.0/24"}},
		{name: "a macvlan", links: []netlink.Link{&netlink.Macvlan{LinkAttrs: attrs()}}, addrs: []netlink.Addr{v4}, want: []string{"192.0.2.0/24"}},
		{name: "a bridge's port", links: []netlink.Link{&netlink.Device{LinkAttrs: attrs(enslaved)}, &netlink.Bridge{LinkAttrs: master}}, addrs: []netlink.Addr{v4}},
		{name: "a bond's port", links: []netlink.Link{&netlink.Device{LinkAttrs: attrs(enslaved)}, &netlink.Bond{LinkAttrs: master}}, addrs: []netlink.Addr{v4}},
		{name: "a member of a VRF", links: []netlink.Link{&netlink.Device{LinkAttrs: attrs(enslaved)}, &netlink.Vrf{LinkAttrs: master}}, addrs: []netlink.Addr{v4}, want: []string{"192.0.2.0/24"}},
		{name: "no carrier", links: []netlink.Link{&netlink.Device{LinkAttrs: attrs(flags(0, unix.IFF_RUNNING))}}, addrs: []netlink.Addr{v4}, want: []string{"192.0.2.0/24"}, down: true},
		{name: "set down", links: []netlink.Link{&netlink.Device{LinkAttrs: attrs(flags(0, unix.IFF_UP))}}, addrs: []netlink.Addr{v4}, want: []string{"192.0.2.0/24"}, down: true},
		{name: "no ARP", links: []netlink.Link{&netlink.Device{LinkAttrs: attrs(flags(unix.IFF_NOARP, 0))}}, addrs: []netlink.Addr{v4}},
		{name: "a tunnel", links: []netlink.Link{&netlink.Device{LinkAttrs: attrs(flags(unix.IFF_POINTOPOINT, unix.IFF_BROADCAST))}}, addrs: []netlink.Addr{v4}},
		{name: "no Ethernet", links: []netlink.Link{&netlink.Device{LinkAttrs: attrs(func(a *netlink.LinkAttrs) { a.HardwareAddr = mac[:4] })}}, addrs: []netlink.Addr{v4}},
		{name: "no address", links: []netlink.Link{&netlink.Device{LinkAttrs: attrs()}}},
		{name: "addresses alone", links: []netlink.Link{&netlink.Device{LinkAttrs: attrs()}}, addrs: []netlink.Addr{addr("192.0.2.11/32", 0), addr("2001:db8::b/128", 0)}},
		{name: "both families, two addresses in a subnet", links: []netlink.Link{&netlink.Device{LinkAttrs: attrs()}},
			addrs: []netlink.Addr{v4, addr("192.0.2.12/24", unix.IFA_F_SECONDARY), addr("2001:db8:1::b/64", 0), addr("2001:db8:1::c/64", unix.IFA_F_DEPRECATED)},
			want:  []string{"192.0.2.0/24", "2001:db8:1::/64"}},
		{name: "link-local, tentative, duplicate", links: []netlink.Link{&netlink.Device{LinkAttrs: attrs()}},
			addrs: []netlink.Addr{addr("fe80::1/64", 0), addr("2001:db8:1::b/64", unix.IFA_F_TENTATIVE), addr("2001:db8:2::b/64", unix.IFA_F_DADFAILED|unix.IFA_F_TENTATIVE)}},
		{name: "optimistic", links: []netlink.Link{&netlink.Device{LinkAttrs: attrs()}}, addrs: []netlink.Addr{addr("2001:db8:1::b/64", unix.IFA_F_TENTATIVE|unix.IFA_F_OPTIMISTIC)}, want: []string{"2001:db8:1::/64"}},
		{name: "/128 by DHCP and the subnet by router advertisement", links: []netlink.Link{&netlink.Device{LinkAttrs: attrs()}},
			addrs: []netlink.Addr{addr("2001:db8::b/128", 0)}, routes: []netlink.Route{ra()}, want: []string{"2001:db8::/64"}},
		{name: "the kernel's route beside its address", links: []netlink.Link{&netlink.Device{LinkAttrs: attrs()}},
			addrs: []netlink.Addr{addr("2001:db8::b/64", 0)}, routes: []netlink.Route{ra(func(r *netlink.Route) { r.Protocol = unix.RTPROT_KERNEL })}, want: []string{"2001:db8::/64"}},
		{name: "routes that put nothing on the link", links: []netlink.Link{&netlink.Device{LinkAttrs: attrs()}}, routes: []netlink.Route{
			ra(func(r *netlink.Route) { r.Gw = net.ParseIP("fe80::1") }), ra(func(r *netlink.Route) { r.Protocol = unix.RTPROT_STATIC }),
			ra(func(r *netlink.Route) { r.Dst = nil }), ra(func(r *netlink.Route) { r.Dst = cidr("::/0") }), ra(func(r *netlink.Route) { r.Dst = cidr("2001:db8::1/128") }),
			ra(func(r *netlink.Route) { r.Dst = cidr("fe80::/64") }), ra(func(r *netlink.Route) { r.Dst = cidr("ff00::/8") }),
			ra(func(r *netlink.Route) { r.Type = unix.RTN_UNREACHABLE }), ra(func(r *netlink.Route) { r.MultiPath = []*netlink.NexthopInfo{{}} })}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var want []lb.Link
			if tt.want != nil {
				l := lb.Link{Name: "eth0", Index: 2, MAC: lb.MAC(mac), Up: !tt.down}
				for _, p := range tt.want {
					l.Prefixes = append(l.Prefixes, netip.MustParsePrefix(p))
				}
				want = []lb.Link{l}
			}
			got := convert(tt.links, tt.addrs, tt.routes)
			if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
