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

// L2 answers ARP for IPv4 and neighbour solicitations for IPv6; BGP tells routers.
const (
	L2  Via = "L2"
	BGP Via = "BGP"
)

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

	// Tell is, with BGP, what each peer is to hear, sorted by peer; empty unless Announce. Decisions share it.
	Tell []Telling
	// Weight is, with BGP, how many endpoints of this node stand behind the address; 1 where every node reaches all of them.
	Weight int

	// HandTo is a better node that this one should hand the address over to, while it announces it; "" = none. How many are
	// handed over at a time is the speaker's business.
	HandTo lb.NodeName
}

// Telling is what one BGP peer is to hear of an address.
type Telling struct {
	Peer  string   // name of the BGPPeer
	Ads   []string // names of the BGPAdvertisements that count, sorted
	Drain bool     // the peer is asked to prefer other paths
}

// Equal reports whether both say the same.
func (t Telling) Equal(o Telling) bool {
	return t.Peer == o.Peer && t.Drain == o.Drain && slices.Equal(t.Ads, o.Ads)
}

// Equal reports whether both say the same.
func (d Decision) Equal(o Decision) bool {
	return d.VIP == o.VIP && d.Via == o.Via && slices.Equal(d.Services, o.Services) && d.Announce == o.Announce &&
		d.Owner == o.Owner && slices.Equal(d.Interfaces, o.Interfaces) && d.Reason == o.Reason && d.Message == o.Message && d.HandTo == o.HandTo &&
		d.Weight == o.Weight && slices.EqualFunc(d.Tell, o.Tell, Telling.Equal)
}

// String returns the decision on one line.
func (d Decision) String() string {
	if d.Announce && d.Via == BGP {
		return strings.TrimSpace(fmt.Sprintf("%s %s to %s %s", d.VIP, d.Via, strings.Join(d.Peers(), ","), d.Message))
	}
	if d.Announce {
		return strings.TrimSpace(fmt.Sprintf("%s %s on %s %s", d.VIP, d.Via, strings.Join(d.Interfaces, ","), d.Message))
	}
	return fmt.Sprintf("%s %s no: %s", d.VIP, d.Via, lb.Refusal{Reason: d.Reason, Message: d.Message})
}

// Peers returns the names of the peers that are to hear of the address.
func (d Decision) Peers() []string {
	out := make([]string, len(d.Tell))
	for i, t := range d.Tell {
		out[i] = t.Peer
	}
	return out
}

// Drains reports whether peers are asked to prefer other paths.
func (d Decision) Drains() bool {
	return slices.ContainsFunc(d.Tell, func(t Telling) bool { return t.Drain })
}

func (d Decision) refuse(r lb.Refusal) Decision {
	d.Announce, d.Interfaces, d.Tell, d.Reason, d.Message = false, nil, nil, r.Reason, r.Message
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
