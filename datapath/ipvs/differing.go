package ipvs

import "github.com/fairlead-lb/fairlead/datapath"

// differing returns the servers of two sorted lists of which IPVS does not hold what it is to be given, and those that have a destination to
// retire or are out of order.
func differing(have, want []*datapath.VirtualServer) (from, to []*datapath.VirtualServer) {
	for h, w := range datapath.Pairs(have, want) {
		if h == w || h != nil && w != nil && h.Holds(w) && h.InOrder() && !retiring(h) {
			continue
		}
		if h != nil {
			from = append(from, h)
		}
		if w != nil {
			to = append(to, w)
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
