package speaker

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/announce"
)

// KernelSource knows what decides whether this node's kernel answers for an address itself; [Netlink] is one.
type KernelSource interface {
	Kernel() (Kernel, error)
}

// Kernel is what it knows.
type Kernel struct {
	Assigned  map[netip.Addr][]string // the interfaces that have an address, whatever kind they are, sorted
	ARPIgnore map[string]int          // by interface: net.ipv4.conf.*.arp_ignore, the larger one of its own and that of "all"
}

// answers says why the kernel answers for vip on a link, and what to do about it; "" if it does not. For IPv4 it does so on every
// interface, whichever has the address, unless arp_ignore keeps it; for IPv6 only on the one that has it.
func (k Kernel) answers(vip netip.Addr, iface string) string {
	holders := k.Assigned[vip]
	switch {
	case slices.Contains(holders, iface):
		return fmt.Sprintf("%s has the address: remove it there (ip address del %s/%d dev %s)", iface, vip, vip.BitLen(), iface)
	case len(holders) > 0 && vip.Is4() && k.ARPIgnore[iface] == 0:
		return fmt.Sprintf("%s has the address: set ipvs.strictARP in kube-proxy's configuration, or net.ipv4.conf.all.arp_ignore=1",
			strings.Join(holders, ", "))
	}
	return ""
}

// reviewKernel returns why this node's kernel answers for addresses of Services, by address, and tells what is new in it.
func (s *Speaker) reviewKernel(decisions []announce.Decision) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	before := s.status.Load().KernelAnswers
	for _, d := range decisions {
		if len(s.kernel.Assigned[d.VIP]) == 0 {
			continue
		}
		for _, l := range s.links {
			if why := s.kernel.answers(d.VIP, l.Name); why != "" && l.Up && l.Holds(d.VIP) {
				out[d.VIP] = why
			}
		}
		if why := out[d.VIP]; why != "" && why != before[d.VIP] {
			s.o.Log.Warn("kernel answers for an address", "vip", d.VIP, "why", why)
			s.tellServices(d, true, EventKernelAnswers, fmt.Sprintf("the kernel of %s answers for %s whether the node owns it or not, because %s", s.o.Node, d.VIP, why))
		}
	}
	return out
}

// readKernel takes in the facts for reviewKernel. Without them nothing is reported; the links matter more.
func (s *Speaker) readKernel() {
	if s.o.Kernel == nil {
		return
	}
	k, err := s.o.Kernel.Kernel()
	if err != nil {
		s.o.Log.Warn("kernel's addresses not read", "err", err)
		s.kernel = Kernel{}
		return // the addresses of the node, at which node ports are, stay as they were known
	}
	s.addrs = slices.SortedFunc(maps.Keys(k.Assigned), netip.Addr.Compare)
	s.kernel = k
}
