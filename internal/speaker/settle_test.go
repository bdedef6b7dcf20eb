package speaker

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// parseMembers reads "n1! n2 n3!c n4d": ! is ready, c claims an address, d is draining.
func parseMembers(text string) []lb.Member {
	var out []lb.Member
	for _, word := range strings.Fields(text) {
		m := lb.Member{Node: lb.NodeName(word[:2]), Ready: strings.Contains(word, "!"), Draining: strings.Contains(word, "d")}
		if strings.Contains(word, "c") {
			m.Claims = []lb.Claim{{Addr: vip, Epoch: 1}}
		}
		out = append(out, m)
	}
	return out
}

func TestSettling(t *testing.T) {
	type step struct {
		at      time.Duration
		members string
		want    string // who is awaited
		left    time.Duration
	}
	tests := map[string]struct {
		expected []lb.NodeName
		steps    []step
	}{
		"alone":                                {nil, []step{{0, "n1!", "", 0}}},
		"not ready yet":                        {[]lb.NodeName{"n1", "n2"}, []step{{0, "n1", "", 0}, {time.Minute, "n1!", "n2", 2 * time.Second}}},
		"all at once":                          {[]lb.NodeName{"n1", "n2"}, []step{{0, "n1! n2!", "", 0}, {time.Second, "n1! n2", "", 0}}},
		"one after another":                    {[]lb.NodeName{"n1", "n2", "n3"}, []step{{0, "n1!", "n2 n3", 2 * time.Second}, {time.Second, "n1! n2!", "n3", time.Second}, {1500 * time.Millisecond, "n1! n2! n3!", "", 0}}},
		"not for long":                         {[]lb.NodeName{"n1", "n2"}, []step{{0, "n1!", "n2", 2 * time.Second}, {2 * time.Second, "n1!", "", 0}, {3 * time.Second, "n1! n2", "", 0}}},
		"a member that nobody expected":        {nil, []step{{0, "n1! n2", "n2", 2 * time.Second}}},
		"one that leaves":                      {[]lb.NodeName{"n2"}, []step{{0, "n1! n2d", "", 0}}},
		"no cold start: others announce":       {[]lb.NodeName{"n1", "n2", "n3"}, []step{{0, "n1! n2!c", "", 0}}},
		"others announce because they settled": {[]lb.NodeName{"n1", "n2", "n3"}, []step{{0, "n1! n2!", "n3", 2 * time.Second}, {time.Second, "n1! n2!c", "n3", time.Second}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var s settling
			for _, step := range tt.steps {
				got, left := s.awaited("n1", parseMembers(step.members), tt.expected, time.Unix(1000, 0).Add(step.at))
				var want []lb.NodeName
				for _, n := range strings.Fields(step.want) {
					want = append(want, lb.NodeName(n))
				}
				if !slices.Equal(got, want) || left != step.left {
					t.Errorf("after %s with %q: awaited %v for %s, want %v for %s", step.at, step.members, got, left, want, step.left)
				}
			}
		})
	}
}

func TestSteadiness(t *testing.T) {
	s, start := steadiness{}, time.Unix(1000, 0)
	for _, step := range []struct {
		at      time.Duration
		members string
		down    lb.NodeName
		want    time.Duration // of n1; -1 = it is not steady
	}{
		{0, "n1!", "", 0},
		{time.Minute, "n1! n2!", "", time.Minute},
		{2 * time.Minute, "n1 n2!", "", -1},
		{3 * time.Minute, "n1! n2!", "", 0},
		{4 * time.Minute, "n1! n2!", "n1", -1},
		{5 * time.Minute, "n1! n2!", "", 0},
		{6 * time.Minute, "n1!d n2!", "", -1},
		{7 * time.Minute, "n1!", "", 0},
		{8 * time.Minute, "n2!", "", -1},
	} {
		got, steady := s.observe(parseMembers(step.members), map[lb.NodeName]bool{step.down: true}, start.Add(step.at))["n1"]
		if !steady {
			got = -1
		}
		if got != step.want {
			t.Errorf("after %s n1 is steady for %s, want %s", step.at, got, step.want)
		}
	}
}

func TestNextFailback(t *testing.T) {
	half, minute := 30*time.Second, time.Minute
	ads := []lb.L2Advertisement{{}, {Failback: &minute}, {Failback: &half}}
	for _, tt := range []struct {
		steady, want time.Duration
	}{{0, half}, {29 * time.Second, time.Second}, {half, half}, {time.Hour, 0}} {
		if got := nextFailback(ads, map[lb.NodeName]time.Duration{"n1": tt.steady}); got != tt.want {
			t.Errorf("steady for %s: next look after %s, want %s", tt.steady, got, tt.want)
		}
	}
	if got := nextFailback(ads[:1], map[lb.NodeName]time.Duration{"n1": 0}); got != 0 {
		t.Errorf("failback is Never, but there is a look after %s", got)
	}
}
