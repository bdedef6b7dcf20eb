package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// Limits of a lab.
const (
	MaxNodes = 64 // node-N has host number 10+N on the segment, and .100 is the client

	// MinNodeMonitorGrace is four kubelet heartbeats (10 s each); below it nodes
	// that are well flap between Ready and Unknown.
	MinNodeMonitorGrace = 40 * time.Second
)

// KubeProxy is the mode of kube-proxy on every node.
type KubeProxy string

// The modes of kube-proxy.
const (
	KubeProxyNone     KubeProxy = "none"
	KubeProxyNFTables KubeProxy = "nftables"
	KubeProxyIPTables KubeProxy = "iptables"
	KubeProxyIPVS     KubeProxy = "ipvs"
)

// Router is the routing daemon on the router.
type Router string

// The routing daemons.
const (
	RouterNone  Router = "none"
	RouterFRR   Router = "frr"
	RouterBIRD  Router = "bird"
	RouterGoBGP Router = "gobgp"
)

// Lab is everything that defines a lab.
type Lab struct {
	Name      string        `json:"name"`      // selects the lab; letters, digits and dashes, at most 32
	Nodes     int           `json:"nodes"`     // 1 to MaxNodes
	DualStack bool          `json:"dualStack"` // pods, Services and nodes get IPv6 addresses too
	DNS       bool          `json:"dns"`       // CoreDNS behind the Service kube-dns, and pods that ask it
	KubeProxy KubeProxy     `json:"kubeProxy"`
	Router    Router        `json:"router"`
	Grace     time.Duration `json:"nodeMonitorGrace"` // silence after which a node becomes NotReady
	BinDir    string        `json:"binDir"`           // absolute; programs of the lab and of its images
	Slow      float64       `json:"slow"`             // factor on every timeout, 1 or more
}

// Validate reports every option that is out of range, or nil.
func (l Lab) Validate() error {
	var errs []error
	if err := ValidateName(l.Name); err != nil {
		errs = append(errs, err)
	}
	if l.Nodes < 1 || l.Nodes > MaxNodes {
		errs = append(errs, fmt.Errorf("nodes %d: want 1 to %d", l.Nodes, MaxNodes))
	}
	if modes := []KubeProxy{KubeProxyNone, KubeProxyNFTables, KubeProxyIPTables, KubeProxyIPVS}; !slices.Contains(modes, l.KubeProxy) {
		errs = append(errs, fmt.Errorf("kube-proxy %q: want one of %v", l.KubeProxy, modes))
	}
	if daemons := []Router{RouterNone, RouterFRR, RouterBIRD, RouterGoBGP}; !slices.Contains(daemons, l.Router) {
		errs = append(errs, fmt.Errorf("router %q: want one of %v", l.Router, daemons))
	}
	if l.Grace < MinNodeMonitorGrace {
		errs = append(errs, fmt.Errorf("node monitor grace %v: want at least %v", l.Grace, MinNodeMonitorGrace))
	}
	if l.Slow < 1 {
		errs = append(errs, fmt.Errorf("slow %v: want 1 or more", l.Slow))
	}
	return errors.Join(errs...)
}

// ValidateName reports whether a lab can have that name, which is also that of a directory.
func ValidateName(name string) error {
	if !regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`).MatchString(name) {
		return fmt.Errorf("name %q: want 1 to 32 lower-case letters, digits and inner dashes", name)
	}
	return nil
}

// Timeout scales base for machines that are slower than usual.
func (l Lab) Timeout(base time.Duration) time.Duration {
	return time.Duration(float64(base) * l.Slow)
}

// Diff names each option in which the wanted lab differs from l, the running one,
// in the words of the command line. How slow the machine is does not count.
func (l Lab) Diff(wanted Lab) []string {
	var diff []string
	add := func(flag string, have, want any) {
		if have != want {
			diff = append(diff, fmt.Sprintf("--%s is %v, not %v", flag, have, want))
		}
	}
	add("nodes", l.Nodes, wanted.Nodes)
	add("dual-stack", l.DualStack, wanted.DualStack)
	add("dns", l.DNS, wanted.DNS)
	add("kube-proxy", l.KubeProxy, wanted.KubeProxy)
	add("router", l.Router, wanted.Router)
	add("node-monitor-grace", l.Grace, wanted.Grace)
	add("bin-dir", l.BinDir, wanted.BinDir)
	return diff
}
