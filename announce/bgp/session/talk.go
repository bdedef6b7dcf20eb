package session

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/announce/bgp/wire"
	"github.com/fairlead-lb/fairlead/lb"
)

const (
	handshakeTime = 20 * time.Second       // for the peer's OPEN and first KEEPALIVE
	writeTime     = 10 * time.Second       // for one write, where the hold time is not shorter
	writeSize     = 64 << 10               // bytes of one write
	farewellTime  = 300 * time.Millisecond // for a NOTIFICATION to leave and be read
	excuse        = 100 * time.Millisecond // to look once more whether the peer was silent, or we were late
	refreshEvery  = time.Second            // everything is told again no more often
)

// talk is one connection with a peer. Its own goroutine writes, another one reads.
type talk struct {
	p    *peer
	w    want // as it was opened; paths are taken from p.wanted()
	conn *net.TCPConn
	in   *bufio.Reader

	open wire.Open // the peer's
	hold time.Duration
	wire.Encoder
	told    []bgp.Path
	ended   bool          // the End-of-RIB has been told
	torn    bool          // a write has failed: nothing that follows could be understood
	wrote   time.Time     // the last message
	refresh chan struct{} // the peer wants to hear everything again
	counts  counts
}

func newTalk(p *peer, w want, conn *net.TCPConn) *talk {
	return &talk{p: p, w: w, conn: conn, in: bufio.NewReaderSize(conn, 4*wire.MaxMessage), refresh: make(chan struct{}, 1),
		counts: counts{limit: int(w.MaxPrefixes), of: map[netip.Prefix]struct{}{}}}
}

// run shakes hands and holds the session. It returns why it ended, never nil. The connection is the caller's to close.
func (t *talk) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		_ = t.conn.SetReadDeadline(time.Now())
		_ = t.conn.SetWriteDeadline(time.Now().Add(farewellTime)) // half a message would make the farewell unreadable
	})()
	err := t.shake(ctx)
	if err == nil {
		err = t.stay(ctx)
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	t.farewell(err)
	return err
}

// farewell tells the peer why we close, if it is we who do.
func (t *talk) farewell(err error) {
	var n wire.Notification
	var c closing
	switch {
	case t.torn, errors.As(err, &c) && c.silent && t.open.Graceful != nil && t.w.GracefulRestart:
		return
	case errors.As(err, &c):
		n = c.notification
	case !errors.As(err, &n):
		return
	}
	_ = t.conn.SetDeadline(time.Now().Add(farewellTime))
	if _, err := t.conn.Write(n.Bytes()); err != nil || t.conn.CloseWrite() != nil {
		return
	}
	t.p.update(func(s *bgp.Session) { s.MessagesOut++ })
	for buf := make([]byte, wire.MaxMessage); ; { // what we had not read would make the kernel reset the connection, and the peer lose this
		if _, err := t.conn.Read(buf); err != nil {
			return
		}
	}
}

// shake exchanges OPEN and KEEPALIVE (RFC 4271 section 8.2.2).
func (t *talk) shake(ctx context.Context) error {
	t.p.enter(bgp.OpenSent)
	if err := t.write(ctx, t.ourOpen().Bytes()); err != nil {
		return unopened(t.w.Peer, t.conn.LocalAddr(), err)
	}
	body, err := t.expect(ctx, wire.TypeOpen)
	if err != nil {
		return unopened(t.w.Peer, t.conn.LocalAddr(), err)
	}
	if t.open, err = wire.ParseOpen(body); err != nil {
		return err
	}
	if err := t.agree(); err != nil {
		return err
	}
	t.p.enter(bgp.OpenConfirm)
	if err := t.write(ctx, wire.Keepalive()); err != nil {
		return err
	}
	_, err = t.expect(ctx, wire.TypeKeepalive)
	return err
}

