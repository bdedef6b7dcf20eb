//go:build wire

package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/lb"
	"github.com/fairlead-lb/fairlead/test/router"
)

// frrConfig is bgpd's configuration with us as neighbour at both addresses; extra lines are the neighbours' own, %s is the address.
func frrConfig(asn int, extra ...string) string {
	lines := []string{fmt.Sprintf("router bgp %d", asn), " bgp router-id 192.0.2.2", " no bgp ebgp-requires-policy", " no bgp default ipv4-unicast"}
	var families []string
	for _, us := range []netip.Addr{us4, us6} {
		lines = append(lines, fmt.Sprintf(" neighbor %s remote-as %d", us, ourASN), fmt.Sprintf(" neighbor %s timers connect 1", us))
		for _, l := range extra {
			lines = append(lines, " neighbor "+us.String()+" "+l)
		}
		families = append(families, "  neighbor "+us.String()+" activate", "  neighbor "+us.String()+" soft-reconfiguration inbound")
	}
	for _, f := range []string{"ipv4", "ipv6"} {
		lines = append(append(lines, " address-family "+f+" unicast"), append(families, " exit-address-family")...)
	}
	return strings.Join(lines, "\n") + "\n"
}

// TestFRRFamilies: both families over sessions of both, over IPv4 and over IPv6.
func TestFRRFamilies(t *testing.T) {
	f := router.StartFRR(link(t), frrConfig(theirASN))
	told := paths("198.51.100.7/32", "203.0.113.0/24", "2001:db8:5::1/128", "2001:db8:6::/48")
	a, b := peer("four", them4), peer("six", them6)
	a.Paths, b.Paths = told, told
	s := start(t, a, b)
	t.Logf("established after %s and %s", s.up("four"), s.up("six"))
	want := []string{"198.51.100.7/32", "2001:db8:5::1/128", "2001:db8:6::/48", "203.0.113.0/24"}
	router.Until(t, fmt.Sprintf("%v in the table of FRR", want), func() bool { return slices.Equal(f.Prefixes(), want) })
	for family, hop := range map[string]string{"ipv4": us4.String(), "ipv6": us6.String()} {
		for prefix, list := range f.Routes(family) {
			if len(list) != 2 {
				t.Errorf("%s has %d paths, want one of each session", prefix, len(list))
			}
			for _, p := range list {
				if !p.Valid || p.Path != fmt.Sprint(ourASN) || p.NextHops[0].IP != hop {
					t.Errorf("%s: %+v, want next hop %s", prefix, p, hop)
				}
			}
		}
	}
	a.Paths, b.Paths = nil, paths("198.51.100.7/32")
	s.set(a, b)
	router.Until(t, "one prefix left", func() bool { return slices.Equal(f.Prefixes(), []string{"198.51.100.7/32"}) })
	s.stop()
	router.Until(t, "no prefix left", func() bool { return len(f.Prefixes()) == 0 })
	if n := f.Neighbor(us4.String()); !strings.Contains(n.LastNotification, "Administrative Shutdown") {
		t.Errorf("FRR says that the session ended by %q", n.LastNotification)
	}
}

// TestFRRAttributes: FRR sees what a path carries, of external and internal peers.
func TestFRRAttributes(t *testing.T) {
	med := uint32(7)
	full := bgp.Path{Prefix: netip.MustParsePrefix("198.51.100.0/25"), LocalPref: 250, MED: &med, Prepend: 2, Communities: []uint32{ourASN<<16 | 42, bgp.GracefulShutdown},
		Large: []bgp.LargeCommunity{{Global: ourASN, Local1: 1, Local2: 2}}, Weight: 125_000_000}
	for _, c := range []struct {
		name string
		asn  int
		want []string
	}{
		{"external", theirASN, []string{"64512 64512 64512", "metric 7", "64512:42", "graceful-shutdown", "64512:1:2", "LB:64512:125000000"}},
		{"internal", ourASN, []string{"Local", "metric 7", "localpref 250", "64512:42", "64512:1:2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := router.StartFRR(link(t), frrConfig(c.asn))
			p := peer("frr", them4)
			p.PeerASN, p.Paths = uint32(c.asn), []bgp.Path{full}
			if c.name == "internal" {
				p.PeerASN, p.Dynamic = 0, bgp.Internal
			}
			s := start(t, p)
			s.up("frr")
			router.Until(t, "the prefix in FRR's table", func() bool { return len(f.Prefixes()) == 1 })
			shown := f.Show("bgpd", "show bgp ipv4 unicast "+full.Prefix.String())
			for _, w := range c.want {
				if !strings.Contains(shown, w) {
					t.Errorf("FRR does not show %q:\n%s", w, shown)
				}
			}
			if x := s.session("frr"); x.PeerASN != uint32(c.asn) || x.PeerID != "192.0.2.2" {
				t.Errorf("%+v", x)
			}
		})
	}
}

