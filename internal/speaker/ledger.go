package speaker

import (
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/lb"
)

// ledger keeps the claims of this node: their epochs, and to whom it hands addresses over. It is pure: time is an argument.
type ledger struct {
	held    map[netip.Addr]holding
	current []lb.Claim            // to what is held, sorted; replaced, not written to
	seen    map[netip.Addr]uint64 // the highest epoch known, whoever claimed it; replaced, not written to

	// At most a part of the addresses is handed over in one second.
	second time.Time // when it began
	left   int       // how many more may be handed over in it
}

type holding struct {
	epoch  uint64
	rivals []lb.NodeName // who else claimed the address when we last looked, sorted
	raised time.Time     // when the epoch was raised because of them
	to     lb.NodeName   // whom it is handed over to; "" = nobody
}

const (
	// raiseEvery bounds how often a claim is renewed. Two nodes that for whatever reason see different facts would otherwise
	// outbid each other at the speed of the network.
	raiseEvery = time.Second

	// handEvery and handShare bound how fast addresses go to a better node: a quarter of them, at least one, in a second. Each
	// move makes the neighbours learn anew, and a node that looks better may turn out not to be.
	handEvery = time.Second
	handShare = 4
)

func newLedger() *ledger {
	return &ledger{held: map[netip.Addr]holding{}, seen: map[netip.Addr]uint64{}}
}

// rivalry is what the other members claim of one address.
type rivalry struct {
	nodes   []lb.NodeName
	highest uint64
}

// claims makes the ledger agree with the decisions and returns the claims, sorted. An address that is new here gets an epoch
// above all seen. One that another member claims too, as after a partition, gets a new epoch, so that the neighbours are told
// again. One for which a better node was found names that node in the claim. If something must wait, again says how long, else
// it is 0. The claims count once they are settled.
func (l *ledger) claims(self lb.NodeName, decisions []announce.Decision, others []lb.Member, now time.Time) (claims []lb.Claim, again time.Duration) {
	rivals := l.learn(decisions, others)
	if now.Sub(l.second) >= handEvery {
		l.second, l.left = now, max(1, (len(l.held)+handShare-1)/handShare)
	}
	held := make(map[netip.Addr]holding, len(l.held))
	for _, d := range decisions {
		if !d.Announce {
			continue
		}
		h, wait := l.hold(d.VIP, rivals[d.VIP], now)
		again = sooner(again, wait)
		switch {
		case d.Owner != self && d.Owner == h.to: // until it has taken the address
		case d.Owner == self && d.HandTo != "" && l.left > 0:
			h.to = d.HandTo
			l.left--
		default:
			h.to = ""
			if d.HandTo != "" {
				again = sooner(again, handEvery-now.Sub(l.second))
			}
		}
		held[d.VIP] = h
		claims = append(claims, lb.Claim{Addr: d.VIP, Epoch: h.epoch, To: h.to})
	}
	l.held, l.current = held, claims
	return claims, again
}

// hold returns the holding of an address that this node announces. If its epoch should be raised, but not yet, it also says
// when.
func (l *ledger) hold(addr netip.Addr, r rivalry, now time.Time) (holding, time.Duration) {
	h, had := l.held[addr]
	contested := had && (r.highest >= h.epoch || slices.ContainsFunc(r.nodes, func(n lb.NodeName) bool { return !slices.Contains(h.rivals, n) }))
	switch {
	case !had:
		h = holding{epoch: l.seen[addr] + 1, rivals: r.nodes}
	case contested && now.Sub(h.raised) < raiseEvery:
		return h, raiseEvery - now.Sub(h.raised) // h.rivals stays, so that it is still contested then
	case contested:
		h = holding{epoch: l.seen[addr] + 1, rivals: r.nodes, raised: now, to: h.to}
	default:
		h.rivals = r.nodes
	}
	return h, 0
}

// settle keeps of the claims those whose addresses the announcer has reached, and returns them. The others were never made: an
// address that is still being probed, or that a stranger has, is as unclaimed as before.
func (l *ledger) settle(claims []lb.Claim, reached func(netip.Addr) bool) []lb.Claim {
	out := slices.Grow([]lb.Claim(nil), len(claims))
	for _, c := range claims {
		if !reached(c.Addr) {
			delete(l.held, c.Addr)
			continue
		}
		l.seen[c.Addr] = max(l.seen[c.Addr], c.Epoch)
		out = append(out, c)
	}
	l.current = out
	return out
}

// mustProbe reports whether an address is to be probed before this claim to it is announced: if no speaker, this one included,
// has ever claimed it as far as this node knows. What comes from a speaker that has died or left is taken over at once:
// whoever answers a probe then is that speaker, and each probe is a moment of outage.
func mustProbe(c lb.Claim) bool { return c.Epoch == 1 }

// learn notes the highest epochs, forgets addresses that no Service has any more, and returns who else claims what is held
// or announced here.
func (l *ledger) learn(decisions []announce.Decision, others []lb.Member) map[netip.Addr]rivalry {
	seen := make(map[netip.Addr]uint64, len(decisions))
	mine := make(map[netip.Addr]bool, len(l.held))
	for _, d := range decisions {
		seen[d.VIP] = l.seen[d.VIP]
		if d.Announce {
			mine[d.VIP] = true
		}
	}
	rivals := map[netip.Addr]rivalry{}
	for _, m := range others {
		for _, c := range m.Claims {
			if known, ok := seen[c.Addr]; ok && c.Epoch > known {
				seen[c.Addr] = c.Epoch
			}
			if mine[c.Addr] {
				r := rivals[c.Addr]
				rivals[c.Addr] = rivalry{append(r.nodes, m.Node), max(r.highest, c.Epoch)}
			}
		}
	}
	l.seen = seen
	return rivals
}

// epochs returns the current claims as they go into the next snapshot, sorted.
func (l *ledger) epochs() []lb.Claim { return l.current }

// sooner returns the shorter of two times to wait, of which 0 means that there is nothing to wait for.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}
