package speaker

import (
	"slices"
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/internal/view"
	"github.com/fairlead-lb/fairlead/lb"
)

// maxChanges is how many changes a speaker remembers for whoever asks. It is for people: what happened tonight, not an archive.
const maxChanges = 100

// changes are the newest times that this node began or ended to announce an address. It is safe for concurrent use.
type changes struct {
	mu   sync.Mutex
	list []view.Change // the oldest first, up to twice as many as are told
}

// note remembers that the node announces what d says from now on, or, with a reason, no longer does.
func (c *changes) note(d announce.Decision, begins bool, why lb.Refusal, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.list) == 2*maxChanges {
		c.list = slices.Clone(c.list[maxChanges:])
	}
	c.list = append(c.list, view.Change{At: now, VIP: d.VIP, Via: string(d.Via), Services: names(d.Services), Announce: begins, Reason: why.Reason, Message: why.Message})
}

// newest returns what is remembered, the newest first.
func (c *changes) newest() []view.Change {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := slices.Clone(c.list[max(0, len(c.list)-maxChanges):])
	slices.Reverse(out)
	return out
}

// given is why a node no longer announces an address that it has no decision about any more.
func given() lb.Refusal { return lb.Refusal{Message: "no Service has the address any more"} }
