package announce

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/lb"
)

// Via is how an address is announced.
type Via string

// L2 answers ARP for IPv4 and neighbour solicitations for IPv6.
const L2 Via = "L2"

// Decision says whether this node announces an address, and if not, why.
type Decision struct {
	VIP        netip.Addr
	Via        Via
	Services   []lb.ServiceKey // that hold the address, sorted
	Announce   bool
	Owner      lb.NodeName // the elected node; "" if there is no candidate
	Interfaces []string    // where to announce, sorted; empty unless Announce
	Reason     lb.Reason   // why not; "" if Announce
	Message    string      // the reason as a sentence; with Announce, what is unusual about it, if anything

	// HandTo is a better node that this one should hand the address over to, while it announces it; "" = none. How many are
	// handed over at a time is the speaker's business.
	HandTo lb.NodeName
}

// Equal reports whether both say the same.
func (d Decision) Equal(o Decision) bool {
	return d.VIP == o.VIP && d.Via == o.Via && slices.Equal(d.Services, o.Services) && d.Announce == o.Announce &&
		d.Owner == o.Owner && slices.Equal(d.Interfaces, o.Interfaces) && d.Reason == o.Reason && d.Message == o.Message && d.HandTo == o.HandTo
}

// String returns the decision on one line.
func (d Decision) String() string {
	if d.Announce {
		return strings.TrimSpace(fmt.Sprintf("%s %s on %s %s", d.VIP, d.Via, strings.Join(d.Interfaces, ","), d.Message))
	}
	return fmt.Sprintf("%s %s no: %s", d.VIP, d.Via, lb.Refusal{Reason: d.Reason, Message: d.Message})
}

func (d Decision) refuse(r lb.Refusal) Decision {
	d.Announce, d.Interfaces, d.Reason, d.Message = false, nil, r.Reason, r.Message
	return d
}

func (d Decision) announceOn(interfaces []string, message string) Decision {
	d.Announce, d.Interfaces, d.Reason, d.Message = true, interfaces, "", message
	return d
}

// Target is what an executor is told about one address.
type Target struct {
	Interfaces []string // sorted
	Epoch      uint64   // of this node's claim; when it grows, the neighbours are told anew
	Again      uint64   // the same without a new claim: another node may have pulled the traffic to itself for a moment

	// Probe has the executor ask each segment first whether a stranger has the address (RFC 5227 section 2.1.1, RFC 4862
	// section 5.4), and answer and announce only after that. It counts when the address is new in an interface.
	Probe bool
}

// Equal reports whether both say the same.
func (t Target) Equal(o Target) bool {
	return t.Epoch == o.Epoch && t.Again == o.Again && t.Probe == o.Probe && slices.Equal(t.Interfaces, o.Interfaces)
}
