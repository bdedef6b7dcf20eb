package announce

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// LongGone is the Snapshot.Leaving of a node that was about to leave before its speaker started: there is nobody left to be asked
// to prefer other paths.
const LongGone time.Duration = math.MaxInt64

// Leaves reports whether this node is about to leave by somebody's wish; see lb.Snapshot.Leaving. That is not known while it could
// not announce anything anyway.
func Leaves(s lb.Snapshot) (leaves, known bool) {
	i := slices.IndexFunc(s.Members, func(m lb.Member) bool { return m.Node == s.Self })
	if i < 0 {
		return false, false
	}
	standing := stand(s, s.Members[i])
	return standing.soft, standing.soft || standing.refusal.OK()
}

// Restarts reports whether this node's speaker ends while the node itself stays: another one will take its place soon, and the
// datapath goes on meanwhile.
func Restarts(s lb.Snapshot) bool {
	i := slices.IndexFunc(s.Members, func(m lb.Member) bool { return m.Node == s.Self })
	node, known := s.Nodes[s.Self]
	return i >= 0 && s.Members[i].Draining && known && !node.Deleting && !node.Excluded && !node.Cordoned && !node.NetworkUnavailable
}

// PeersOf returns the BGP peers that are for a node with these labels, sorted by name. Of several with the same address in the
// same VRF only the first is usable.
func PeersOf(peers []lb.BGPPeer, labels map[string]string) []lb.BGPPeer {
	type place struct {
		addr       netip.Addr
		iface, vrf string
	}
	taken := map[place]string{}
	var out []lb.BGPPeer
	for _, p := range peers {
		if !lb.MatchesAny(p.NodeSelectors, labels) {
			continue
		}
		at := place{p.Addr, p.Interface, p.VRF}
		switch first, conflict := taken[at]; {
		case !p.Addr.IsValid() && p.Interface == "": // its spec is not valid
		case conflict:
			p.Unusable = lb.Refusal{Reason: lb.PeerConflict,
				Message: fmt.Sprintf("BGPPeer %q has the same address on this node; delete one of the two, or set their nodeSelectors apart", first)}
		default:
			taken[at] = p.Name
		}
		out = append(out, p)
	}
	return out
}

// routes is what the decisions about BGP have in common.
type routes struct {
	*poll
	peers    []lb.BGPPeer                 // of this node
	others   map[lb.NodeName][]lb.BGPPeer // of the others, as far as somebody has asked
	standing standing                     // of this node
	restarts bool
	weighted bool // some advertisement asks for weights

	key   []byte
	known map[string]tellings // by family, whether the address is held on to, and advertisements that count
}

// tellings is what peers are to hear, and what is unusual about it.
type tellings struct {
	list   []Telling
	remark string
}

func (p *poll) newRoutes() *routes {
	r := &routes{poll: p, known: map[string]tellings{}, others: map[lb.NodeName][]lb.BGPPeer{}, restarts: Restarts(p.Snapshot)}
	if len(p.BGP) == 0 {
		return r
	}
	if p.self >= 0 {
		r.standing = p.standings[p.self]
	}
	r.peers = PeersOf(p.BGPPeers, p.Nodes[p.Self].Labels)
	r.weighted = slices.ContainsFunc(p.BGP, func(a lb.BGPAdvertisement) bool { return a.Weighted })
	return r
}

// decide says what this node tells its peers of an address; false if no BGPAdvertisement covers it.
func (r *routes) decide(b ballot) (Decision, bool) {
	if len(r.BGP) == 0 {
		return Decision{}, false
	}
	d := Decision{VIP: b.vip, Via: BGP, Services: make([]lb.ServiceKey, len(b.services))}
	for i, svc := range b.services {
		d.Services[i] = svc.Key
	}
	ads, covered, lacks := r.serves(b, r.Self)
	if !covered {
		return Decision{}, false
	}
	r.weigh(&d, b)
	if refusal := r.refusal(ads, lacks); !refusal.OK() {
		return d.refuse(refusal), true
	}
	family := lb.FamilyOf(b.vip)
	told := r.tell(ads, family, r.standing.refusal.Reason == lb.NodeCordoned && !r.elsewhere(b))
	d.Tell, d.Message = told.list, told.remark
	switch {
	case !r.Programmed[b.vip] && r.Forwards:
		return d.refuse(lb.Refusal{Reason: lb.NotProgrammed, Message: "the datapath has not programmed the address yet"}), true
	case len(d.Tell) == 0 && !r.standing.refusal.OK() && r.hears(ads, family):
		return d.refuse(r.standing.refusal), true
	case len(d.Tell) == 0:
		return d.refuse(lb.Refusal{Reason: lb.NoPeer, Message: r.noPeer(ads, family)}), true
	case d.Drains():
		d.Message = "asking for other paths: " + r.standing.refusal.Message
	}
	d.Announce = true
	return d, true
}

