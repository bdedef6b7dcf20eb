package bgp

import "net/netip"

// Diff returns what leads from the paths that a peer has been told to those that it shall hear: prefixes to withdraw, and paths
// that are new or have changed. Both arguments and both results are sorted by prefix.
func Diff(have, want []Path) (gone []netip.Prefix, fresh []Path) {
	for len(have) > 0 || len(want) > 0 {
		switch order := head(have, want); {
		case order < 0:
			gone, have = append(gone, have[0].Prefix), have[1:]
		case order > 0:
			fresh, want = append(fresh, want[0]), want[1:]
		default:
			if !have[0].Equal(want[0]) {
				fresh = append(fresh, want[0])
			}
			have, want = have[1:], want[1:]
		}
	}
	return gone, fresh
}

// head compares the first prefixes; one of the lists may be empty, and counts as greater then.
func head(have, want []Path) int {
	switch {
	case len(want) == 0:
		return -1
	case len(have) == 0:
		return 1
	}
	return have[0].Prefix.Compare(want[0].Prefix)
}

// Apply returns what [Diff] found applied to the paths. All arguments are sorted by prefix, as is the result.
func Apply(have []Path, gone []netip.Prefix, fresh []Path) []Path {
	out := make([]Path, 0, max(len(have)+len(fresh)-len(gone), 0))
	for _, p := range have {
		for len(fresh) > 0 && fresh[0].Prefix.Compare(p.Prefix) < 0 {
			out, fresh = append(out, fresh[0]), fresh[1:]
		}
		for len(gone) > 0 && gone[0].Compare(p.Prefix) < 0 {
			gone = gone[1:]
		}
		switch {
		case len(fresh) > 0 && fresh[0].Prefix == p.Prefix:
			out, fresh = append(out, fresh[0]), fresh[1:]
		case len(gone) == 0 || gone[0] != p.Prefix:
			out = append(out, p)
		}
	}
	return append(out, fresh...)
}
