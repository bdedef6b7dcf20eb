package session

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/announce/bgp/wire"
	"github.com/fairlead-lb/fairlead/lb"
)

// failure is an error of which is known what it means.
type failure struct {
	lb.Refusal
	detail string // what exactly happened; "" = as the message says
}

// Error implements error.
func (f failure) Error() string { return f.said() }

// said returns what happened, without advice.
func (f failure) said() string {
	if f.detail != "" {
		return f.detail
	}
	return f.Message
}

func fail(reason lb.Reason, detail, format string, args ...any) failure {
	return failure{lb.Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}, detail}
}

// unreached says why no TCP connection could be made.
func unreached(p bgp.Peer, err error) error {
	where := fmt.Sprintf("%s port %d", p.Addr, p.Port)
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fail(lb.BGPRefused, err.Error(), "peerAddress %s refuses connections: start BGP there, or correct peerAddress or peerPort", where)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fail(lb.BGPNoSource, err.Error(), "sourceAddress %s is not an address of this node: correct it, or narrow nodeSelectors to nodes that have it", p.Source)
	case errors.Is(err, syscall.ENODEV):
		return fail(lb.BGPNoSource, err.Error(), "vrf %s is no device of this node: create it, or correct vrf", p.VRF)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fail(lb.BGPUnreachable, err.Error(), "peerAddress %s cannot be reached: correct it, or see to the link and the routes of this node%s", where, hopsHint(p))
	case errors.As(err, &timeout) && timeout.Timeout() && p.Password != "":
		return fail(lb.BGPWrongPassword, err.Error(), "peerAddress %s does not answer: most likely the password differs from the router's, or it has none for this node's address; else a firewall", where)
	case errors.As(err, &timeout) && timeout.Timeout() && p.TTLSecurity > 0:
		return fail(lb.BGPTooFar, err.Error(), "peerAddress %s does not answer from at most %d hops away: give the router ttl security too, or raise ttlSecurity; else a firewall", where, p.TTLSecurity)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fail(lb.BGPNoAnswer, err.Error(), "peerAddress %s does not answer: see whether the router wants a password from this node, or a firewall drops TCP%s", where, hopsHint(p))
	}
	return fmt.Errorf("connecting to %s: %w", where, err)
}

func hopsHint(p bgp.Peer) string {
	if external(p) && !p.MultiHop && p.TTLSecurity == 0 {
		return "; a peer behind a router needs ebgpMultiHop"
	}
	return ""
}

// explain returns the Reason of whatever ended an attempt.
func explain(p bgp.Peer, err error) failure {
	var f failure
	var c closing
	var n wire.Notification
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &c) && c.notification.Has(wire.Cease, wire.BFDDown):
		return fail(lb.BGPBFDDown, "we closed: "+c.notification.Error(), "BFD does not hear %s; the session opens when it does", p.Addr)
	case errors.As(err, &c):
		return fail(lb.BGPChanged, "we closed: "+c.notification.Error(), "the session is being opened again with other settings")
	case errors.As(err, &n):
		return fail(lb.BGPProtocolError, "we closed: "+n.Error(), "the peer sent what BGP does not allow (%s): see whether %s speaks BGP, and its log", n.Error(), p.Addr)
	}
	return fail(lb.BGPLost, err.Error(), "the connection with %s broke (%v): see whether the router has restarted", p.Addr, err)
}

// received says what a NOTIFICATION of the peer means.
func received(p bgp.Peer, n wire.Notification) failure {
	said := "the peer closed: " + n.Error()
	switch {
	case n.Has(wire.OpenError, wire.BadPeerAS):
		return fail(lb.BGPWrongASN, said, "the router expects another AS number than myASN %d of this node: correct one of them", p.MyASN)
	case n.Has(wire.OpenError, wire.BadIdentifier):
		return fail(lb.BGPRejected, said, "the router does not accept router ID %s: give each node its own routerID", p.RouterID)
	case n.Has(wire.OpenError, wire.BadHoldTime):
		return fail(lb.BGPRejected, said, "the router does not accept holdTime %s: raise it", p.HoldTime)
	case n.Code == wire.OpenError:
		return fail(lb.BGPRejected, said, "the router does not accept our OPEN (%s): see its log", n.Error())
	case n.Code == wire.HoldExpired:
		return fail(lb.BGPHoldExpired, said, "the router has not heard this node for holdTime: see to the link, and to the load of this node")
	case n.Has(wire.Cease, wire.MaxPrefixes):
		return fail(lb.BGPPeerClosed, said, "the router takes fewer prefixes than this node announces: raise its limit, or aggregate by aggregationLength")
	case n.Has(wire.Cease, wire.Deconfigured):
		return fail(lb.BGPPeerClosed, said, "the router no longer has this node as neighbour")
	}
	return fail(lb.BGPPeerClosed, said, "the router closed the session: %s", n.Error())
}

// unopened says what it means that the connection ended before the peer's OPEN.
func unopened(p bgp.Peer, local net.Addr, err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fail(lb.BGPRejected, "no OPEN came", "peerAddress %s port %d takes the connection but sends no OPEN: is that BGP?", p.Addr, p.Port)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrUnexpectedEOF) {
		host, _, _ := net.SplitHostPort(local.String())
		return fail(lb.BGPNotConfigured, "the peer closed the connection without an OPEN",
			"the router closes our connections: configure %s there as a neighbour, or set sourceAddress to the one that it knows", host)
	}
	return err
}
