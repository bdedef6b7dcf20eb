package nft

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/datapath"
)

// A server that the kernel does not take would keep all others out, since a transaction is carried out as a whole or not at all. It is found
// by halves, in transactions that the kernel only checks, and left out.

// errRefused marks a transaction that the kernel was asked to carry out and said no to, or that cannot be encoded.
var errRefused = errors.New("refused")

// How long a server that was refused is left out before it is tried again as it was, and how many transactions may be checked to find
// out which ones they are; those that are not told apart by then are left out together.
const (
	banned     = time.Minute
	mostTrials = 400
)

// ban are the servers of one listener, whoever's clients they are for, as the kernel refused them.
type ban struct {
	servers []*datapath.VirtualServer
	err     error
	until   time.Time
}

// spare returns s without the servers that were refused just as they are, and forgets the bans on others.
func (t *Table) spare(s datapath.State, now time.Time) datapath.State {
	for l, b := range t.bans {
		if !now.Before(b.until) || !slices.EqualFunc(b.servers, at(s, l), (*datapath.VirtualServer).Equal) {
			delete(t.bans, l)
		}
	}
	return s.Without(t.rejected())
}

// at returns the servers of a listener.
func at(s datapath.State, l datapath.Listener) (out []*datapath.VirtualServer) {
	l = l.ForEverybody()
	i, _ := slices.BinarySearchFunc(s.Servers, l, func(v *datapath.VirtualServer, l datapath.Listener) int { return v.Listener.Compare(l) })
	for i < len(s.Servers) && s.Servers[i].ForEverybody() == l {
		out = append(out, s.Servers[i])
		i++
	}
	return out
}

// rejected returns the servers that are left out, sorted by listener.
func (t *Table) rejected() (out datapath.Rejected) {
	for _, b := range t.bans {
		for _, v := range b.servers {
			out = append(out, datapath.Rejection{Server: *v, Err: b.err})
		}
	}
	slices.SortFunc(out, func(a, b datapath.Rejection) int { return a.Server.Listener.Compare(b.Server.Listener) })
	return out
}

// accuse bans the servers because of which the kernel refuses s. If it would refuse s without any of them as well, the error is the
// refusal itself.
func (t *Table) accuse(ctx context.Context, s datapath.State, now time.Time, refusal error) error {
	suspects := s.Servers
	if t.inStep(s) {
		_, to := changed(t.have, s)
		suspects = to.Servers
	}
	innocent := s.Without(all(suspects))
	if len(suspects) == 0 || t.check(ctx, innocent) != nil {
		return refusal
	}
	trials := mostTrials
	var halve func(list []*datapath.VirtualServer) error
	halve = func(list []*datapath.VirtualServer) error {
		trials--
		err := t.check(ctx, with(innocent, list))
		n := half(list)
		switch {
		case err == nil || !errors.Is(err, errRefused):
			return err
		case n == len(list) || trials <= 0:
			t.ban(list, err, now)
			return nil
		}
		if err := halve(list[:n]); err != nil {
			return err
		}
		return halve(list[n:])
	}
	return halve(suspects)
}

func all(servers []*datapath.VirtualServer) (out datapath.Rejected) {
	for _, v := range servers {
		out = append(out, datapath.Rejection{Server: *v})
	}
	return out
}

// with returns s with more servers, none of which it has.
func with(s datapath.State, more []*datapath.VirtualServer) datapath.State {
	s.Servers = slices.Concat(s.Servers, more)
	slices.SortFunc(s.Servers, func(a, b *datapath.VirtualServer) int { return a.Listener.Compare(b.Listener) })
	return s
}

// half returns how many servers are the first half of a list, which keeps those of one listener together; all, if there is one listener only.
func half(list []*datapath.VirtualServer) int {
	n := len(listened(list))
	for n < len(list)/2 {
		next := len(listened(list[n:]))
		if n+next == len(list) {
			break
		}
		n += next
	}
	return n
}

func (t *Table) ban(list []*datapath.VirtualServer, err error, now time.Time) {
	var r refusal
	if errors.As(err, &r) {
		err = r.Errno // its place in a transaction tells nobody anything
	}
	for ; len(list) > 0; list = list[len(listened(list)):] {
		t.bans[list[0].Listener.ForEverybody()] = ban{listened(list), err, now.Add(banned)}
	}
}

// check returns nil if the kernel would take s, and changes nothing there.
func (t *Table) check(ctx context.Context, s datapath.State) error {
	ask := func(ctx context.Context, packet []byte) error { return t.kernel.commit(ctx, unfinished(packet)) }
	if !t.inStep(s) {
		return t.takeOver(ctx, s, ask)
	}
	from, to := changed(t.have, s)
	return t.run(ctx, diff(t.used, t.trash, t.render(from), t.render(to)), ask)
}
