package link

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ProcSys is where the kernel shows its settings. A container sees it read-only unless it is privileged; the node's own
// directory, mounted elsewhere into the container, shows the settings of the same network namespace and can be written.
const ProcSys = "/proc/sys"

// Sysctl is a kernel setting below [ProcSys] and the least value that it must have.
type Sysctl struct {
	Key   string // with slashes
	Least int
}

// String returns "net.ipv4.ip_forward>=1".
func (s Sysctl) String() string {
	return strings.ReplaceAll(s.Key, "/", ".") + ">=" + strconv.Itoa(s.Least)
}

// Forwarding is what every engine needs. The node routes packets to pods; for IPv6 that is left to whoever set up pod networking, because
// turning it on makes a host ignore router advertisements. And segments that are out of their connection's window are translated like all
// others: from an endpoint they would reach the client untranslated, whose reset ends the connection (S63).
func Forwarding() []Sysctl {
	return []Sysctl{{"net/ipv4/ip_forward", 1}, {"net/netfilter/nf_conntrack_tcp_be_liberal", 1}}
}

// Conntrack is what kube-proxy gives a node, and whoever replaces it should: room for connections by the number of CPUs, and patience with
// those that one side has closed (S64). The kernel's own patience with established ones, five days, is more than kube-proxy's and stays. In
// a network namespace that is not the host's own the room cannot be changed.
func Conntrack(cpus int) []Sysctl {
	return []Sysctl{
		{"net/netfilter/nf_conntrack_max", max(131072, 32768*cpus)},
		{"net/netfilter/nf_conntrack_tcp_timeout_close_wait", 3600},
	}
}

// IPVS is what the ipvs engine needs besides: conntrack for masquerading (fact 3), connections and affinity that end with
// their endpoint (S36, S61, S68), and [Silence].
func IPVS() []Sysctl {
	return append([]Sysctl{
		{"net/ipv4/vs/conntrack", 1},
		{expire, 1},
		{"net/ipv4/vs/expire_quiescent_template", 1},
	}, Silence()...)
}

// Silence is what keeps a kernel with local routes for VIPs from answering ARP for them and from naming one as the sender of its
// requests (S73). The setting for "all" counts on every link, also those to come. IPv6 needs nothing: Linux answers
// neighbour solicitations for addresses of an interface only, and a local route is none (test/wire).
func Silence() []Sysctl {
	return []Sysctl{
		{"net/ipv4/conf/all/arp_ignore", 1},
		{"net/ipv4/conf/all/arp_announce", 2},
	}
}

// Raise gives the settings below root (normally [ProcSys]) at least their least value in the calling thread's network namespace
// and returns those that it had to change. One that cannot be set does not stop the others; the errors are joined.
func Raise(root string, settings ...Sysctl) (raised []Sysctl, err error) {
	var errs []error
	for _, s := range settings {
		path := filepath.Join(root, filepath.FromSlash(s.Key))
		text, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading sysctl: %w", err))
			continue
		}
		now, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			errs = append(errs, fmt.Errorf("reading sysctl %s: %w", s, err))
			continue
		}
		if now >= s.Least {
			continue
		}
		if err := os.WriteFile(path, []byte(strconv.Itoa(s.Least)), 0o644); err != nil {
			errs = append(errs, fmt.Errorf("setting sysctl %s: %w", s, err))
			continue
		}
		raised = append(raised, s)
	}
	return raised, errors.Join(errs...)
}
