package speaker

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/election"
	"github.com/fairlead-lb/fairlead/lb"
)

// Heartbeat exchanges heartbeats with other nodes; election/heartbeat is one.
type Heartbeat interface {
	// Watch replaces the set of nodes with which heartbeats are exchanged.
	Watch(peers map[lb.NodeName]netip.Addr)
	// Suspects returns the nodes that were heard once and no longer are; true stands for those whose kernels said that nobody listens:
	// their speakers have died, and they live.
	Suspects() map[lb.NodeName]bool
	// Fresh is false from when this process was asleep for as long as the others need to notice it, until one of them has
	// answered again. It costs little and may be called from any goroutine.
	Fresh() bool
	// GoOn makes Fresh true again, until the next sleep, although nobody has answered: there may be nobody left.
	GoOn()
	// Sleeps returns how often that has happened. What Fresh no longer shows is counted already; so who asks Fresh and then
	// Sleeps misses no sleep, however fast the others answered after it.
	Sleeps() uint64
}

// watch exchanges heartbeats with the nodes that election chooses out of the members, and with those that were lost without
// a goodbye: whoever of them is heard again after a partition is joined at once.
func (s *Speaker) watch(members []lb.Member, known map[lb.NodeName]netip.Addr) {
	if s.o.Heartbeat == nil {
		return
	}
	peers := maps.Clone(known)
	living := make([]lb.NodeName, 0, len(members))
	for _, m := range members {
		living = append(living, m.Node)
	}
	chosen := election.Sessions(s.o.Node, living)
	maps.DeleteFunc(peers, func(n lb.NodeName, _ netip.Addr) bool {
		return n == s.o.Node || slices.Contains(living, n) && !slices.Contains(chosen, n)
	})
	s.o.Heartbeat.Watch(peers)
}

func (s *Speaker) suspects() map[lb.NodeName]bool {
	if s.o.Heartbeat == nil {
		return nil
	}
	return s.o.Heartbeat.Suspects()
}
