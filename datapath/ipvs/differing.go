package ipvs

import "github.com/fairlead-lb/fairlead/datapath"

// differing returns the servers of two sorted lists of which IPVS does not hold what it is to be given, and those that have a destination to
// retire or are out of order.
func differing(have, want []*datapath.VirtualServer) (from, to []*datapath.VirtualServer) {
	for len(have) > 0 || len(want) > 0 {
		if len(have) > 0 && len(want) > 0 && have[0] == want[0] { // nearly all where share can, as where endpoints elsewhere are used too
			have, want = have[1:], want[1:]
			continue
		}
		order := 0
		switch {
		case len(have) == 0:
			order = 1
		case len(want) == 0:
			order = -1
		default:
			order = have[0].Listener.Compare(want[0].Listener)
		}
		same := order == 0 && have[0].Holds(want[0]) && have[0].InOrder() && !retiring(have[0])
		if order <= 0 {
			if !same {
				from = append(from, have[0])
			}
			have = have[1:]
		}
		if order >= 0 {
			if !same {
				to = append(to, want[0])
			}
			want = want[1:]
		}
	}
	return from, to
}

// retiring reports whether v has a destination that waits for its last connection to end.
func retiring(v *datapath.VirtualServer) bool {
	for i := range v.Destinations {
		if v.Destinations[i].Weight == 0 {
			return true
		}
	}
	return false
}

// head returns how many servers of each list make the next chunk: all those of the listeners up to some one.
func head(from, to []*datapath.VirtualServer) (h, w int) {
	for h+w < chunk && (h < len(from) || w < len(to)) {
		switch {
		case h == len(from):
			w++
		case w == len(to):
			h++
		default:
			order := from[h].Listener.Compare(to[w].Listener)
			if order <= 0 {
				h++
			}
			if order >= 0 {
				w++
			}
		}
	}
	return h, w
}
