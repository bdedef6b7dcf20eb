package main

import (
	"net/netip"
	"time"

	"github.com/fairlead-lb/fairlead/test/bed"
)

// stale returns the claims of node old to addr after it woke that contradict another node, which has claimed the address
// before. They end when old has won the address back: it says so to all, and nobody claims the address after that. Claims must
// be in the order of time.
func stale(claims []bed.Claim, addr netip.Addr, old int, woke time.Time) (out []bed.Claim) {
	var first, last time.Time // of others' claims
	for _, c := range claims {
		if c.Addr != addr || c.Node == old {
			continue
		}
		if first.IsZero() {
			first = c.At
		}
		last = c.At
	}
	for _, c := range claims {
		if c.Addr != addr || c.Node != old || c.At.Before(woke) || first.IsZero() || c.At.Before(first) {
			continue
		}
		if !c.Asked && c.At.After(last) {
			break
		}
		out = append(out, c)
	}
	return out
}

// lastOfOthers returns when somebody else than owner last claimed addr after start; start if nobody did.
func lastOfOthers(claims []bed.Claim, addr netip.Addr, owner int, start time.Time) time.Time {
	last := start
	for _, c := range claims {
		if c.Addr == addr && c.Node != owner && c.At.After(last) {
			last = c.At
		}
	}
	return last
}

// takenOver returns when each address was first claimed after start by another node than old.
func takenOver(claims []bed.Claim, old int, start time.Time) map[netip.Addr]time.Time {
	out := map[netip.Addr]time.Time{}
	for _, c := range claims {
		if _, known := out[c.Addr]; !known && c.Node != old && c.At.After(start) {
			out[c.Addr] = c.At
		}
	}
	return out
}

// busiest returns the most claims that were sent to all within any stretch of the given length.
func busiest(claims []bed.Claim, length time.Duration) int {
	var recent []time.Time
	most := 0
	for _, c := range claims {
		if c.Asked {
			continue
		}
		recent = append(recent, c.At)
		for c.At.Sub(recent[0]) >= length {
			recent = recent[1:]
		}
		most = max(most, len(recent))
	}
	return most
}

// changes returns how often an address passed from one node to another, by what they claimed; owners says who had them first.
func changes(claims []bed.Claim, owners map[netip.Addr]int) (n int) {
	at := map[netip.Addr]int{}
	for addr, i := range owners {
		at[addr] = i
	}
	for _, c := range claims {
		if i, ours := at[c.Addr]; ours && i != c.Node {
			at[c.Addr] = c.Node
			n++
		}
	}
	return n
}
