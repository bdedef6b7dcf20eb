package speaker

import (
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// A link that has come up is trusted once another speaker was heard since and had a second to tell who owns what, or after
// ten seconds of silence. A node whose cable was out would otherwise take its former addresses back before it knows that
// others have them.
const (
	trustAfterWord = time.Second
	trustAnyway    = 10 * time.Second
)

// setLinks takes in the links as they are now, and has the announcer listen on them.
func (s *Speaker) setLinks(links []lb.Link) {
	rejoin := false
	for _, l := range links {
		before := slices.IndexFunc(s.links, func(o lb.Link) bool { return o.Name == l.Name })
		switch {
		case !l.Up:
			delete(s.cameUp, l.Name)
		case before >= 0 && !s.links[before].Up:
			s.cameUp[l.Name] = time.Now()
			time.AfterFunc(trustAfterWord, s.steps.Trigger)
			time.AfterFunc(trustAnyway, s.steps.Trigger)
			rejoin = true
		}
	}
	s.links = links
	s.o.Announcer.SetLinks(links)
	if rejoin {
		s.o.Gossip.Rejoin()
	}
}

// usable returns the links; those that are not trusted yet, or where the announcer has no socket, count as down.
func (s *Speaker) usable(now time.Time) []lb.Link {
	working := s.o.Announcer.Working()
	out := slices.Clone(s.links)
	for i := range out {
		out[i].Up = out[i].Up && working[out[i].Name] && s.trusted(out[i].Name, now)
	}
	return out
}

// trusted reports whether a link that is up has been so for long enough. A cluster of one node has nobody to ask.
func (s *Speaker) trusted(link string, now time.Time) bool {
	since, fresh := s.cameUp[link]
	if !fresh {
		return true
	}
	heard := s.o.Gossip.Heard().After(since) && now.Sub(since) >= trustAfterWord
	if heard || now.Sub(since) >= trustAnyway || len(s.facts.Nodes) == 1 {
		delete(s.cameUp, link)
		return true
	}
	return false
}
