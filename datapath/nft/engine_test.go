package nft

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
)

// flows notes what it is to forget.
type flows struct {
	said []string
	err  error
}

func (f *flows) Forget(_ context.Context, have, want datapath.State) error {
	f.said = append(f.said, told(have, want))
	return f.err
}

// told is what of both states matters to Forget.
func told(have, want datapath.State) string {
	return datapath.State{Servers: have.Servers}.String() + "->\n" + datapath.State{Servers: want.Servers, NodeAddrs: want.NodeAddrs}.String()
}

// TestFlowsAreForgotten: whatever has changed is told once, as soon as the kernel has it, and there is a call without any change as well.
func TestFlowsAreForgotten(t *testing.T) {
	k, f := &fake{}, &flows{}
	e, now := NewEngine(k.open(t, true), f), t0
	with := func(dests ...string) datapath.State {
		s := state(server("192.0.2.200:80", nil, dests...))
		s.NodeAddrs = []netip.Addr{netip.MustParseAddr("192.0.2.11")}
		return s
	}
	one, other, third, none := with("10.0.0.1:80"), with("10.0.0.2:80"), with("10.0.0.3:80"), with()
	none.Servers = nil
	failure := errors.New("no memory")
	third.Onward = datapath.Onward{Known: true, IPv4: datapath.Way{First: datapath.Hop{Addr: netip.MustParseAddr("192.0.2.12")}}}
	commits := 0
	for _, step := range []struct {
		name   string
		want   datapath.State
		table  func() error // what the kernel says to a transaction
		flows  error
		told   string
		failed error
	}{
		{"first", one, nil, nil, told(none, one), nil},
		{"the same", one, nil, nil, told(none, none), nil},
		{"the table refuses", other, func() error { return failure }, nil, told(none, none), failure},
		{"the table takes it, conntrack does not", other, nil, failure, told(one, other), failure},
		{"the same again", other, nil, nil, told(none, none), nil},
		{"what comes after the table refuses", third, func() error {
			if commits++; commits > 1 {
				return unix.ENOBUFS
			}
			return nil
		}, nil, told(other, third), unix.ENOBUFS},
	} {
		k.refuse, f.err, f.said = step.table, step.flows, nil
		now = now.Add(time.Second)
		reached, err := e.Sync(context.Background(), step.want, now)
		if !errors.Is(err, step.failed) || (err != nil) != (step.failed != nil) {
			t.Errorf("%s: %v, want %v", step.name, err, step.failed)
		}
		if d := cmp.Diff([]string{step.told}, f.said); d != "" {
			t.Errorf("%s: Forget (-want +got):\n%s", step.name, d)
		}
		if step.flows != nil && !reached.Equal(step.want) {
			t.Errorf("%s: reached\n%s", step.name, reached)
		}
	}
}
