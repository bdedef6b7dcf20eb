package ndp

import (
	"errors"
	"maps"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// kernel is a fake that lets a socket be in two groups.
type kernel struct{ open []*fakeMember }

type fakeMember struct {
	in     map[netip.Addr]bool
	closed bool
}

func (k *kernel) openMember() (memberSocket, error) {
	if len(k.open) == 3 {
		return nil, unix.EMFILE
	}
	m := &fakeMember{in: map[netip.Addr]bool{}}
	k.open = append(k.open, m)
	return m, nil
}

func (m *fakeMember) join(group netip.Addr) error {
	if len(m.in) == 2 {
		return unix.ENOMEM
	}
	m.in[group] = true
	return nil
}

func (m *fakeMember) leave(group netip.Addr) error {
	if !m.in[group] {
		return unix.EADDRNOTAVAIL
	}
	delete(m.in, group)
	return nil
}

func (m *fakeMember) close() { m.closed = true }

// in returns the groups of all sockets; none may be in two.
func (k *kernel) in(t *testing.T) map[netip.Addr]bool {
	t.Helper()
	out := map[netip.Addr]bool{}
	for _, m := range k.open {
		for g := range m.in {
			if out[g] {
				t.Errorf("%s is joined twice", g)
			}
			out[g] = true
		}
	}
	return out
}

func TestGroupsAreSharedAndSpreadOverSockets(t *testing.T) {
	addr := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	k := &kernel{}
	g := newGroups(k.openMember)
	want := map[netip.Addr]bool{}
	expect := func(what string) {
		t.Helper()
		if got := k.in(t); !maps.Equal(got, want) {
			t.Errorf("%s: in %v, want %v", what, got, want)
		}
	}
	join := func(s string) {
		t.Helper()
		if err := g.Join(addr(s)); err != nil {
			t.Error(err)
		}
		want[SolicitedNode(addr(s))] = true
	}
	leave := func(s string) {
		t.Helper()
		if err := g.Leave(addr(s)); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"2001:db8::1", "2001:db8::1", "2001:db8:1::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8::5"} {
		join(s)
	}
	if len(k.open) != 3 {
		t.Errorf("%d sockets for 5 groups, two each", len(k.open))
	}
	expect("joined")
	leave("2001:db8::1")
	leave("2001:db8::1")
	leave("2001:db8::9")
	expect("2001:db8:1::1 still needs the group")
	leave("2001:db8:1::1")
	delete(want, addr("ff02::1:ff00:1"))
	expect("the last one has left")
	join("2001:db8::6")
	join("2001:db8::7") // into the room that has become free
	expect("joined again")
	if err := g.Join(addr("2001:db8::8")); !errors.Is(err, unix.EMFILE) {
		t.Errorf("joined without a socket: %v", err)
	}
	leave("2001:db8::7")
	delete(want, addr("ff02::1:ff00:7"))
	join("2001:db8::8") // what has failed is tried again
	expect("and again")
	g.close()
	for _, m := range k.open {
		if !m.closed {
			t.Error("a socket stays open")
		}
	}
	if err := errors.Join(g.Join(vip), g.Leave(addr("2001:db8::2"))); err != nil || len(k.open) != 3 {
		t.Errorf("after the end: %v", err)
	}
}
