package speaker

import (
	"maps"
	"net/netip"

	"github.com/fairlead-lb/fairlead/lb"
)

// absence remembers which nodes are lost: down by the word of their watchers, or given up by gossip without a goodbye.
type absence map[lb.NodeName]bool

// observe takes in who is a member now, and reports whether one that was lost is back. Known are all that gossip knows of, the
// lost ones among them.
func (a absence) observe(members []lb.Member, down map[lb.NodeName]bool, known map[lb.NodeName]netip.Addr) bool {
	here := map[lb.NodeName]bool{}
	back := false
	for _, m := range members {
		if here[m.Node] = !down[m.Node]; here[m.Node] && a[m.Node] {
			back = true
		}
	}
	for node := range known {
		a[node] = !here[node]
	}
	maps.DeleteFunc(a, func(n lb.NodeName, lost bool) bool { _, still := known[n]; return !lost || !still })
	return back
}
