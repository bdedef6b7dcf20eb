package speaker

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/announce"
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

// IsSpeaker reports whether mac is a speaker's, as far as is known. It may be called from any goroutine.
func (s *Speaker) IsSpeaker(mac lb.MAC) bool {
	_, ok := s.speakerWith(mac)
	return ok
}

// stranger is a station that is no speaker and uses the address of a Service.
type stranger struct {
	mac    lb.MAC
	blocks bool      // it had the address first: it is not announced
	seen   time.Time // last
	told   time.Time // when the last Event was
}

const (
	tellAgain = 10 * time.Minute // Events about the same stranger
	quiet     = time.Minute      // after which a stranger that was countered counts as gone; hosts that defend themselves do so at once
	wayOut    = "take the address off that station, or give the Service another one (annotation fairlead.dev/release)"
)

// judge says whether the stranger has gone, and whether that is worth an Event, given the latest decision about the address, if
// there is one. One that had the address first has gone when the address is announced; a probe was not answered then.
func (x stranger) judge(d announce.Decision, known bool, now time.Time) (gone, tell bool) {
	silent := now.Sub(x.seen) >= quiet
	switch {
	case !known:
		return true, false
	case x.blocks:
		return d.Announce || silent, d.Announce
	}
	return silent, silent && d.Announce
}

// Conflict tells that the station mac uses an address that this node announces on iface, or is about to. Another speaker's is
// only late: the claims settle it. A stranger's is reported.
func (s *Speaker) Conflict(addr netip.Addr, iface string, mac lb.MAC) {
	if node, ok := s.speakerWith(mac); ok {
		s.o.Log.Debug("another speaker announces an address of ours", "vip", addr, "iface", iface, "node", node)
		return
	}
	decision := s.decisionOn(addr)
	s.o.Log.Warn("address conflict", "vip", addr, "iface", iface, "mac", hardware(mac), "announced", decision.Announce)
	now := time.Now()
	s.mu.Lock()
	x, before := s.strangers[addr]
	tell := !before || x.mac != mac || now.Sub(x.told) >= tellAgain
	if tell {
		x.told = now
	}
	x.mac, x.seen, x.blocks = mac, now, !decision.Announce
	s.strangers[addr] = x
	s.mu.Unlock()
	if !tell {
		return
	}
	message := fmt.Sprintf("%s is also used by %s, which is no speaker, on the segment of %s's %s; %s goes on announcing it: %s",
		addr, hardware(mac), s.o.Node, iface, s.o.Node, wayOut)
	if x.blocks {
		message = fmt.Sprintf("%s is not announced by %s: %s, which is no speaker, has it on the segment of %s; it is tried again every 30 s: %s",
			addr, s.o.Node, hardware(mac), iface, wayOut)
	}
	s.tellServices(decision, true, EventConflict, message)
}

// reviewStrangers forgets the strangers that have gone, tells so, and returns the others. decisions are the latest ones.
func (s *Speaker) reviewStrangers(decisions []announce.Decision, now time.Time) map[netip.Addr]lb.MAC {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[netip.Addr]lb.MAC{}
	for addr, x := range s.strangers {
		i, known := slices.BinarySearchFunc(decisions, addr, func(d announce.Decision, a netip.Addr) int { return d.VIP.Compare(a) })
		var d announce.Decision
		if known {
			d = decisions[i]
		}
		gone, tell := x.judge(d, known, now)
		if _, speaker := s.macs[x.mac]; speaker { // it was too new to be known
			gone, tell = true, false
		}
		if !gone {
			out[addr] = x.mac
			continue
		}
		delete(s.strangers, addr)
		s.o.Log.Info("address conflict over", "vip", addr, "mac", hardware(x.mac), "announced", d.Announce)
		if tell {
			s.tellServices(d, false, EventConflictOver, fmt.Sprintf("%s is no longer used by %s; %s announces it", addr, hardware(x.mac), s.o.Node))
		}
	}
	return out
}

func (s *Speaker) decisionOn(addr netip.Addr) announce.Decision {
	for _, d := range s.status.Load().Decisions {
		if d.VIP == addr {
			return d
		}
	}
	return announce.Decision{}
}

func (s *Speaker) tellServices(d announce.Decision, warning bool, reason, message string) {
	for _, svc := range d.Services {
		s.o.Events.Event(svc, warning, reason, message)
	}
}

func hardware(mac lb.MAC) string { return net.HardwareAddr(mac[:]).String() }