// TestFRRRefusals: each wrong setting has a Reason of its own.
func TestFRRRefusals(t *testing.T) {
	router.StartFRR(link(t), frrConfig(theirASN, "password right"))
	right := peer("right", them4)
	right.Password = "right"
	s := start(t, right)
	s.up("right") // or the rows below would show nothing
	s.stop()
	for _, c := range []struct {
		name   string
		change func(*bgp.Peer)
		want   lb.Reason
	}{
		{"wrong password", func(p *bgp.Peer) { p.Password = "wrong" }, lb.BGPWrongPassword},
		{"no password", func(p *bgp.Peer) { p.Password = "" }, lb.BGPNoAnswer},
		{"wrong address", func(p *bgp.Peer) { p.Addr = netip.MustParseAddr("192.0.2.99") }, lb.BGPUnreachable},
		{"wrong port", func(p *bgp.Peer) { p.Password, p.Port = "", 180 }, lb.BGPRefused},
		{"wrong source", func(p *bgp.Peer) { p.Source = netip.MustParseAddr("192.0.2.50") }, lb.BGPNoSource},
		{"wrong VRF", func(p *bgp.Peer) { p.VRF = "red" }, lb.BGPNoSource},
		{"wrong AS of theirs", func(p *bgp.Peer) { p.PeerASN = 1 }, lb.BGPWrongASN},
		{"wrong AS of ours", func(p *bgp.Peer) { p.MyASN = 1 }, lb.BGPWrongASN},
		{"external although internal is wanted", func(p *bgp.Peer) { p.PeerASN, p.Dynamic = 0, bgp.Internal }, lb.BGPWrongASN},
		{"held", func(p *bgp.Peer) { p.Held = lb.Refusal{Reason: lb.InvalidSpec, Message: "no Secret"} }, lb.InvalidSpec},
		{"BFD", func(p *bgp.Peer) { p.BFDDown = true }, lb.BGPBFDDown},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := right
			p.Name = "frr"
			c.change(&p)
			start(t, p).refused("frr", c.want)
		})
	}
}

// TestFRRExtendedNextHop: on a link without IPv4, IPv4 paths go by IPv6 (RFC 8950) if the router has said that it can, and are
// reported as untold if it has not.
func TestFRRExtendedNextHop(t *testing.T) {
	for _, able := range []bool{true, false} {
		t.Run(fmt.Sprint("able ", able), func(t *testing.T) {
			h := router.NewHost(t)
			router.Cable(t, nil, "v0", []string{us6.String() + "/64"}, h, "eth0", []string{them6.String() + "/64"})
			capability := "capability extended-nexthop"
			if !able {
				capability = "description none"
			}
			f := router.StartFRR(h, frrConfig(theirASN, capability))
			p := peer("six", them6)
			p.Paths = paths("198.51.100.7/32", "2001:db8:5::1/128")
			s := start(t, p)
			if able {
				s.up("six")
				router.Until(t, "both routes", func() bool { return len(f.Prefixes()) == 2 })
				if hop := f.Routes("ipv4")["198.51.100.7/32"][0].NextHops[0].IP; hop != us6.String() {
					t.Errorf("next hop %s", hop)
				}
				return
			}
			router.Until(t, "the one route that can be told", func() bool { return slices.Equal(f.Prefixes(), []string{"2001:db8:5::1/128"}) })
			if x := s.session("six"); x.State != bgp.Established || x.Reason != lb.BGPNoNextHop || x.Pending != 1 || x.Sent != 1 {
				t.Errorf("%+v", x)
			}
		})
	}
}
