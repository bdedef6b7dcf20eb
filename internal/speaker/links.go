package speaker

import (
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// A link that has come up is trusted once the other speakers are known again, or after ten seconds of silence. A node whose
// cable was out would otherwise take its former addresses back before it knows that others have them.
const (
	trustPoll   = 100 * time.Millisecond
	trustAnyway = 10 * time.Second
)

// setLinks takes in the links as they are now, and has the announcer listen on them.
func (s *Speaker) setLinks(links []lb.Link) {
	for _, l := range links {
		before := slices.IndexFunc(s.links, func(o lb.Link) bool { return o.Name == l.Name })
		switch {
		case !l.Up:
			delete(s.cameUp, l.Name)
		case before >= 0 && !s.links[before].Up:
			s.cameUp[l.Name] = time.Now()
		}
	}
	s.links = links
	s.wire.setLinks(links)
}

// judgeLinks decides which links can be used now: those that are not trusted yet, or where no announcer has a socket, count as
// down; where one has none, the link is without the subnets of that family.
func (s *Speaker) judgeLinks(now time.Time) {
	s.usable = s.wire.working(s.links)
	for i, l := range s.usable {
		s.usable[i].Up = l.Up && s.trusted(l.Name, now)
	}
}

// missesSpeakers reports whether a node where a speaker is expected is no member, or a member whose heartbeats have not been
// heard again yet. For this node the others would still be gone, and itself the only candidate for their addresses.
func (s *Speaker) missesSpeakers() bool {
	if s.o.Heartbeat == nil {
		return false
	}
	members := s.o.Gossip.Members()
	for node := range s.facts.Speakers {
		if !slices.ContainsFunc(members, func(m lb.Member) bool { return m.Node == node }) {
			return true
		}
	}
	suspects := s.o.Heartbeat.Suspects()
	return slices.ContainsFunc(members, func(m lb.Member) bool { _, silent := suspects[m.Node]; return silent })
}

// trusted reports whether a link that is up has been so for long enough. A cluster of one node has nobody to ask.
func (s *Speaker) trusted(link string, now time.Time) bool {
	since, fresh := s.cameUp[link]
	if !fresh {
		return true
	}
	if s.o.Gossip.UpToDate(since) && !s.missesSpeakers() || now.Sub(since) >= trustAnyway || len(s.facts.Nodes) == 1 {
		delete(s.cameUp, link)
		return true
	}
	s.o.Gossip.Rejoin() // again and again: on a link that has just come up the first attempts may be lost
	time.AfterFunc(trustPoll, s.Trigger)
	return false
}
