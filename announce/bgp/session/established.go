package session

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/announce/bgp/wire"
	"github.com/fairlead-lb/fairlead/lb"
)

// stay holds an established session until it ends. It tells the peer its paths, and says that we live.
func (t *talk) stay(ctx context.Context) error {
	t.established()
	reading, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- t.listen(reading) }()
	heard, err := t.speak(ctx, failed)
	if heard {
		return err
	}
	stop()
	_ = t.conn.SetReadDeadline(time.Now())
	if cause := <-failed; ctx.Err() == nil && !timedOut(cause) && !errors.Is(cause, context.Canceled) { // the reader may know better why a write failed
		return cause
	}
	return err
}

// established reports that the session is up.
func (t *talk) established() {
	t.p.fresh = false
	t.p.enter(bgp.Established)
	var why lb.Refusal
	for _, f := range t.w.Families {
		if slices.Contains(t.open.Families, f) && !t.Carries(f) {
			why = lb.Refusal{Reason: lb.BGPNoNextHop, Message: fmt.Sprintf("%s paths are not told: the interface of %s has no %s address to be their next hop; give it one, or peer over %s", f, t.conn.LocalAddr(), f, f)}
		}
	}
	t.p.update(func(s *bgp.Session) { s.Reason, s.Message = why.Reason, why.Message })
	t.p.o.Log.Info("bgp session established", "asn", t.open.ASN, "id", t.open.ID, "hold", t.hold, "graceful", t.open.Graceful != nil)
}

// speak writes until ctx is done, writing fails, or the reader has failed; heard says that it was the reader.
func (t *talk) speak(ctx context.Context, failed <-chan error) (heard bool, err error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	refreshed := time.Now()
	for err := t.tell(ctx); ; {
		if err != nil {
			return false, err
		}
		var again <-chan struct{}
		if time.Since(refreshed) >= refreshEvery {
			again = t.refresh
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case err := <-failed:
			return true, err
		case <-t.p.wake:
			err = t.tell(ctx)
		case <-again:
			refreshed, t.told = time.Now(), nil
			err = t.tell(ctx)
		case <-tick.C:
			err = t.keepalive(ctx)
		}
	}
}

// keepalive sends a KEEPALIVE if nothing was sent for the keepalive time.
func (t *talk) keepalive(ctx context.Context) error {
	every := t.hold / 3
	if t.w.Keepalive > 0 {
		every = min(every, t.w.Keepalive)
	}
	if t.hold == 0 || time.Since(t.wrote) < every-500*time.Millisecond { // the tick comes once a second
		return nil
	}
	return t.write(ctx, wire.Keepalive())
}

// tell makes what the peer has been told what it shall hear. Withdrawals come first.
func (t *talk) tell(ctx context.Context) error {
	w := t.p.wanted()
	paths := w.Paths
	if len(t.NextHop) < len(t.w.Families) { // what cannot be told stays pending
		paths = slices.DeleteFunc(slices.Clone(paths), func(p bgp.Path) bool { return !t.Carries(lb.FamilyOf(p.Prefix.Addr())) })
	}
	gone, fresh := bgp.Diff(t.told, paths)
	out := append(t.Withdraw(gone), t.Announce(fresh)...)
	if len(out) > 0 {
		t.p.mu.Lock()
		t.p.session.Pending = len(gone) + len(fresh)
		t.p.mu.Unlock()
		if err := t.write(ctx, out); err != nil {
			return err
		}
		_, n := wire.Cut(out, len(out))
		t.p.mu.Lock()
		t.p.session.UpdatesOut += uint64(n)
		t.p.mu.Unlock()
	}
	t.told = paths
	if w.complete && !t.ended {
		for _, f := range t.w.Families {
			if slices.Contains(t.open.Families, f) {
				if err := t.write(ctx, wire.EndOfRIB(f)); err != nil {
					return err
				}
			}
		}
		t.ended = true
	}
	t.p.update(func(s *bgp.Session) {
		s.Sent, s.Pending = len(paths), len(w.Paths)-len(paths)
		t.p.told = w.seq
	})
	return nil
}

