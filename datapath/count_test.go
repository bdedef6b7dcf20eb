package datapath

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTallySurvivesCountsThatBeginAnew(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:80")
	var tally Tally
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i, step := range []struct{ reading, want, growth []Count }{
		{[]Count{{Destination: a, Conns: 5, Bytes: 100}}, []Count{{Destination: a, Conns: 5, Bytes: 100}}, []Count{{Destination: a, Conns: 5, Bytes: 100}}},
		{[]Count{{Destination: a, Conns: 7, Bytes: 150}, {Destination: b, Conns: 1}}, []Count{{Destination: a, Conns: 7, Bytes: 150}, {Destination: b, Conns: 1}},
			[]Count{{Destination: a, Conns: 2, Bytes: 50}, {Destination: b, Conns: 1}}},
		{[]Count{{Destination: a, Conns: 2, Bytes: 160}, {Destination: b, Conns: 1}}, []Count{{Destination: a, Conns: 9, Bytes: 160}, {Destination: b, Conns: 1}},
			[]Count{{Destination: a, Conns: 2, Bytes: 10}, {Destination: b}}},
		{[]Count{{Destination: b, Conns: 4}}, []Count{{Destination: b, Conns: 4}}, []Count{{Destination: b, Conns: 3}}},
		{[]Count{{Destination: a, Conns: 1}}, []Count{{Destination: a, Conns: 1}}, []Count{{Destination: a, Conns: 1}}},
	} {
		now = now.Add(time.Second)
		totals, growth := tally.Add(step.reading, now)
		if d := cmp.Diff(step.want, totals, cmp.Comparer(func(a, b Count) bool { return a == b })); d != "" {
			t.Errorf("step %d (-want +got):\n%s", i, d)
		}
		if d := cmp.Diff(step.growth, growth, cmp.Comparer(func(a, b Count) bool { return a == b })); d != "" {
			t.Errorf("step %d, what is new (-want +got):\n%s", i, d)
		}
	}
}

// TestTallyOfAnEndpointThatReturns, to a kernel that has forgotten what it counted there and to one that has not.
func TestTallyOfAnEndpointThatReturns(t *testing.T) {
	for name, tt := range map[string]struct {
		away          time.Duration
		returns, want Count
	}{
		"from 0":                              {time.Minute, Count{Conns: 3, Bytes: 60}, Count{Conns: 3, Bytes: 60}},
		"from its old counts":                 {time.Minute, Count{Conns: 103, Bytes: 9060}, Count{Conns: 3, Bytes: 60}},
		"after so long that it is a stranger": {remembered + time.Second, Count{Conns: 103, Bytes: 9060}, Count{Conns: 103, Bytes: 9060}},
	} {
		var tally Tally
		now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		tally.Add([]Count{{Conns: 100, Bytes: 9000}}, now)
		tally.Add(nil, now.Add(time.Second))
		tally.Add(nil, now.Add(tt.away))
		totals, growth := tally.Add([]Count{tt.returns}, now.Add(tt.away+time.Second))
		if growth[0] != tt.want || totals[0] != tt.returns {
			t.Errorf("%s: new is %+v, want %+v; the total is %+v, want what the kernel has", name, growth[0], tt.want, totals[0])
		}
	}
}

// TestTallyOfOpeningBytes: when they begin anew, those that the kernel counts apart go on.
func TestTallyOfOpeningBytes(t *testing.T) {
	var tally Tally
	tally.Add([]Count{{Conns: 100, Bytes: 9000, Opening: 6000}}, time.Unix(1, 0))
	totals, growth := tally.Add([]Count{{Conns: 3, Bytes: 3300, Opening: 200}}, time.Unix(2, 0))
	if want := (Count{Conns: 3, Bytes: 300, Opening: 200}); growth[0] != want {
		t.Errorf("new is %+v, want %+v", growth[0], want)
	}
	if want := (Count{Conns: 103, Bytes: 9300, Opening: 6200}); totals[0] != want {
		t.Errorf("the total is %+v, want %+v", totals[0], want)
	}
}
