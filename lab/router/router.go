package router

import (
	"fmt"
	"path/filepath"

	"github.com/fairlead-lb/fairlead/lab/config"
	"github.com/fairlead-lb/fairlead/lab/daemon"
	"github.com/fairlead-lb/fairlead/lab/member"
	"github.com/fairlead-lb/fairlead/lab/topology"
)

// The autonomous systems of the lab.
const (
	ASN     = 64513 // of the router
	PeerASN = 64512 // of its neighbours on the LAN segment
)

// maxPaths is how many equal paths the router uses.
const maxPaths = config.MaxNodes

// Setup is what it takes to run a routing daemon.
type Setup struct {
	Package  string // Debian package of the programs
	Programs []string
	File     string // configuration, "" = none
	Text     string // of File
	User     string // owner of File and Dirs
	Dirs     []member.Dir
	Daemons  []daemon.Spec
}

// New returns the setup of a daemon, with its configuration in dir and its log in logDir.
func New(kind config.Router, dir, logDir string) Setup {
	switch kind {
	case config.RouterNone:
		return Setup{}
	case config.RouterFRR:
		return frr(dir, logDir)
	case config.RouterBIRD:
		return bird(dir, logDir)
	case config.RouterGoBGP:
		return gobgp(dir, logDir)
	}
	panic("router: unknown kind " + string(kind))
}

// frr uses FRR's own paths below /run, so that vtysh on the router needs no options.
func frr(dir, logDir string) Setup {
	const run = "/run/frr"
	s := Setup{
		Package: "frr", User: "frr", File: filepath.Join(dir, "frr.conf"),
		Dirs: []member.Dir{{Path: run, User: "frr"}},
		Text: fmt.Sprintf(`frr defaults datacenter
hostname router
router bgp %[1]d
 bgp router-id %[2]s
 no bgp ebgp-requires-policy
 bgp bestpath as-path multipath-relax
 neighbor nodes peer-group
 neighbor nodes remote-as %[3]d
 bgp listen range %[4]s peer-group nodes
 bgp listen range %[5]s peer-group nodes
 address-family ipv4 unicast
  maximum-paths %[6]d
 exit-address-family
 address-family ipv6 unicast
  neighbor nodes activate
  maximum-paths %[6]d
 exit-address-family
`, ASN, topology.RouterAddr(), PeerASN, topology.LAN4(), topology.LAN6(), maxPaths),
	}
	for _, name := range []string{"zebra", "bgpd", "bfdd"} {
		program := "/usr/lib/frr/" + name
		file := "/dev/null" // not the machine's own in /etc/frr
		if name == "bgpd" {
			file = s.File
		}
		argv := []string{
			program, "-f", file, "-i", filepath.Join(run, name+".pid"), "-z", filepath.Join(run, "zserv.api"),
			"--vty_socket", run, "--log", "stdout",
		}
		if name == "bfdd" {
			argv = append(argv, "--bfdctl", filepath.Join(run, "bfdd.sock"))
		}
		s.Programs = append(s.Programs, program)
		s.Daemons = append(s.Daemons, daemon.Spec{Name: name, Argv: argv, Log: filepath.Join(logDir, name+".log")})
	}
	return s
}

func bird(dir, logDir string) Setup {
	const program, run = "/usr/sbin/bird", "/run/bird"
	file := filepath.Join(dir, "bird.conf")
	return Setup{
		Package: "bird2", Programs: []string{program}, User: "root", File: file,
		Dirs: []member.Dir{{Path: run, User: "root"}},
		Text: fmt.Sprintf(`log stderr all;
router id %[1]s;
protocol device {}
protocol bfd {}
protocol kernel { ipv4 { import none; export all; }; merge paths yes limit %[2]d; }
protocol kernel { ipv6 { import none; export all; }; merge paths yes limit %[2]d; }
template bgp nodes {
  local as %[3]d;
  ipv4 { import all; export none; };
  ipv6 { import all; export none; };
  connect retry time 1;
  error wait time 1, 5;
}
protocol bgp from nodes { neighbor range %[4]s as %[5]d; dynamic name "node4_"; }
protocol bgp from nodes { neighbor range %[6]s as %[5]d; dynamic name "node6_"; }
`, topology.RouterAddr(), maxPaths, ASN, topology.LAN4(), PeerASN, topology.LAN6()),
		Daemons: []daemon.Spec{{
			Name: "bird", Log: filepath.Join(logDir, "bird.log"),
			Argv: []string{program, "-f", "-c", file, "-s", filepath.Join(run, "bird.ctl"), "-P", filepath.Join(run, "bird.pid")},
		}},
	}
}

func gobgp(dir, logDir string) Setup {
	const program = "/usr/bin/gobgpd"
	file := filepath.Join(dir, "gobgpd.toml")
	return Setup{
		Package: "gobgpd", Programs: []string{program}, User: "root", File: file,
		Text: fmt.Sprintf(`[global.config]
  as = %[1]d
  router-id = "%[2]s"
[[peer-groups]]
  [peer-groups.config]
    peer-group-name = "nodes"
    peer-as = %[3]d
  [[peer-groups.afi-safis]]
    [peer-groups.afi-safis.config]
      afi-safi-name = "ipv4-unicast"
  [[peer-groups.afi-safis]]
    [peer-groups.afi-safis.config]
      afi-safi-name = "ipv6-unicast"
[[dynamic-neighbors]]
  [dynamic-neighbors.config]
    prefix = "%[4]s"
    peer-group = "nodes"
[[dynamic-neighbors]]
  [dynamic-neighbors.config]
    prefix = "%[5]s"
    peer-group = "nodes"
`, ASN, topology.RouterAddr(), PeerASN, topology.LAN4(), topology.LAN6()),
		Daemons: []daemon.Spec{{
			Name: "gobgpd", Log: filepath.Join(logDir, "gobgpd.log"),
			Argv: []string{program, "-f", file},
		}},
	}
}
