//go:build wire

package bgp

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/test/router"
)

const birdConfig = `router id 192.0.2.2;
log stderr all;
protocol device { scan time 1; }
protocol kernel k4 { ipv4 { export all; }; }
protocol kernel k6 { ipv6 { export all; }; }
protocol bfd { interface "eth0" { min rx interval 50 ms; min tx interval 50 ms; multiplier 3; }; }
template bgp node {
  local as 64513;
  error wait time 1, 5; connect retry time 1;
  hold time 9;
  %s
  ipv4 { import all; export none; };
  ipv6 { import all; export none; };
}
protocol bgp four from node { neighbor 192.0.2.1 as 64512; }
protocol bgp six from node { neighbor 2001:db8::1 as 64512; }
`

const gobgpConfig = `[global.config]
  as = 64513
  router-id = "192.0.2.2"
  port = 179
[[neighbors]]
  [neighbors.config]
    neighbor-address = "192.0.2.1"
    peer-as = 64512
  [neighbors.transport.config]
    passive-mode = true
  [neighbors.graceful-restart.config]
    enabled = true
    restart-time = 60
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "ipv4-unicast"
    [neighbors.afi-safis.mp-graceful-restart.config]
      enabled = true
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "ipv6-unicast"
    [neighbors.afi-safis.mp-graceful-restart.config]
      enabled = true
`

// everything is a path with all that a path can have.
func everything() bgp.Path {
	p := paths("198.51.100.0/25")[0]
	med := uint32(7)
	p.MED, p.Prepend, p.Communities, p.Large = &med, 2, []uint32{ourASN<<16 | 42, bgp.GracefulShutdown}, []bgp.LargeCommunity{{Global: ourASN, Local1: 1, Local2: 2}}
	return p
}

// TestBIRD: both families over both, and what BIRD sees of a path's attributes; then graceful restart.
func TestBIRD(t *testing.T) {
	b := router.StartBIRD(link(t), fmt.Sprintf(birdConfig, ""))
	told := append(paths("198.51.100.7/32"), append([]bgp.Path{everything()}, paths("2001:db8:5::1/128", "2001:db8:6::/48")...)...)
	slices.SortFunc(told, func(a, b bgp.Path) int { return a.Prefix.Compare(b.Prefix) })
	want := []string{"198.51.100.0/25", "198.51.100.7/32", "2001:db8:5::1/128", "2001:db8:6::/48"}
	x, y := peer("four", them4), peer("six", them6)
	x.Paths, y.Paths = told, told
	s := start(t, x, y)
	s.up("four")
	s.up("six")
	router.Until(t, "the routes in BIRD", func() bool { return slices.Equal(b.Prefixes(), want) })
	shown := b.Show("show", "route", "198.51.100.0/25", "all")
	for _, w := range []string{"BGP.as_path: 64512 64512 64512", "BGP.med: 7", "(64512,42)", "(65535,0)", "(64512, 1, 2)"} {
		if !strings.Contains(shown, w) {
			t.Errorf("BIRD does not show %q:\n%s", w, shown)
		}
	}
	s.stop()
	router.Until(t, "no route", func() bool { return len(b.Prefixes()) == 0 })
}

// TestGoBGP: the same with gobgpd of Debian, which is older than the codec that we use.
func TestGoBGP(t *testing.T) {
	g := router.StartGoBGP(link(t), gobgpConfig)
	p := peer("gobgp", them4)
	p.Paths = append(append([]bgp.Path{everything()}, paths("198.51.100.7/32")...), paths("2001:db8:5::1/128")...)
	s := start(t, p)
	s.up("gobgp")
	want := []string{"198.51.100.0/25", "198.51.100.7/32", "2001:db8:5::1/128"}
	router.Until(t, "the routes in GoBGP", func() bool { return slices.Equal(g.Prefixes(), want) })
	shown := g.Show("global", "rib", "198.51.100.0/25")
	for _, w := range []string{"64512 64512 64512", "{Med: 7}", "64512:42", "64512:1:2"} {
		if !strings.Contains(shown, w) {
			t.Errorf("GoBGP does not show %q:\n%s", w, shown)
		}
	}
	p.Paths = paths("198.51.100.7/32")
	s.set(p)
	router.Until(t, "the rest gone", func() bool { return slices.Equal(g.Prefixes(), []string{"198.51.100.7/32"}) })
}

// TestProcessKilledUnderOthers: BIRD and GoBGP keep the routes too.
func TestProcessKilledUnderOthers(t *testing.T) {
	for name, begin := range map[string]func(*router.Host) func() []string{
		"BIRD": func(h *router.Host) func() []string {
			return router.StartBIRD(h, fmt.Sprintf(birdConfig, "graceful restart aware;")).Prefixes
		},
		"GoBGP": func(h *router.Host) func() []string { return router.StartGoBGP(h, gobgpConfig).Prefixes },
	} {
		t.Run(name, func(t *testing.T) {
			prefixes := begin(link(t))
			p := startPod(t, 0)
			n := graceful()
			p.Set(complete(n))
			p.up("frr")
			router.Until(t, "the routes", func() bool { return len(prefixes()) == 3 })
			p.kill()
			for range 20 {
				if got := prefixes(); len(got) != 3 {
					t.Fatalf("%s has %v after the process was killed", name, got)
				}
			}
			p.up("frr")
			n.Paths = paths("198.51.100.7/32")
			p.Set(complete(n))
			router.Until(t, "two of them withdrawn by the new process", func() bool { return len(prefixes()) == 1 })
		})
	}
}
