package speaker

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// How long the kernel of a node without a speaker is taken to go on forwarding: a new speaker comes, and with it news, unless the node ends.
// How long a process waits for the other speakers before it takes itself for the only one. And for how long a node that is taken for dead may
// turn out to have been slow; connections that went through one that is dead end so much later.
const (
	relayAlone    = time.Minute
	relaysAwaited = 10 * time.Second
	relayDoubt    = time.Second
)

// relays remembers which other nodes can be handed packets of connections that may be theirs. It is pure: time is an argument.
type relays struct {
	began  time.Time // the first observation
	died   time.Time // when one died last, or seemed to
	met    bool      // all that were expected have been there, or it has been too long
	latest map[lb.NodeName]relay
}

type relay struct {
	lb.Relay
	seen time.Time // when its speaker lived last
}

func newRelays() relays { return relays{latest: map[lb.NodeName]relay{}} }

// observe adds to a snapshot what it says about relays, and returns after what time that will be another if nothing else happens; 0 = never. It
// takes the nodes where the API server knows of a speaker, and who there is or was by the word of gossip. A walk that leaves out a node ends its
// connections; one to a node that has died never arrives.
func (r *relays) observe(s *lb.Snapshot, expected []lb.NodeName, known map[lb.NodeName]netip.Addr, now time.Time) (again time.Duration) {
	if r.began.IsZero() {
		r.began = now
	}
	alive := map[lb.NodeName]bool{} // though their speakers are not
	for _, m := range s.Members {
		if !s.Down[m.Node] {
			for _, node := range m.Alive {
				alive[node] = true
			}
		}
	}
	tells := false // IPVS would take the copies that this node sends for connections to it
	members := map[lb.NodeName]bool{}
	for _, m := range s.Members {
		members[m.Node] = true
		tells = tells || m.Node == s.Self && m.News
		if m.Node == s.Self || s.Down[m.Node] && !alive[m.Node] {
			continue
		}
		x := r.latest[m.Node]
		if len(m.Links) > 0 { // a speaker that has just come has not said any
			x.Relay = lb.Relay{Node: m.Node, News: m.News}
		}
		if x.seen = now; x.Node != "" {
			r.latest[m.Node] = x
		}
	}
	for node, x := range r.latest {
		_, lost := known[node]
		lost = lost && !members[node] || s.Down[node]
		switch left := relayAlone - now.Sub(x.seen); {
		case lost && !alive[node]:
			r.died = now
			delete(r.latest, node)
		case left <= 0:
			delete(r.latest, node)
		case !members[node]:
			again = sooner(again, left)
		}
	}
	missing := slices.ContainsFunc(expected, func(n lb.NodeName) bool { return n != s.Self && r.latest[n].Node == "" })
	if left := relaysAwaited - now.Sub(r.began); len(expected) > 0 && !missing || left <= 0 {
		r.met = true
	} else if !r.met {
		again = sooner(again, left)
	}
	if left := relayDoubt - now.Sub(r.died); left > 0 {
		s.RelaysInDoubt, again = true, sooner(again, left)
	}
	s.RelaysKnown = r.met
	for _, node := range slices.Sorted(maps.Keys(r.latest)) {
		relay := r.latest[node].Relay
		relay.News = relay.News && tells
		s.Relays = append(s.Relays, relay)
	}
	return again
}
