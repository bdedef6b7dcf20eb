package gossip

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/lb"
)

func full() record {
	return record{stamp: stamp{17, 3}, Member: lb.Member{
		Node: "node-1", Draining: true, Ready: true, News: true,
		Links:    []lb.Link{{Name: "eth0", Index: 2, MAC: lb.MAC{2, 0, 0, 0, 0, 1}, Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}},
		Claims:   []lb.Claim{{Addr: netip.MustParseAddr("192.0.2.200"), Epoch: 4, To: "n2"}, {Addr: netip.MustParseAddr("2001:db8::c8"), Epoch: 1}},
		Failing:  []netip.Addr{netip.MustParseAddr("192.0.2.201")},
		Suspects: []lb.NodeName{"node-2", "node-3"}, Alive: []lb.NodeName{"node-3"},
	}, keys: []uint32{3, 1 << 31}}
}

func TestRecordsSurviveTheWire(t *testing.T) {
	difference := full()
	difference.base, difference.dropped = 2, []netip.Addr{netip.MustParseAddr("192.0.2.199"), netip.MustParseAddr("2001:db8::1")}
	last := full()
	last.goodbye = true
	want := []record{full(), difference, last, {stamp: stamp{1, 1}, Member: lb.Member{Node: "node-2"}}}
	got, err := decode(encode(want...))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

// raw builds a message with one record out of the given fields.
func raw(fields ...[]byte) []byte { return appendBytes(nil, fieldRecord, bytes.Join(fields, nil)) }

func TestDecodeRefuses(t *testing.T) {
	name := appendBytes(nil, fieldNode, []byte("a"))
	link := func(fields ...[]byte) []byte {
		return raw(name, appendBytes(nil, fieldLink, append(appendBytes(nil, fieldMAC, make([]byte, 6)), bytes.Join(fields, nil)...)))
	}
	for why, b := range map[string][]byte{
		"no message":         {0, 1},
		"cut off":            encode(full())[:40],
		"no name":            raw(appendNumber(nil, fieldVersion, 1)),
		"long name":          raw(appendBytes(nil, fieldNode, bytes.Repeat([]byte("x"), 300))),
		"InfiniBand MAC":     raw(name, appendBytes(nil, fieldLink, appendBytes(nil, fieldMAC, make([]byte, 20)))),
		"no MAC":             raw(name, appendBytes(nil, fieldLink, appendBytes(nil, fieldName, []byte("eth0")))),
		"empty prefix":       link(appendBytes(nil, fieldPrefix, nil)),
		"bad prefix":         link(appendBytes(nil, fieldPrefix, []byte{192, 0, 2, 0, 99})),
		"claim cut off":      raw(name, appendBytes(nil, fieldClaims4, []byte{192, 0, 2})),
		"claim, no epoch":    raw(name, appendBytes(nil, fieldClaims4, []byte{192, 0, 2, 1})),
		"IPv6 claim cut off": raw(name, appendBytes(nil, fieldClaims6, make([]byte, 15))),
		"endless epoch":      raw(name, appendBytes(nil, fieldClaims4, append([]byte{192, 0, 2, 1}, bytes.Repeat([]byte{255}, 11)...))),
		"failing cut off":    raw(name, appendBytes(nil, fieldFailing6, make([]byte, 17))),
		"dropped cut off":    raw(name, appendBytes(nil, fieldDropped4, make([]byte, 5))),
		"empty suspect":      raw(name, appendBytes(nil, fieldSuspect, nil)),
		"key cut off":        raw(name, appendBytes(nil, fieldKeys, make([]byte, 6))),
		"many keys":          raw(name, appendBytes(nil, fieldKeys, make([]byte, 4*maxKeys+4))),
		"base not older":     raw(name, appendNumber(nil, fieldVersion, 3), appendNumber(nil, fieldBase, 3)),
		"one bad of many":    append(raw(name), raw(appendBytes(nil, fieldNode, nil))...),
		"too long":           make([]byte, maxMessage+1),
	} {
		if got, err := decode(b); err == nil {
			t.Errorf("%s: accepted as %+v", why, got)
		}
	}
}

// A member of an older version passes on what it does not understand.
func TestFieldsOfALaterVersion(t *testing.T) {
	later := appendNumber(appendBytes(nil, 99, []byte("from the future")), 100, 7)
	b := append(raw(appendBytes(nil, fieldNode, []byte("a")), later), appendBytes(nil, 55, []byte("another kind of thing"))...)
	got, err := decode(b)
	if err != nil || len(got) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if !bytes.Contains(encode(got...), later) {
		t.Error("fields of a later version are lost on the way")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(full()))
	f.Add(encode())
	f.Add(encode(full().since(record{stamp: stamp{17, 2}})))
	f.Add(raw(appendBytes(nil, fieldNode, []byte("a")), appendBytes(nil, fieldClaims6, append(netip.MustParseAddr("::ffff:1.2.3.4").AsSlice(), 1))))
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := decode(b)
		if err != nil {
			return
		}
		again, err := decode(encode(records...))
		if err != nil || len(again) != len(records) {
			t.Fatalf("%q: %v", b, err)
		}
		tab := newTable("node-1", 5)
		for i, r := range records {
			if !equal(r.Member, again[i].Member) || r.stamp != again[i].stamp || r.base != again[i].base {
				t.Errorf("%+v became %+v", r, again[i])
			}
			tab.merge(r, time.Unix(0, 0))
		}
		tab.members(nobody)
		encode(tab.all()...)
	})
}

