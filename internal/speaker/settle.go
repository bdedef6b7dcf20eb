package speaker

import (
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// settleTime is how long after this node became ready addresses that were never announced wait for the other speakers. In
// a cold start of all nodes the first one ready would otherwise take every address, and keep it.
const settleTime = 2 * time.Second

// settling says whom a cold start still waits for. It is pure: time is an argument. The zero settling has not begun.
type settling struct {
	began time.Time // when this node became ready
	over  bool      // and never begins again in this process
}

// awaited returns the speakers that are awaited, sorted, and how long at most. Expected are the nodes where the API server
// knows of a speaker. A node that finds others announcing addresses when it becomes ready has not lived through a cold start.
func (s *settling) awaited(self lb.NodeName, members []lb.Member, expected []lb.NodeName, now time.Time) ([]lb.NodeName, time.Duration) {
	ready := slices.ContainsFunc(members, func(m lb.Member) bool { return m.Node == self && m.Ready })
	if s.over || !ready {
		return nil, 0
	}
	if s.began.IsZero() {
		s.began = now
		s.over = slices.ContainsFunc(members, func(m lb.Member) bool { return m.Node != self && len(m.Claims) > 0 })
	}
	missing := slices.Clone(expected)
	for _, m := range members {
		missing = slices.DeleteFunc(missing, func(n lb.NodeName) bool { return n == m.Node })
		if !m.Ready && !m.Draining {
			missing = append(missing, m.Node)
		}
	}
	left := settleTime - now.Sub(s.began)
	s.over = s.over || len(missing) == 0 || left <= 0
	if s.over {
		return nil, 0
	}
	slices.Sort(missing)
	return missing, left
}

// steadiness remembers since when each member has been alive and ready without a break.
type steadiness map[lb.NodeName]time.Time

// observe takes in the members as they are now and returns for how long each has been steady.
func (s steadiness) observe(members []lb.Member, down map[lb.NodeName]bool, now time.Time) map[lb.NodeName]time.Duration {
	out := make(map[lb.NodeName]time.Duration, len(members))
	for _, m := range members {
		if !m.Ready || m.Draining || down[m.Node] {
			continue
		}
		if _, known := s[m.Node]; !known {
			s[m.Node] = now
		}
		out[m.Node] = now.Sub(s[m.Node])
	}
	for node := range s {
		if _, steady := out[node]; !steady {
			delete(s, node)
		}
	}
	return out
}

// nextFailback returns when the next member will have been steady for as long as an advertisement asks; 0 = none will.
func nextFailback(ads []lb.L2Advertisement, steady map[lb.NodeName]time.Duration) time.Duration {
	var next time.Duration
	for _, ad := range ads {
		if ad.Failback == nil {
			continue
		}
		for _, d := range steady {
			next = sooner(next, max(0, *ad.Failback-d))
		}
	}
	return next
}
