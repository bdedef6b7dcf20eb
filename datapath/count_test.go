package datapath

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTallySurvivesCountsThatBeginAnew(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:80")
	var tally Tally
	for i, step := range []struct{ reading, want []Count }{
		{[]Count{{Destination: a, Conns: 5, Bytes: 100}}, []Count{{Destination: a, Conns: 5, Bytes: 100}}},
		{[]Count{{Destination: a, Conns: 7, Bytes: 150}, {Destination: b, Conns: 1}}, []Count{{Destination: a, Conns: 7, Bytes: 150}, {Destination: b, Conns: 1}}},
		{[]Count{{Destination: a, Conns: 2, Bytes: 160}, {Destination: b, Conns: 1}}, []Count{{Destination: a, Conns: 9, Bytes: 160}, {Destination: b, Conns: 1}}},
		{[]Count{{Destination: b, Conns: 4}}, []Count{{Destination: b, Conns: 4}}},
		{[]Count{{Destination: a, Conns: 1}}, []Count{{Destination: a, Conns: 1}}},
	} {
		if d := cmp.Diff(step.want, tally.Add(step.reading), cmp.Comparer(func(a, b Count) bool { return a == b })); d != "" {
			t.Errorf("step %d (-want +got):\n%s", i, d)
		}
	}
}