// expect reads one message, which must be of a kind.
func (t *talk) expect(ctx context.Context, kind wire.Type) ([]byte, error) {
	_ = t.conn.SetReadDeadline(time.Now().Add(handshakeTime))
	if ctx.Err() != nil { // it may have ended before the deadline was set anew
		return nil, ctx.Err()
	}
	got, body, err := wire.Read(t.in, make([]byte, wire.MaxMessage))
	if err != nil {
		return nil, err
	}
	t.p.update(func(s *bgp.Session) { s.MessagesIn++ })
	switch got {
	case kind:
		return body, nil
	case wire.TypeNotification:
		return nil, received(t.w.Peer, wire.ParseNotification(body))
	}
	return nil, wire.Notification{Code: wire.StateError}
}

// ourOpen returns what we say of ourselves.
func (t *talk) ourOpen() wire.Open {
	o := wire.Open{ASN: t.w.MyASN, ID: t.w.RouterID, HoldTime: uint16(t.w.HoldTime / time.Second), Families: t.w.Families}
	if t.w.GracefulRestart {
		o.Graceful = &wire.Graceful{Restarting: t.p.fresh && t.w.preserved, Preserved: t.w.preserved, Time: uint16(t.w.RestartTime / time.Second)}
	}
	return o
}

// agree checks the peer's OPEN and settles what the session is like.
func (t *talk) agree() error {
	o, p := t.open, t.w.Peer
	t.p.update(func(s *bgp.Session) { s.PeerASN, s.PeerID = o.ASN, o.ID.String() })
	internal := o.ASN == p.MyASN
	wrong := p.PeerASN != o.ASN
	if p.Dynamic != "" {
		wrong = internal != (p.Dynamic == bgp.Internal)
	}
	switch {
	case wrong:
		return t.refuse(wire.BadPeerAS, lb.BGPWrongASN, "the router has AS number %d, which is not what peerASN or dynamicASN says: correct one of them", o.ASN)
	case internal && o.ID == p.RouterID:
		return t.refuse(wire.BadIdentifier, lb.BGPRejected, "the router has our router ID %s: give this node another routerID", o.ID)
	case o.HoldTime == 1 || o.HoldTime == 2:
		return t.refuse(wire.BadHoldTime, lb.BGPRejected, "the router wants a hold time of %d s: set 3 s or more, or 0", o.HoldTime)
	}
	t.hold = min(t.w.HoldTime, time.Duration(o.HoldTime)*time.Second)
	common := slices.DeleteFunc(slices.Clone(p.Families), func(f lb.Family) bool { return !slices.Contains(o.Families, f) })
	if len(common) == 0 {
		n := wire.Notification{Code: wire.Cease, Subcode: wire.OtherConfig}
		return errors.Join(fail(lb.BGPNoFamily, "", "the router carries %v and we want %v: activate this neighbour there for one of them", o.Families, p.Families), n)
	}
	local, err := netip.ParseAddrPort(t.conn.LocalAddr().String())
	if err != nil {
		return err
	}
	t.Encoder = wire.Encoder{MyASN: p.MyASN, Internal: internal, FourOctet: o.FourOctet, NextHop: nextHops(local.Addr(), common, o.ExtendedNextHop)}
	return nil
}

// refuse returns an error by which the session is closed during the handshake.
func (t *talk) refuse(subcode uint8, reason lb.Reason, format string, args ...any) error {
	n := wire.Notification{Code: wire.OpenError, Subcode: subcode}
	return errors.Join(fail(reason, "we closed: "+n.Error(), format, args...), n)
}

// write sends messages, in time for the peer not to think that we are gone.
func (t *talk) write(ctx context.Context, stream []byte) error {
	limit := writeTime
	if t.hold > 0 {
		limit = min(limit, t.hold)
	}
	for len(stream) > 0 {
		part, n := wire.Cut(stream, writeSize)
		_ = t.conn.SetWriteDeadline(time.Now().Add(limit))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := t.conn.Write(part); err != nil {
			t.torn = true
			return err
		}
		stream, t.wrote = stream[len(part):], time.Now()
		t.p.mu.Lock()
		t.p.session.MessagesOut += uint64(n)
		t.p.mu.Unlock()
	}
	return nil
}

// timedOut reports whether err is a deadline's.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