// refusal says what speaks against the node for an address of which these advertisements count here.
func (r *routes) refusal(ads []int, lacks lb.Refusal) lb.Refusal {
	switch {
	case len(ads) == 0 && lacks.Reason == lb.NoEndpoints:
		return lacks
	case r.self < 0:
		return lb.Refusal{Reason: lb.NotAMember, Message: fmt.Sprintf("the speaker on %s has not joined the others yet", r.Self)}
	case !r.standing.refusal.OK() && !r.standing.soft:
		return r.standing.refusal
	case len(ads) == 0:
		return lacks
	}
	return lb.Refusal{}
}

// serves returns the advertisements, by their place in s.BGP, that count for the address on node: those that cover it as an address
// of a Service that the node can serve, and select the node. Covered says whether there is any at all, lacks why none counts.
func (r *routes) serves(b ballot, node lb.NodeName) (ads []int, covered bool, lacks lb.Refusal) {
	why := func(reason lb.Reason, format string, args ...any) {
		if lacks.OK() || lacks.Reason == lb.NoEndpoints {
			lacks = lb.Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}
		}
	}
	for _, svc := range b.services {
		covers := r.coveringBGP(b.vip, svc)
		covered = covered || len(covers) > 0
		if len(covers) == 0 {
			continue
		}
		nodes, ok := r.serving(svc)
		switch {
		case !ok:
			why(lb.NoEndpoints, "no endpoint of %s can take a connection", svc.Key)
		case node == r.Self && !r.ready(svc, nodes).OK():
			refusal := r.ready(svc, nodes)
			why(refusal.Reason, "%s", refusal.Message)
		case nodes != nil && !among(nodes, node):
			why(lb.NoLocalEndpoint, "externalTrafficPolicy of %s is Local and %s has no ready endpoint", svc.Key, node)
		default:
			n := len(ads)
			for _, i := range covers {
				if lb.MatchesAny(r.BGP[i].NodeSelectors, r.Nodes[node].Labels) && !slices.Contains(ads, i) {
					ads = append(ads, i)
				}
			}
			if len(ads) == n && n == 0 {
				why(lb.NodeNotSelected, "the nodeSelectors of no BGPAdvertisement for %s match node %s", svc.Key, node)
			}
		}
	}
	slices.Sort(ads)
	return ads, covered, lacks
}

// ready says why whoever forwards here in our place cannot serve svc, or is not known to.
func (r *routes) ready(svc *lb.Service, nodes []lb.NodeName) lb.Refusal {
	if r.Forwards {
		return lb.Refusal{}
	}
	refusal, unasked := r.forwarder(ballot{voters: []voter{{svc: svc, nodes: nodes}}})
	if refusal.OK() && unasked != 0 {
		return unansweredBy(r.Self, unasked)
	}
	return refusal
}

// coveringBGP returns the advertisements, by their place in s.BGP, for vip as an address of svc. Addresses outside the pools are
// treated as with layer 2, but for those whose pool nobody names: there is no subnet that would guard against nonsense.
func (r *routes) coveringBGP(vip netip.Addr, svc *lb.Service) []int {
	pool, _ := r.poolFor(vip, svc)
	var out []int
	for i, ad := range r.BGP {
		if ad.Covers(pool, *svc) {
			out = append(out, i)
		}
	}
	return out
}

// tell returns what the peers are to hear where these advertisements count. Hold says that nobody else can serve the address.
func (r *routes) tell(ads []int, family lb.Family, hold bool) tellings {
	r.key = append(r.key[:0], byte(family), 0)
	if hold {
		r.key[1] = 1
	}
	for _, i := range ads {
		r.key = binary.AppendUvarint(r.key, uint64(i))
	}
	if had, ok := r.known[string(r.key)]; ok {
		return had
	}
	var out tellings
	for _, peer := range r.peers {
		said, drain := r.stage(peer, hold)
		t := Telling{Peer: peer.Name, Drain: drain}
		first := -1
		for _, i := range ads {
			if !tells(r.BGP[i], peer, family) {
				continue
			}
			t.Ads = append(t.Ads, r.BGP[i].Name)
			if first < 0 {
				first = i
			} else if field := disagree(r.BGP[first], r.BGP[i], family); field != "" && out.remark == "" {
				out.remark = fmt.Sprintf("BGPAdvertisements %s and %s disagree about %s; the first one's counts", r.BGP[first].Name, r.BGP[i].Name, field)
			}
		}
		if said && len(t.Ads) > 0 {
			out.list = append(out.list, t)
		}
	}
	r.known[string(r.key)] = out
	return out
}