// listen reads until that fails, and returns why.
func (t *talk) listen(ctx context.Context) (err error) {
	defer t.p.caught(&err)
	buf := make([]byte, wire.MaxMessage)
	for {
		kind, body, err := t.next(ctx, buf)
		if err != nil {
			return err
		}
		if err := t.take(kind, body); err != nil {
			return err
		}
	}
}

// next reads a message within the hold time. If that has passed, what has arrived meanwhile still counts: we may have been late.
func (t *talk) next(ctx context.Context, buf []byte) (wire.Type, []byte, error) {
	var deadline time.Time // none
	if t.hold > 0 {
		deadline = time.Now().Add(t.hold)
	}
	_ = t.conn.SetReadDeadline(deadline)
	if ctx.Err() != nil {
		return 0, nil, ctx.Err()
	}
	if _, err := t.in.Peek(1); timedOut(err) && ctx.Err() == nil {
		_ = t.conn.SetReadDeadline(time.Now().Add(excuse))
		if _, err := t.in.Peek(1); timedOut(err) {
			n := wire.Notification{Code: wire.HoldExpired}
			return 0, nil, errors.Join(fail(lb.BGPHoldExpired, "we closed: "+n.Error(), "nothing was heard from %s for %s: see to the link and to the router", t.w.Addr, t.hold), n)
		}
		_ = t.conn.SetReadDeadline(time.Now().Add(t.hold))
	}
	return wire.Read(t.in, buf)
}

// take deals with a message.
func (t *talk) take(kind wire.Type, body []byte) error {
	t.p.mu.Lock()
	t.p.session.MessagesIn++
	t.p.mu.Unlock()
	switch kind {
	case wire.TypeKeepalive:
		return nil
	case wire.TypeNotification:
		return received(t.w.Peer, wire.ParseNotification(body))
	case wire.TypeRouteRefresh:
		if wire.ParseRefresh(body) != 0 {
			select {
			case t.refresh <- struct{}{}:
			default:
			}
		}
		return nil
	case wire.TypeUpdate:
		u, err := wire.ParseUpdate(body)
		if err != nil {
			return err
		}
		return t.count(u)
	}
	return wire.Notification{Code: wire.StateError, Subcode: 3}
}

// countLimit is up to how many prefixes a peer's are counted where it may send any number: more than a router that has more
// than a default route for us would send, and few enough to be remembered (20 MB).
const countLimit = 200_000

// counts are the prefixes that a peer has sent.
type counts struct {
	limit int // of each family; 0 = none
	of    map[netip.Prefix]struct{}
	each  [2]int // of IPv4 and IPv6
}

func index(p netip.Prefix) int {
	if p.Addr().Is4() {
		return 0
	}
	return 1
}

// count takes note of an UPDATE's prefixes.
func (t *talk) count(u wire.Update) error {
	c := &t.counts
	for _, p := range u.Withdrawn {
		if _, ok := c.of[p]; ok {
			delete(c.of, p)
			c.each[index(p)]--
		}
	}
	for _, p := range u.Announced {
		if _, ok := c.of[p]; ok || c.limit == 0 && len(c.of) >= countLimit {
			continue
		}
		c.of[p] = struct{}{}
		if c.each[index(p)]++; c.limit > 0 && c.each[index(p)] > c.limit {
			n := wire.Notification{Code: wire.Cease, Subcode: wire.MaxPrefixes}
			return errors.Join(fail(lb.BGPMaxPrefixes, "we closed: "+n.Error(),
				"the peer sent more than maxPrefixes %d of one family: have it send none (we install none), or raise maxPrefixes; the next attempt is in %s", c.limit, prefixPause), n)
		}
	}
	t.p.mu.Lock()
	t.p.session.UpdatesIn++
	t.p.session.PrefixesIn = len(c.of)
	t.p.mu.Unlock()
	return nil
}
