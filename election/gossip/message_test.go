package gossip

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/lb"
)

func full() record {
	return record{stamp: stamp{17, 3}, Member: lb.Member{
		Node: "node-1", Draining: true, Ready: true,
		Links:    []lb.Link{{Name: "eth0", Index: 2, MAC: lb.MAC{2, 0, 0, 0, 0, 1}, Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}},
		Claims:   []lb.Claim{{Addr: netip.MustParseAddr("192.0.2.200"), Epoch: 4}, {Addr: netip.MustParseAddr("2001:db8::c8"), Epoch: 1}},
		Failing:  []netip.Addr{netip.MustParseAddr("192.0.2.201")},
		Suspects: []lb.NodeName{"node-2", "node-3"},
	}}
}

func TestRecordsSurviveTheWire(t *testing.T) {
	want := []record{full(), {stamp: stamp{1, 1}, Member: lb.Member{Node: "node-2"}}}
	got, err := decode(encode(want...))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, b := range map[string]string{
		"no JSON":         "\x00\x01",
		"no name":         `{"records":[{"node":""}]}`,
		"long name":       `{"records":[{"node":"` + strings.Repeat("x", 300) + `"}]}`,
		"bad MAC":         `{"records":[{"node":"a","links":[{"name":"eth0","mac":"nonsense"}]}]}`,
		"InfiniBand MAC":  `{"records":[{"node":"a","links":[{"name":"ib0","mac":"00:00:00:00:fe:80:00:00:00:00:00:00:02:00:5e:10:00:00:00:01"}]}]}`,
		"empty prefix":    `{"records":[{"node":"a","links":[{"name":"eth0","mac":"02:00:00:00:00:01","prefixes":[""]}]}]}`,
		"bad prefix":      `{"records":[{"node":"a","links":[{"name":"eth0","mac":"02:00:00:00:00:01","prefixes":["192.0.2.0/99"]}]}]}`,
		"empty claim":     `{"records":[{"node":"a","claims":[{"addr":""}]}]}`,
		"bad claim":       `{"records":[{"node":"a","claims":[{"addr":"192.0.2"}]}]}`,
		"negative epoch":  `{"records":[{"node":"a","claims":[{"addr":"192.0.2.1","epoch":-1}]}]}`,
		"empty failing":   `{"records":[{"node":"a","failing":[""]}]}`,
		"wrong type":      `{"records":{"node":"a"}}`,
		"one bad of many": `{"records":[{"node":"a"},{"node":""}]}`,
	} {
		if got, err := decode([]byte(b)); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
	if got, err := decode([]byte(`{"records":[{"node":"a","from":"the future"}],"more":1}`)); err != nil || len(got) != 1 {
		t.Errorf("a field of a later version: %v, %v", got, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(full()))
	f.Add(encode())
	f.Add([]byte(`{"records":[{"node":"a","claims":[{"addr":"::ffff:1.2.3.4","epoch":1}]}]}`))
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
			if !equal(r.Member, again[i].Member) {
				t.Errorf("%+v became %+v", r, again[i])
			}
			tab.merge(r, time.Unix(0, 0))
		}
		tab.members()
	})
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
	if d := cmp.Diff([]lb.Member{{Node: "node-1"}}, tab.members(), cmp.Comparer(equal)); d != "" {
		t.Errorf("a record alone makes no member (-want +got):\n%s", d)
	}
	tab.join("node-2", addrOf(2), now)
	tab.join("node-3", addrOf(3), now)
	want := []lb.Member{{Node: "node-1"}, {Node: "node-2", Ready: true}, {Node: "node-3"}}
	if d := cmp.Diff(want, tab.members(), cmp.Comparer(equal)); d != "" {
		t.Errorf("members (-want +got):\n%s", d)
	}
	tab.leave("node-2", now)
	tab.prune(now.Add(forget + time.Second))
	if len(tab.records) != 0 || len(tab.peers) != 1 {
		t.Errorf("%d records and %d peers are remembered", len(tab.records), len(tab.peers))
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{Node: "n", Bind: addrOf(1), Key: bytes.Repeat([]byte{1}, KeySize), Log: slog.New(slog.DiscardHandler), Changed: func() {},
		Peers: func(context.Context) ([]netip.AddrPort, error) { return nil, nil }}
	for name, change := range map[string]func(*Options){
		"no node":      func(o *Options) { o.Node = "" },
		"no address":   func(o *Options) { o.Bind = netip.AddrPort{} },
		"short key":    func(o *Options) { o.Key = o.Key[:16] },
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
