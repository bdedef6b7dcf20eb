package wire

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead-lb/fairlead/lb"
)

// Open is what one end says of itself at the beginning of a session.
type Open struct {
	ASN      uint32
	ID       netip.Addr // the router ID
	HoldTime uint16     // seconds; 0 = never
	Families []lb.Family

	FourOctet       bool // AS numbers of four bytes (RFC 6793); we always say so
	ExtendedNextHop bool // IPv4 prefixes with an IPv6 next hop (RFC 8950); we always say so
	Graceful        *Graceful
}

// Graceful is the graceful restart capability (RFC 4724).
type Graceful struct {
	Restarting bool   // the R bit: this is the first session after a restart
	Preserved  bool   // the F bit of all families: what was announced before is still forwarded
	Time       uint16 // seconds for which the peer shall keep our paths after a session is lost, at most 4095
}

// rf returns GoBGP's number of the unicast family.
func rf(f lb.Family) gobgp.RouteFamily {
	if f == lb.IPv6 {
		return gobgp.RF_IPv6_UC
	}
	return gobgp.RF_IPv4_UC
}

// Bytes returns the message. The router ID must be an IPv4 address. The N bit of RFC 8538 is never set: a NOTIFICATION from us
// must make the peer drop our paths at once.
func (o Open) Bytes() []byte {
	caps := []gobgp.ParameterCapabilityInterface{gobgp.NewCapRouteRefresh(), gobgp.NewCapFourOctetASNumber(o.ASN)}
	var forward []*gobgp.CapGracefulRestartTuple
	for _, f := range o.Families {
		caps = append(caps, gobgp.NewCapMultiProtocol(rf(f)))
		if f == lb.IPv4 {
			tuple := gobgp.NewCapExtendedNexthopTuple(gobgp.RF_IPv4_UC, gobgp.AFI_IP6)
			caps = append(caps, gobgp.NewCapExtendedNexthop([]*gobgp.CapExtendedNexthopTuple{tuple}))
		}
		if o.Graceful != nil {
			forward = append(forward, gobgp.NewCapGracefulRestartTuple(rf(f), o.Graceful.Preserved))
		}
	}
	if g := o.Graceful; g != nil {
		caps = append(caps, gobgp.NewCapGracefulRestart(g.Restarting, false, g.Time, forward))
	}
	return serialize(gobgp.NewBGPOpenMessage(short(o.ASN), o.HoldTime, o.ID.String(), []gobgp.OptionParameterInterface{gobgp.NewOptionParameterCapability(caps)}))
}

// short returns the AS number in two bytes, which is AS_TRANS where it does not fit.
func short(asn uint32) uint16 {
	if asn > 0xffff {
		return gobgp.AS_TRANS
	}
	return uint16(asn)
}

// serialize returns the bytes of a message that was made of valid parts.
func serialize(m *gobgp.BGPMessage) []byte {
	out, err := m.Serialize()
	if err != nil {
		panic("wire: a message of ours cannot be written: " + err.Error())
	}
	return out
}

// ParseOpen takes the body of the peer's OPEN. A body that cannot be read, even one at which GoBGP panics, is a [Notification].
func ParseOpen(body []byte) (o Open, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			o, err = Open{}, Notification{Code: OpenError, Data: nil}
		}
	}()
	var raw gobgp.BGPOpen
	if err := raw.DecodeFromBytes(slices.Clone(body)); err != nil {
		var said *gobgp.MessageError
		if errors.As(err, &said) {
			return Open{}, Notification{Code: Code(said.TypeCode), Subcode: said.SubTypeCode}
		}
		return Open{}, Notification{Code: OpenError}
	}
	if raw.Version != 4 {
		return Open{}, Notification{Code: OpenError, Subcode: 1, Data: []byte{0, 4}}
	}
	id, ok := netip.AddrFromSlice(raw.ID.To4())
	if !ok || id.IsUnspecified() {
		return Open{}, Notification{Code: OpenError, Subcode: BadIdentifier}
	}
	o = Open{ASN: uint32(raw.MyAS), ID: id, HoldTime: raw.HoldTime}
	for _, p := range raw.OptParams {
		list, ok := p.(*gobgp.OptionParameterCapability)
		if !ok {
			return Open{}, Notification{Code: OpenError, Subcode: 4}
		}
		for _, c := range list.Capability {
			o.learn(c)
		}
	}
	if len(o.Families) == 0 {
		o.Families = []lb.Family{lb.IPv4} // a peer without the multiprotocol capability
	}
	slices.Sort(o.Families)
	o.Families = slices.Compact(o.Families)
	return o, nil
}

// learn takes note of a capability; those that we do not know are the peer's own business.
func (o *Open) learn(c gobgp.ParameterCapabilityInterface) {
	switch c := c.(type) {
	case *gobgp.CapMultiProtocol:
		for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
			if c.CapValue == rf(f) {
				o.Families = append(o.Families, f)
			}
		}
	case *gobgp.CapFourOctetASNumber:
		o.ASN, o.FourOctet = c.CapValue, true
	case *gobgp.CapExtendedNexthop:
		for _, t := range c.Tuples {
			o.ExtendedNextHop = o.ExtendedNextHop || t.NLRIAFI == gobgp.AFI_IP && t.NLRISAFI == gobgp.SAFI_UNICAST && t.NexthopAFI == gobgp.AFI_IP6
		}
	case *gobgp.CapGracefulRestart:
		o.Graceful = &Graceful{Restarting: c.Flags&8 != 0, Time: c.Time}
	}
}

// String returns the open on one line, for logs.
func (o Open) String() string {
	return fmt.Sprintf("AS %d, router ID %s, hold time %d s, %v", o.ASN, o.ID, o.HoldTime, o.Families)
}
