package speaker

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

func TestRelays(t *testing.T) {
	r := newRelays()
	start := time.Now()
	for _, step := range []struct {
		what                 string
		at                   time.Duration
		members, down, known string // a member with a dash behind it has not said its links; one that is down has a sign and the witness of its kernel behind it
		want                 string // "?" = not known yet, "!" = in doubt
	}{
		{"this node is alone at first", 0, "n1", "", "", "?"},
		{"n2 joins, and has said nothing", time.Second, "n1 n2-", "", "n2", "?"},
		{"now it has, but n3 is missing", 2 * time.Second, "n1 n2", "", "n2", "n2?"},
		{"n3 comes", 3 * time.Second, "n1 n2 n3", "", "n2 n3", "n2 n3"},
		{"n2 says goodbye", 10 * time.Second, "n1 n3", "", "n3", "n2 n3"},
		{"and is back, and has said nothing", 15 * time.Second, "n1 n2- n3", "", "n2 n3", "n2 n3"},
		{"n3 is down", 20 * time.Second, "n1 n2 n3", "n3", "n2 n3", "n2!"},
		{"and still is", 21 * time.Second, "n1 n2 n3", "n3", "n2 n3", "n2"},
		{"gossip gives it up", 22 * time.Second, "n1 n2", "", "n2 n3", "n2"},
		{"it is back", 30 * time.Second, "n1 n2 n3", "", "n2 n3", "n2 n3"},
		{"gossip alone gives it up", 40 * time.Second, "n1 n2", "", "n2 n3", "n2!"},
		{"it is back again", 42 * time.Second, "n1 n2 n3", "", "n2 n3", "n2 n3"},
		{"the speaker of n3 crashes", 44 * time.Second, "n1 n2 n3", "n3+n1", "n2 n3", "n2 n3"},
		{"gossip gives it up", 45 * time.Second, "n1 n2", "n3+n1", "n2 n3", "n2 n3"},
		{"and its node dies too", 46 * time.Second, "n1 n2", "n3", "n2 n3", "n2!"},
		{"it is back once more", 47 * time.Second, "n1 n2 n3", "", "n2 n3", "n2 n3"},
		{"its speaker crashes, as another one says", 48 * time.Second, "n1 n2 n3", "n3+n2", "n2 n3", "n2 n3"},
		{"who is down then", 49 * time.Second, "n1 n2 n3", "n3+n2 n2", "n2 n3", "!"},
		{"both are back", 50 * time.Second, "n1 n2 n3", "", "n2 n3", "n2 n3"},
		{"n3 is gone", 51 * time.Second, "n1 n2", "n3", "n2 n3", "n2!"},
		{"n2 says goodbye for good", 53 * time.Second, "n1", "", "", "n2"},
		{"a minute later its node is taken for gone", 112 * time.Second, "n1", "", "", ""},
	} {
		s := lb.Snapshot{Self: "n1", Down: map[lb.NodeName]bool{}}
		alive := map[string][]lb.NodeName{} // by witness
		for _, name := range strings.Fields(step.down) {
			node, witness, _ := strings.Cut(name, "+")
			s.Down[lb.NodeName(node)] = true
			alive[witness] = append(alive[witness], lb.NodeName(node))
		}
		for _, name := range strings.Fields(step.members) {
			m := lb.Member{Node: lb.NodeName(strings.TrimSuffix(name, "-"))}
			m.Alive = alive[string(m.Node)]
			if string(m.Node) == name {
				m.Links = []lb.Link{{Name: "eth0"}}
			}
			s.Members = append(s.Members, m)
		}
		known := map[lb.NodeName]netip.Addr{}
		for _, name := range strings.Fields(step.known) {
			known[lb.NodeName(name)] = netip.Addr{}
		}
		r.observe(&s, []lb.NodeName{"n1", "n2", "n3"}, known, start.Add(step.at))
		var names []string
		for _, x := range s.Relays {
			names = append(names, string(x.Node))
		}
		got := strings.Join(names, " ")
		if !s.RelaysKnown {
			got += "?"
		}
		if s.RelaysInDoubt {
			got += "!"
		}
		if got != step.want {
			t.Errorf("%s: %q, want %q", step.what, got, step.want)
		}
	}
}

// TestRelaysAreAwaited: for so long, if those that are expected do not come, or nobody knows who is.
func TestRelaysAreAwaited(t *testing.T) {
	start := time.Now()
	for _, tt := range []struct {
		expected []lb.NodeName
		after    time.Duration
		want     bool
	}{
		{[]lb.NodeName{"n1"}, 0, true},
		{[]lb.NodeName{"n1", "n2"}, 0, false},
		{[]lb.NodeName{"n1", "n2"}, relaysAwaited - 1, false},
		{[]lb.NodeName{"n1", "n2"}, relaysAwaited, true},
		{nil, 0, false},
		{nil, relaysAwaited, true},
	} {
		r := newRelays()
		r.began = start
		s := lb.Snapshot{Self: "n1", Members: []lb.Member{{Node: "n1"}}}
		again := r.observe(&s, tt.expected, nil, start.Add(tt.after))
		if s.RelaysKnown != tt.want || !tt.want && again != relaysAwaited-tt.after {
			t.Errorf("%v expected, after %s: known %v, again after %s", tt.expected, tt.after, s.RelaysKnown, again)
		}
	}
}

// TestRelaysOfNews: what a speaker has said of its node counts until it, or the next one, says something else. A node that cannot be told does not
// tell either.
func TestRelaysOfNews(t *testing.T) {
	r := newRelays()
	links := []lb.Link{{Name: "eth0"}}
	self := lb.Member{Node: "n1", News: true}
	for i, step := range []struct {
		members []lb.Member
		want    bool
	}{
		{[]lb.Member{self, {Node: "n2", Links: links}}, false},
		{[]lb.Member{self, {Node: "n2", Links: links, News: true}}, true},
		{[]lb.Member{{Node: "n1"}, {Node: "n2", Links: links, News: true}}, false},
		{[]lb.Member{self}, true},
		{[]lb.Member{self, {Node: "n2"}}, true},
		{[]lb.Member{self, {Node: "n2", Links: links}}, false},
	} {
		s := lb.Snapshot{Self: "n1", Members: step.members}
		r.observe(&s, nil, nil, time.Unix(int64(i), 0))
		if len(s.Relays) != 1 || s.Relays[0].News != step.want {
			t.Errorf("step %d: %+v, want %v", i, s.Relays, step.want)
		}
	}
}
