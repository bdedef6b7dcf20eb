package lb

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// TestEndpointsAreValues: whatever lists are set one after the other, each value holds what it held when it was made, and Since names just
// the Services whose lists are others.
func TestEndpointsAreValues(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	type version struct {
		Endpoints
		want map[ServiceKey][]Endpoint
	}
	history := []version{{nil, map[ServiceKey][]Endpoint{}}}
	for range 300 {
		last := history[len(history)-1]
		now := version{last.Endpoints, maps.Clone(last.want)}
		lists := map[ServiceKey][]Endpoint{}
		for range r.IntN(4) {
			key := ServiceKey{Namespace: []string{"a", "b"}[r.IntN(2)], Name: fmt.Sprint("s", r.IntN(600))}
			lists[key] = slices.Repeat([]Endpoint{{PortName: "p"}}, r.IntN(3))
			if now.want[key] = lists[key]; len(lists[key]) == 0 {
				delete(now.want, key)
			}
		}
		now.Endpoints = last.With(lists)
		history = append(history, now)
	}
	for i, v := range history {
		if got := maps.Collect(v.All()); !maps.EqualFunc(got, v.want, slices.Equal) {
			t.Fatalf("version %d: %v, want %v", i, got, v.want)
		}
		for key, list := range v.want {
			if got := v.Of(key); !slices.Equal(got, list) {
				t.Fatalf("version %d: %s has %v, want %v", i, key, got, list)
			}
		}
		before := history[r.IntN(len(history))]
		if got, want := v.Equal(before.Endpoints), maps.EqualFunc(v.want, before.want, slices.Equal); got != want {
			t.Fatalf("%v and %v equal: %v", v.want, before.want, got)
		}
		since := map[ServiceKey]bool{}
		for key := range v.Since(before.Endpoints) {
			if since[key] {
				t.Fatalf("%s twice", key)
			}
			since[key] = true
		}
		for key := range maps.Keys(maps.Collect(history[len(history)-1].All())) {
			a, b := v.want[key], before.want[key]
			if same := len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]); same == since[key] {
				t.Fatalf("%s: the same memory %v, named %v", key, same, since[key])
			}
		}
	}
}

// TestEndpointsShare: what one Service's endpoints cost does not depend on how many Services there are.
func TestEndpointsShare(t *testing.T) {
	var e Endpoints
	lists := map[ServiceKey][]Endpoint{}
	for i := range 10000 {
		lists[ServiceKey{Namespace: "shop", Name: fmt.Sprintf("web-%05d", i)}] = []Endpoint{{Ready: true}}
	}
	e = EndpointsOf(lists)
	for _, part := range e {
		if n := len(*part); n > 100 {
			t.Errorf("a part has %d Services", n)
		}
	}
	key := ServiceKey{Namespace: "shop", Name: "web-04711"}
	now := e
	now.Set(key, []Endpoint{{Ready: false}})
	if got := slices.Collect(now.Since(e)); !slices.Equal(got, []ServiceKey{key}) || !e.Of(key)[0].Ready || now.Of(key)[0].Ready {
		t.Errorf("%v differ, before %v, now %v", got, e.Of(key), now.Of(key))
	}
}

// TestOfPort: what a look at every endpoint finds.
func TestOfPort(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	names, protocols := []string{"", "dns", "http", "https"}, []Protocol{SCTP, TCP, UDP}
	for range 200 {
		var all []Endpoint
		for range r.IntN(30) {
			all = append(all, Endpoint{PortName: names[r.IntN(4)], Protocol: protocols[r.IntN(3)],
				Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(9))}), 80), Ready: r.IntN(2) == 0})
		}
		slices.SortFunc(all, Endpoint.Compare)
		for _, name := range append(names, "a", "zzz") {
			for _, protocol := range protocols {
				var want []Endpoint
				for _, e := range all {
					if e.PortName == name && e.Protocol == protocol {
						want = append(want, e)
					}
				}
				got := OfPort(all, Port{Name: name, Protocol: protocol})
				if !slices.Equal(got, want) || cap(got) != len(got) {
					t.Fatalf("%q/%s of %v: %v, want %v", name, protocol, all, got, want)
				}
			}
		}
	}
}
