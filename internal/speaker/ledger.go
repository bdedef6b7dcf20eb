package speaker

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// ledger gives out the epochs of this node's claims. It is pure: time is an argument.
type ledger struct {
	held map[netip.Addr]holding
	seen map[netip.Addr]uint64 // the highest epoch known, whoever claimed it
}

type holding struct {
	epoch  uint64
	rivals []lb.NodeName // who else claimed the address when we last looked, sorted
	raised time.Time     // when the epoch was raised because of them
}

// raiseEvery bounds how often a claim is renewed. Two nodes that for whatever reason see different facts would otherwise
// outbid each other at the speed of the network.
const raiseEvery = time.Second

func newLedger() *ledger {
	return &ledger{held: map[netip.Addr]holding{}, seen: map[netip.Addr]uint64{}}
}

// claims makes the ledger agree with the addresses that this node announces out of those in use, and returns the claims,
// sorted. An address that is new gets an epoch above all seen. One that another member claims too, as after a partition,
// gets a new epoch, so that the neighbours are told again; later is true if it is too early for that.
func (l *ledger) claims(announced, inUse []netip.Addr, others []lb.Member, now time.Time) (claims []lb.Claim, later bool) {
	rivals := map[netip.Addr][]lb.NodeName{}
	highest := map[netip.Addr]uint64{}
	for _, m := range others {
		for _, c := range m.Claims {
			rivals[c.Addr] = append(rivals[c.Addr], m.Node)
			highest[c.Addr] = max(highest[c.Addr], c.Epoch)
		}
	}
	l.learn(inUse, highest)
	held := make(map[netip.Addr]holding, len(announced))
	for _, addr := range announced {
		h, had := l.held[addr]
		contested := had && (highest[addr] >= h.epoch || slices.ContainsFunc(rivals[addr], func(n lb.NodeName) bool { return !slices.Contains(h.rivals, n) }))
		switch {
		case !had:
			h = holding{epoch: l.seen[addr] + 1, rivals: rivals[addr]}
		case contested && now.Sub(h.raised) < raiseEvery:
			later = true // and h.rivals stays, so that it is still contested then
		case contested:
			h = holding{epoch: l.seen[addr] + 1, rivals: rivals[addr], raised: now}
		default:
			h.rivals = rivals[addr]
		}
		l.seen[addr] = max(l.seen[addr], h.epoch)
		held[addr] = h
		claims = append(claims, lb.Claim{Addr: addr, Epoch: h.epoch})
	}
	l.held = held
	slices.SortFunc(claims, func(a, b lb.Claim) int { return a.Addr.Compare(b.Addr) })
	return claims, later
}

// learn notes the highest epochs and forgets addresses that no Service has any more.
func (l *ledger) learn(inUse []netip.Addr, highest map[netip.Addr]uint64) {
	seen := make(map[netip.Addr]uint64, len(inUse))
	for _, addr := range inUse {
		seen[addr] = max(l.seen[addr], highest[addr])
	}
	l.seen = seen
}

// epochs returns the current claims as they go into the next snapshot, sorted.
func (l *ledger) epochs() []lb.Claim {
	out := make([]lb.Claim, 0, len(l.held))
	for _, addr := range slices.SortedFunc(maps.Keys(l.held), netip.Addr.Compare) {
		out = append(out, lb.Claim{Addr: addr, Epoch: l.held[addr].epoch})
	}
	return out
}