// Whatever changes between two records, the difference leads from one to the other.
func FuzzDifference(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4}, []byte{2, 9, 200})
	f.Add([]byte{}, []byte{1})
	f.Add([]byte{1}, []byte{})
	f.Fuzz(func(t *testing.T, before, after []byte) {
		make := func(version uint64, b []byte) record {
			r := record{stamp: stamp{1, version}, Member: lb.Member{Node: "a", Ready: len(b)%2 == 0, Claims: []lb.Claim{}}}
			set := map[byte]uint64{}
			for i, x := range b {
				set[x/2] = uint64(i % 3)
			}
			for x := range 128 {
				if epoch, ok := set[byte(x)]; ok {
					addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(x)})
					r.Claims = append(r.Claims, lb.Claim{Addr: addr, Epoch: epoch})
				}
			}
			return r
		}
		old, want := make(3, before), make(9, after)
		decoded, err := decode(encode(want.since(old)))
		if err != nil {
			t.Fatal(err)
		}
		got, ok := decoded[0].on(old)
		if !ok || got.stamp != want.stamp || !equal(got.Member, want.Member) || got.base != 0 {
			t.Errorf("%+v, %t, want %+v", got, ok, want)
		}
		if _, ok := decoded[0].on(want); ok {
			t.Error("applied to what is not its base")
		}
	})
}

func TestDifferencesInAnyOrder(t *testing.T) {
	now := time.Unix(1000, 0)
	version := func(n uint64) record {
		r := record{stamp: stamp{5, n}, Member: lb.Member{Node: "node-2"}}
		for i := range n { // each version claims one more, and the first one anew
			r.Claims = append(r.Claims, lb.Claim{Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), Epoch: 1})
		}
		r.Claims[0].Epoch = n
		return r
	}
	later := version(4).since(version(1))
	later.unknown = appendNumber(nil, 99, 1)
	for name, tc := range map[string]struct {
		arrive []record
		want   uint64 // the version that is believed at the end
	}{
		"after its base":                   {[]record{version(1), version(2).since(version(1))}, 2},
		"two from one base":                {[]record{version(1), version(2).since(version(1)), version(3).since(version(1))}, 3},
		"the second overtakes the first":   {[]record{version(1), version(3).since(version(1)), version(2).since(version(1))}, 3},
		"one lost":                         {[]record{version(1), version(3).since(version(1))}, 3},
		"before its base":                  {[]record{version(2).since(version(1)), version(1)}, 2},
		"upon a difference":                {[]record{version(1), version(2).since(version(1)), version(3).since(version(2))}, 3},
		"its base is missing":              {[]record{version(1), version(3).since(version(2))}, 1},
		"until the whole comes":            {[]record{version(1), version(3).since(version(2)), version(3)}, 3},
		"the base comes late":              {[]record{version(1), version(4).since(version(3)), version(2), version(3)}, 4},
		"of another process":               {[]record{{stamp: stamp{4, 1}, Member: version(1).Member}, version(2).since(version(1))}, 0},
		"whole after a younger difference": {[]record{version(1), version(3).since(version(1)), version(2), version(4).since(version(2))}, 4},
		"with unknown fields":              {[]record{version(1), later}, 1},
	} {
		tab := newTable("node-1", 10)
		for _, r := range tc.arrive {
			tab.merge(r, now)
		}
		got := tab.records["node-2"]
		if tc.want == 0 {
			if got.incarnation != 4 {
				t.Errorf("%s: believes %+v", name, got.record)
			}
			continue
		}
		if want := version(tc.want); got.version != tc.want || !equal(got.Member, want.Member) {
			t.Errorf("%s: believes %+v, want %+v", name, got.record, want)
		}
		if again := tab.merge(tc.arrive[len(tc.arrive)-1], now); again {
			t.Errorf("%s: the same again is news", name)
		}
	}
}

