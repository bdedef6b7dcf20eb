package router

import (
	"os/exec"
	"regexp"
	"slices"
)

// BIRD is BIRD 2 on a host.
type BIRD struct {
	Host   *Host
	Daemon *Process
	ctl    string
}

// StartBIRD starts BIRD with a configuration.
func StartBIRD(h *Host, config string) *BIRD {
	h.T.Helper()
	d := dir(h.T)
	b := &BIRD{Host: h, ctl: d + "/bird.ctl"}
	b.Daemon = h.Daemon("/usr/sbin/bird", "-f", "-c", write(h.T, d, "bird.conf", config), "-s", b.ctl, "-P", d+"/bird.pid")
	Until(h.T, "bird listening", func() bool { return b.Show("show", "status") != "" })
	return b
}

// Show returns what birdc prints for a command, or "" while bird does not listen.
func (b *BIRD) Show(command ...string) string {
	out, err := exec.Command("birdc", append([]string{"-r", "-s", b.ctl}, command...)...).Output()
	if err != nil {
		return ""
	}
	return string(out)
}

var birdRoute = regexp.MustCompile(`(?m)^([0-9a-f.:]+/[0-9]+) `)

// Prefixes returns the prefixes that BIRD has from BGP, sorted.
func (b *BIRD) Prefixes() (out []string) {
	for _, m := range birdRoute.FindAllStringSubmatch(b.Show("show", "route", "where", "source", "=", "RTS_BGP"), -1) {
		out = append(out, m[1])
	}
	slices.Sort(out)
	return slices.Compact(out)
}
