package router

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// FRR is zebra, bgpd and bfdd on a host.
type FRR struct {
	Host *Host
	BGPd *Process
	dir  string
}

// StartFRR starts FRR with bgpd's configuration. The daemons give up root.
func StartFRR(h *Host, bgp string) *FRR {
	h.T.Helper()
	f := &FRR{Host: h, dir: dir(h.T)}
	Check(h.T, run("chown", "frr:frr", f.dir))
	f.daemon("zebra", "")
	Until(h.T, "zebra listening", func() bool { return f.Show("zebra", "show version") != "" })
	f.daemon("bfdd", "", "--bfdctl", f.dir+"/bfdd.sock")
	f.BGPd = f.daemon("bgpd", bgp)
	Until(h.T, "bgpd listening", func() bool { return f.Show("bgpd", "show version") != "" })
	return f
}

func (f *FRR) daemon(name, config string, args ...string) *Process {
	f.Host.T.Helper()
	return f.Host.Daemon(append([]string{"/usr/lib/frr/" + name, "-f", write(f.Host.T, f.dir, name+".conf", config), "-i", f.dir + "/" + name + ".pid",
		"-z", f.dir + "/zserv.api", "--vty_socket", f.dir, "--log", "stdout"}, args...)...)
}

// Show returns what vtysh prints for commands, or "" while the daemon does not listen.
func (f *FRR) Show(daemon string, commands ...string) string {
	args := []string{"--vty_socket", f.dir, "-d", daemon}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	out, err := exec.Command("vtysh", args...).Output()
	if err != nil {
		return ""
	}
	return string(out)
}

// Configure changes bgpd's configuration.
func (f *FRR) Configure(lines ...string) {
	f.Host.T.Helper()
	if out := f.Show("bgpd", append([]string{"configure terminal"}, lines...)...); strings.Contains(out, "%") {
		f.Host.T.Fatalf("configuring %q: %s", lines, out)
	}
}

// FRRPath is a path of bgpd's table.
type FRRPath struct {
	Valid     bool   `json:"valid"`
	Bestpath  bool   `json:"bestpath"`
	Stale     bool   `json:"stale"`
	Path      string `json:"path"`
	LocalPref int    `json:"locPrf"`
	Metric    int    `json:"metric"`
	Weight    int    `json:"weight"`
	PeerID    string `json:"peerId"`
	NextHops  []struct {
		IP string `json:"ip"`
	} `json:"nexthops"`
}

// Routes returns bgpd's table of "ipv4" or "ipv6": prefix -> paths.
func (f *FRR) Routes(family string) map[string][]FRRPath {
	var out struct {
		Routes map[string][]FRRPath `json:"routes"`
	}
	if err := json.Unmarshal([]byte(f.Show("bgpd", "show bgp "+family+" unicast json")), &out); err != nil {
		return nil
	}
	return out.Routes
}

// Prefixes returns the prefixes of both families that bgpd has, sorted.
func (f *FRR) Prefixes() (out []string) {
	for _, family := range []string{"ipv4", "ipv6"} {
		for p := range f.Routes(family) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// FRRNeighbor is what bgpd says of a neighbour.
type FRRNeighbor struct {
	State            string `json:"bgpState"`
	LastResetDueTo   string `json:"lastResetDueTo"`
	LastErrorCode    string `json:"lastErrorCodeSubcode"`
	LastNotification string `json:"lastNotificationReason"`
	Established      int    `json:"connectionsEstablished"`
}

// Neighbor returns what bgpd says of a neighbour.
func (f *FRR) Neighbor(addr string) FRRNeighbor {
	var out map[string]FRRNeighbor
	if err := json.Unmarshal([]byte(f.Show("bgpd", "show bgp neighbors "+addr+" json")), &out); err != nil {
		return FRRNeighbor{}
	}
	return out[addr]
}

// Installed returns how many routes of BGP the kernel of the router has.
func (f *FRR) Installed() (n int) {
	f.Host.Within(func() error {
		for _, family := range []string{"-4", "-6"} {
			out, err := exec.Command("ip", "-o", family, "route", "show", "proto", "bgp").Output()
			if err != nil {
				return fmt.Errorf("listing routes: %w", err)
			}
			n += strings.Count(string(out), "\n")
		}
		return nil
	})
	return n
}