func TestTableTakesTheYounger(t *testing.T) {
	now := time.Unix(1000, 0)
	tab := newTable("node-1", 10)
	rec := func(node lb.NodeName, incarnation, version uint64, ready bool) record {
		return record{Member: lb.Member{Node: node, Ready: ready}, stamp: stamp{incarnation, version}}
	}
	steps := []struct {
		name string
		r    record
		news bool
	}{
		{"first", rec("node-2", 5, 3, true), true},
		{"the same again", rec("node-2", 5, 3, true), false},
		{"older version", rec("node-2", 5, 2, false), false},
		{"younger version that says the same", rec("node-2", 5, 4, true), false},
		{"younger version", rec("node-2", 5, 5, false), true},
		{"older process", rec("node-2", 4, 9, true), false},
		{"younger process", rec("node-2", 6, 1, true), true},
		{"our own, older", rec("node-1", 9, 99, true), false},
		{"our own, of an earlier process with a fast clock", rec("node-1", 20, 7, true), true},
	}
	for _, s := range steps {
		if got := tab.merge(s.r, now); got != s.news {
			t.Errorf("%s: news = %t", s.name, got)
		}
	}
	if tab.self.incarnation != 21 {
		t.Errorf("own incarnation %d, want one more than the ghost's", tab.self.incarnation)
	}
	if d := cmp.Diff([]lb.Member{{Node: "node-1"}}, tab.members(nobody), cmp.Comparer(equal)); d != "" {
		t.Errorf("a record alone makes no member (-want +got):\n%s", d)
	}
	tab.join("node-2", addrOf(2))
	tab.join("node-3", addrOf(3))
	want := []lb.Member{{Node: "node-1"}, {Node: "node-2", Ready: true}, {Node: "node-3"}}
	if d := cmp.Diff(want, tab.members(nobody), cmp.Comparer(equal)); d != "" {
		t.Errorf("members (-want +got):\n%s", d)
	}
	tab.leave("node-2", now)
	if d := cmp.Diff([]lb.Member{want[0], want[2]}, tab.members(nobody), cmp.Comparer(equal)); d != "" {
		t.Errorf("members without node-2 (-want +got):\n%s", d)
	}
	if d := cmp.Diff(want, tab.members(func(n lb.NodeName) bool { return n == "node-2" }), cmp.Comparer(equal)); d != "" {
		t.Errorf("node-2 is lost, but heard (-want +got):\n%s", d)
	}
	if known := tab.known(now.Add(forget)); len(known) != 2 {
		t.Errorf("a day later knows only %v", known)
	}
	if known := tab.known(now.Add(forget + time.Second)); len(known) != 1 {
		t.Errorf("after a day still knows %v", known)
	}
	tab.prune(now.Add(forget + time.Second))
	if len(tab.records) != 0 || len(tab.lost) != 0 || len(tab.known(now)) != 1 {
		t.Errorf("%d records and %d lost members are remembered, known: %v", len(tab.records), len(tab.lost), tab.known(now))
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{Node: "n", Bind: addrOf(1), Keys: []keyring.Key{testKey(1)}, Log: slog.New(slog.DiscardHandler), Changed: func() {},
		Peers: func(context.Context) ([]netip.AddrPort, error) { return nil, nil }}
	for name, change := range map[string]func(*Options){
		"no node":      func(o *Options) { o.Node = "" },
		"no address":   func(o *Options) { o.Bind = netip.AddrPort{} },
		"no key":       func(o *Options) { o.Keys = nil },
		"no log":       func(o *Options) { o.Log = nil },
		"late timeout": func(o *Options) { o.ProbeInterval, o.ProbeTimeout = time.Second, 500*time.Millisecond },
		"negative":     func(o *Options) { o.SuspicionMult = -1 },
	} {
		o := good
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if o, err := good.validate(); err != nil || o.ProbeInterval != 200*time.Millisecond || o.ProbeTimeout != 80*time.Millisecond {
		t.Errorf("defaults: %v, %v", o, err)
	}
}

func nobody(lb.NodeName) bool { return false }
