package speaker

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fairlead-lb/fairlead/lb"
)

// rivals is a RivalSource that finds what it is told to.
type rivals struct{ now atomic.Pointer[[]string] }

// Rivals implements RivalSource.
func (r *rivals) Rivals() ([]string, error) { return *r.now.Load(), nil }

// TestAnotherProxyIsReported: in status and metrics as long as it is there, with the way out; the speaker goes on meanwhile.
func TestAnotherProxyIsReported(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		n, r := w.newNode("n1", 1), &rivals{}
		r.now.Store(&[]string{})
		n.o.Rivals = r
		w.edit(func() { w.nodes["n1"] = n })
		n.start()
		for i, found := range [][]string{nil, {"table ip kube-proxy", "table ip6 kube-proxy"}, nil} {
			r.now.Store(&found)
			pass(2 * rivalsEvery)
			p := n.selfReport().Problem
			told := p.Reason == lb.RivalProxy && strings.Contains(p.Message, "table ip kube-proxy, table ip6 kube-proxy") && strings.Contains(p.Message, "datapath.mode")
			if series := seriesOf(t, n, "fairlead_speaker_rival_proxy"); told != (i == 1) || series != len(found) {
				t.Errorf("step %d: problem %v, %d series", i, p, series)
			}
			if !n.Ready() {
				t.Errorf("step %d: the speaker is not ready", i)
			}
		}
	})
}
