package gossip

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/election/keyring"
)

func TestWhichKeyIsUsed(t *testing.T) {
	a, b := testKey(1), testKey(2)
	for name, tc := range map[string]struct {
		keys []keyring.Key
		held [][]uint32
		want keyring.Key
	}{
		"alone":                          {[]keyring.Key{a, b}, nil, a},
		"all have both":                  {[]keyring.Key{a, b}, [][]uint32{{1, 2}, {1, 2}}, a},
		"one has not heard of the new":   {[]keyring.Key{b, a}, [][]uint32{{1, 2}, {1}}, a},
		"one has the new key only":       {[]keyring.Key{a, b}, [][]uint32{{1, 2}, {2}}, b},
		"nothing in common with one":     {[]keyring.Key{b, a}, [][]uint32{{1, 2}, {9}}, b},
		"the old is dropped, one is off": {[]keyring.Key{b}, [][]uint32{{1}}, b},
	} {
		got := inOrder(tc.keys, tc.held)
		if got[0] != tc.want || len(got) != len(tc.keys) {
			t.Errorf("%s: %v, want %v first", name, got, tc.want)
		}
	}
}

func (c *cluster) using(i int) string {
	m := c.members[i]
	m.keysMu.Lock()
	defer m.keysMu.Unlock()
	s := ""
	for _, k := range m.inUse {
		s += k.String()[7:]
	}
	return s
}

// Members get every step of a rotation at different times; none is ever lost, and at the end the old key opens nothing.
func TestRotationLosesNobody(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, c *cluster) {
		all := "node-1 node-2 node-3"
		c.within(2*time.Second, all, 1, 2, 3)
		old, fresh := testKey(7), testKey(9)
		steps := [][]keyring.Key{{old, fresh}, {fresh, old}, {fresh}}
		for _, step := range steps {
			for i := 1; i <= 3; i++ {
				c.members[i].SetKeys(step)
				for range 20 {
					time.Sleep(time.Second)
					if got := c.view(1) + c.view(2) + c.view(3); got != all+all+all {
						t.Fatalf("during %v after node-%d: %q", step, i, got)
					}
				}
			}
		}
		if got := c.using(1) + c.using(2) + c.using(3); got != "999" {
			t.Errorf("at the end they use keys %s", got)
		}
		stranger := runWith(t, c, old)
		time.Sleep(time.Minute)
		c.within(0, all, 1, 2, 3)
		if got := stranger.Members(); len(got) > 1 {
			t.Errorf("with the old key one still sees %v", got)
		}
	})
}

// A member that was off the network during the rotation comes back with the old key and is let in; only then is the new one used.
func TestRotationWaitsForTheLost(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, c *cluster) {
		c.within(2*time.Second, "node-1 node-2 node-3", 1, 2, 3)
		old, fresh := testKey(7), testKey(9)
		c.net.setCut(func(from, _ netip.AddrPort) bool { return from == addrOf(3) })
		c.within(5*time.Second, "node-1 node-2", 1, 2)
		for _, step := range [][]keyring.Key{{old, fresh}, {fresh, old}} {
			c.members[1].SetKeys(step)
			c.members[2].SetKeys(step)
			time.Sleep(time.Minute)
		}
		if got := c.using(1) + c.using(2); got != "7979" {
			t.Errorf("while one is missing they use keys %s, want the old one first", got)
		}
		c.net.setCut(nil)
		c.members[1].Rejoin()
		c.within(time.Second, "node-1 node-2 node-3", 1, 2, 3)
		c.members[3].SetKeys([]keyring.Key{fresh, old}) // it reads the Secret
		until(t, time.Second, func() bool { return c.using(1)+c.using(2)+c.using(3) == "979797" })
		c.within(0, "node-1 node-2 node-3", 1, 2, 3)
	})
}

func TestKeysInUseAreTold(t *testing.T) {
	var told [][]keyring.Key
	n := newNetwork()
	g, err := New(Options{Node: "n", Bind: addrOf(1), Keys: []keyring.Key{testKey(1)}, Log: slog.New(slog.DiscardHandler), Changed: func() {}, Transport: n.newHost(addrOf(1)),
		Peers: func(context.Context) ([]netip.AddrPort, error) { return nil, nil }, KeysInUse: func(k []keyring.Key) { told = append(told, slices.Clone(k)) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Run(ctx); err != nil {
		t.Fatal(err)
	}
	g.SetKeys([]keyring.Key{testKey(1), testKey(2)})
	g.SetKeys([]keyring.Key{testKey(1), testKey(2)})
	g.SetKeys(nil)
	g.SetKeys([]keyring.Key{testKey(2)})
	want := [][]keyring.Key{{testKey(1)}, {testKey(1), testKey(2)}, {testKey(2)}}
	if d := cmp.Diff(want, told); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
}

// runWith runs a further member with another key until the test ends.
func runWith(t *testing.T, c *cluster, key keyring.Key) *Gossip {
	t.Helper()
	g, err := New(Options{Node: "mallory", Bind: addrOf(9), Keys: []keyring.Key{key}, Log: slog.New(slog.DiscardHandler), Changed: func() {},
		Transport: c.net.newHost(addrOf(9)), Peers: func(context.Context) ([]netip.AddrPort, error) { return []netip.AddrPort{addrOf(1), addrOf(2)}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return g
}
