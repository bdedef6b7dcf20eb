package speaker

import (
	"net/netip"
	"testing"

	"github.com/fairlead-lb/fairlead/lb"
)

func TestAbsence(t *testing.T) {
	a := absence{}
	for _, step := range []struct {
		what          string
		members, down []lb.NodeName
		known         []lb.NodeName
		back          bool
	}{
		{what: "at the start nobody was lost", members: []lb.NodeName{"n1", "n2", "n3"}, known: []lb.NodeName{"n2", "n3"}},
		{what: "n2 is down", members: []lb.NodeName{"n1", "n2", "n3"}, down: []lb.NodeName{"n2"}, known: []lb.NodeName{"n2", "n3"}},
		{what: "gossip loses it too", members: []lb.NodeName{"n1", "n3"}, known: []lb.NodeName{"n2", "n3"}},
		{what: "n2 is back", members: []lb.NodeName{"n1", "n2", "n3"}, known: []lb.NodeName{"n2", "n3"}, back: true},
		{what: "once", members: []lb.NodeName{"n1", "n2", "n3"}, known: []lb.NodeName{"n2", "n3"}},
		{what: "n3 says goodbye", members: []lb.NodeName{"n1", "n2"}, known: []lb.NodeName{"n2"}},
		{what: "and comes back", members: []lb.NodeName{"n1", "n2", "n3"}, known: []lb.NodeName{"n2", "n3"}},
		{what: "n3 is lost", members: []lb.NodeName{"n1", "n2"}, known: []lb.NodeName{"n2", "n3"}},
		{what: "and forgotten", members: []lb.NodeName{"n1", "n2"}, known: []lb.NodeName{"n2"}},
		{what: "a new n3", members: []lb.NodeName{"n1", "n2", "n3"}, known: []lb.NodeName{"n2", "n3"}},
	} {
		var members []lb.Member
		for _, n := range step.members {
			members = append(members, lb.Member{Node: n})
		}
		down, known := map[lb.NodeName]bool{}, map[lb.NodeName]netip.Addr{}
		for _, n := range step.down {
			down[n] = true
		}
		for _, n := range step.known {
			known[n] = netip.Addr{}
		}
		if got := a.observe(members, down, known); got != step.back {
			t.Errorf("%s: back = %t", step.what, got)
		}
	}
}
