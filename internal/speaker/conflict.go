package speaker

import (
	"fmt"
	"maps"
	"net"
	"net/netip"

	"github.com/fairlead-lb/fairlead/lb"
)

// learnMACs notes the hardware addresses of the speakers. They are kept while the API server knows the node: a speaker that
// comes back may be seen on the wire before it is a member again.
func (s *Speaker) learnMACs(members []lb.Member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	macs := maps.Clone(s.macs)
	if macs == nil {
		macs = map[lb.MAC]lb.NodeName{}
	}
	maps.DeleteFunc(macs, func(_ lb.MAC, n lb.NodeName) bool { _, known := s.facts.Nodes[n]; return !known })
	for _, m := range members {
		for _, l := range m.Links {
			macs[l.MAC] = m.Node
		}
	}
	s.macs = macs
}

func (s *Speaker) speakerWith(mac lb.MAC) (lb.NodeName, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	node, ok := s.macs[mac]
	return node, ok
}

// Conflict tells that the station mac uses an address that this node announces on iface. Another speaker's is only late: the
// claims settle it. A stranger's is reported.
func (s *Speaker) Conflict(addr netip.Addr, iface string, mac lb.MAC) {
	if node, ok := s.speakerWith(mac); ok {
		s.o.Log.Debug("another speaker announces an address of ours", "vip", addr, "iface", iface, "node", node)
		return
	}
	s.o.Log.Warn("address conflict", "vip", addr, "iface", iface, "mac", hardware(mac))
	message := fmt.Sprintf("%s is also used by %s, which is no speaker, on the segment of %s's %s", addr, hardware(mac), s.o.Node, iface)
	for _, d := range s.status.Load().Decisions {
		if d.VIP != addr {
			continue
		}
		for _, svc := range d.Services {
			s.o.Events.Event(svc, true, EventConflict, message)
		}
	}
}

func hardware(mac lb.MAC) string { return net.HardwareAddr(mac[:]).String() }
