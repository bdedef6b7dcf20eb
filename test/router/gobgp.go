package router

import (
	"encoding/json"
	"os/exec"
	"slices"
)

// GoBGP is gobgpd on a host.
type GoBGP struct {
	Host   *Host
	Daemon *Process
}

// StartGoBGP starts gobgpd with a configuration in TOML.
func StartGoBGP(h *Host, config string) *GoBGP {
	h.T.Helper()
	d := dir(h.T)
	g := &GoBGP{Host: h}
	g.Daemon = h.Daemon("/usr/bin/gobgpd", "-f", write(h.T, d, "gobgp.toml", config), "--api-hosts", "127.0.0.1:50051", "--pprof-disable")
	Until(h.T, "gobgpd listening", func() bool { return g.Show("global") != "" })
	return g
}

// Show returns what gobgp prints for a command, or "" while gobgpd does not listen.
func (g *GoBGP) Show(command ...string) string {
	var out []byte
	g.Host.Within(func() (err error) {
		out, err = exec.Command("/usr/bin/gobgp", command...).Output()
		if err != nil {
			out, err = nil, nil
		}
		return err
	})
	return string(out)
}

// Prefixes returns the prefixes that gobgpd has, sorted.
func (g *GoBGP) Prefixes() (out []string) {
	for _, family := range []string{"ipv4", "ipv6"} {
		var table map[string]json.RawMessage
		if json.Unmarshal([]byte(g.Show("global", "rib", "-a", family, "-j")), &table) == nil {
			for p := range table {
				out = append(out, p)
			}
		}
	}
	slices.Sort(out)
	return out
}