// tells reports whether the peer hears of addresses of the family by the advertisement. Of an unusable one whose spec is not valid
// it is not known what its session carries.
func tells(ad lb.BGPAdvertisement, peer lb.BGPPeer, family lb.Family) bool {
	return ad.Tells(peer.Name) && (peer.DualStack || !peer.Addr.IsValid() || lb.FamilyOf(peer.Addr) == family)
}

// disagree names the field for which two advertisements of the same prefixes of a family want different values; "" = none.
func disagree(a, b lb.BGPAdvertisement, family lb.Family) string {
	med := func(m *uint32) (uint32, bool) {
		if m == nil {
			return 0, false
		}
		return *m, true
	}
	aMED, aSent := med(a.MED)
	bMED, bSent := med(b.MED)
	switch {
	case family == lb.IPv4 && a.Length != b.Length, family == lb.IPv6 && a.LengthV6 != b.LengthV6:
		return ""
	case a.LocalPref != b.LocalPref:
		return "localPref"
	case aMED != bMED || aSent != bSent:
		return "med"
	case a.Prepend != b.Prepend:
		return "asPathPrepend"
	case a.Weighted != b.Weighted:
		return "weightByEndpoints"
	}
	return ""
}

// stage says whether a peer is told anything, and whether it is asked to prefer other paths.
func (r *routes) stage(peer lb.BGPPeer, hold bool) (said, drain bool) {
	switch {
	case r.standing.refusal.OK():
		return true, false
	case r.restarts && peer.GracefulRestart: // it keeps our paths until the next speaker is there
		return true, false
	case hold, r.Leaving < peer.DrainWait:
		return true, true
	}
	return false, false
}

// hears reports whether a peer of this node would hear of an address of the family, were the node not about to leave.
func (r *routes) hears(ads []int, family lb.Family) bool {
	return anyHears(r.BGP, ads, r.peers, family)
}

func anyHears(all []lb.BGPAdvertisement, ads []int, peers []lb.BGPPeer, family lb.Family) bool {
	return slices.ContainsFunc(peers, func(p lb.BGPPeer) bool {
		return p.Unusable.OK() && slices.ContainsFunc(ads, func(i int) bool { return tells(all[i], p, family) })
	})
}

func (r *routes) noPeer(ads []int, family lb.Family) string {
	names := make([]string, len(ads))
	named := false
	for i, ad := range ads {
		names[i] = r.BGP[ad].Name
		named = named || slices.ContainsFunc(r.peers, func(p lb.BGPPeer) bool { return r.BGP[ad].Tells(p.Name) })
	}
	switch {
	case len(r.peers) == 0:
		return fmt.Sprintf("there is no BGPPeer whose nodeSelectors match node %s", r.Self)
	case named:
		return fmt.Sprintf("no session carries %s; set dualStackAddressFamily of a BGPPeer, or add one with an address of the family", family)
	}
	return fmt.Sprintf("spec.peers of BGPAdvertisement %s names no BGPPeer that is for node %s", strings.Join(names, ", "), r.Self)
}

// elsewhere reports whether another living node announces the address by BGP, as far as this one can tell.
func (r *routes) elsewhere(b ballot) bool {
	for i, m := range r.members {
		if i == r.self || !r.standings[i].refusal.OK() {
			continue
		}
		if _, failed := slices.BinarySearchFunc(m.Failing, b.vip, netip.Addr.Compare); failed {
			continue
		}
		peers, known := r.others[m.Node]
		if !known {
			peers = PeersOf(r.BGPPeers, r.Nodes[m.Node].Labels)
			r.others[m.Node] = peers
		}
		if ads, _, _ := r.serves(b, m.Node); anyHears(r.BGP, ads, peers, lb.FamilyOf(b.vip)) {
			return true
		}
	}
	return false
}

// weigh counts the endpoints of this node behind the address, where somebody asks.
func (r *routes) weigh(d *Decision, b ballot) {
	if !r.weighted {
		return
	}
	for _, svc := range b.services {
		if svc.ExternalTrafficPolicy != lb.Local {
			d.Weight = max(d.Weight, 1)
			continue
		}
		var here []lb.Endpoint
		for e := range behind(svc, r.Endpoints.Of(svc.Key)) {
			if e.Node == r.Self {
				here = append(here, *e)
			}
		}
		addrs := map[netip.Addr]bool{}
		for _, e := range lb.Usable(here, lb.Local, r.Self) {
			addrs[e.Addr.Addr()] = true
		}
		d.Weight += len(addrs)
	}
}
