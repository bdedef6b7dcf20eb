package announce

import (
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/election"
	"github.com/fairlead-lb/fairlead/lb"
)

// poll is a snapshot prepared for the election of all its addresses: what depends on less than the address is worked out
// once.
type poll struct {
	lb.Snapshot
	members   []lb.Member // with this node's links as they are now
	standings []standing  // of the members
	self      int         // this node's place among the members; -1 = it is none
	claims    map[netip.Addr][]election.Claim
	failing   map[netip.Addr]bool // some member's datapath has failed on it
	subnets   []netip.Prefix      // of all members' links
	fields    map[string]*field
	key       []byte  // of a field; its memory is used again and again
	offers    []offer // of the members, for one address; its memory too
}

// field is what all members can do for the addresses that share advertisements and subnets.
type field struct {
	places     []place // of the members
	failback   *time.Duration
	candidates []election.Candidate // where nothing depends on the single address; nil = not asked yet
}

// ballot is one address with all that its election depends on.
type ballot struct {
	vip      netip.Addr
	services []*lb.Service // that hold it, sorted by key
	voters   []voter       // those of them that count
	refusal  lb.Refusal    // why none does
}

// voter is a Service that is advertised and could take a connection somewhere.
type voter struct {
	svc   *lb.Service
	nodes []lb.NodeName // with externalTrafficPolicy Local the nodes that can serve it, sorted; nil = all
	field *field
}

func (v voter) servedOn(node lb.NodeName) bool {
	return v.nodes == nil || among(v.nodes, node)
}

func newPoll(s lb.Snapshot) *poll {
	p := &poll{Snapshot: s, members: slices.Clone(s.Members), self: -1, fields: map[string]*field{}, failing: map[netip.Addr]bool{}}
	n := 0
	for _, m := range p.members {
		n += len(m.Claims)
	}
	p.claims = make(map[netip.Addr][]election.Claim, n)
	memory := make([]election.Claim, 0, n) // of the first claim to each address: there is seldom a second
	for i := range p.members {
		m := &p.members[i]
		if m.Node == s.Self {
			p.self, m.Links = i, s.Links // fresher than what we last told the others
		}
		p.standings = append(p.standings, stand(s, *m))
		for _, c := range m.Claims {
			one := election.Claim{Node: m.Node, Epoch: c.Epoch, To: c.To}
			if had, ok := p.claims[c.Addr]; ok {
				p.claims[c.Addr] = append(had, one)
				continue
			}
			memory = append(memory, one)
			p.claims[c.Addr] = memory[len(memory)-1 : len(memory) : len(memory)]
		}
		for _, addr := range m.Failing {
			p.failing[addr] = true
		}
		for _, l := range m.Links {
			for _, prefix := range l.Prefixes {
				if !slices.Contains(p.subnets, prefix) {
					p.subnets = append(p.subnets, prefix)
				}
			}
		}
	}
	return p
}

// ballots returns one ballot for each address in a Service's status, sorted by address.
func (p *poll) ballots() []ballot {
	type holding struct {
		addr netip.Addr
		svc  *lb.Service
	}
	var all []holding
	for i := range p.Services {
		for _, in := range p.Services[i].Ingress {
			all = append(all, holding{in.Addr, &p.Services[i]})
		}
	}
	slices.SortStableFunc(all, func(a, b holding) int { return a.addr.Compare(b.addr) })
	services := make([]*lb.Service, len(all))
	for i, h := range all {
		services[i] = h.svc
	}
	out := make([]ballot, 0, len(all))
	for from := 0; from < len(all); {
		to := from + 1
		for to < len(all) && all[to].addr == all[from].addr {
			to++
		}
		out = append(out, p.ballot(all[from].addr, services[from:to]))
		from = to
	}
	return out
}

func (p *poll) ballot(vip netip.Addr, services []*lb.Service) ballot {
	b := ballot{vip: vip, services: services, voters: make([]voter, 0, len(services))}
	for _, svc := range services {
		f := p.fieldOf(vip, svc)
		if f == nil {
			continue
		}
		nodes, ok := p.serving(svc)
		if !ok {
			b.refusal = lb.Refusal{Reason: lb.NoEndpoints, Message: fmt.Sprintf("no endpoint of %s can take a connection", svc.Key)}
			continue
		}
		b.voters = append(b.voters, voter{svc, nodes, f})
	}
	if len(b.voters) == 0 && b.refusal.OK() {
		b.refusal = lb.Refusal{Reason: lb.NotAdvertised, Message: fmt.Sprintf("neither an L2Advertisement nor a BGPAdvertisement covers %s", vip)}
	}
	return b
}

// failback is the shortest that one of the advertisements names; nil if none does.
func (b ballot) failback() *time.Duration {
	var out *time.Duration
	for _, v := range b.voters {
		out = shorter(out, v.field.failback)
	}
	return out
}

func shorter(a, b *time.Duration) *time.Duration {
	if a == nil || b != nil && *b < *a {
		return b
	}
	return a
}

// candidates are the nodes that nothing speaks against and that can serve the most Services. Where there is none, the cordoned
// ones that can will do.
func (p *poll) candidates(b ballot) []election.Candidate {
	shared := len(b.voters) == 1 && b.voters[0].nodes == nil && !p.failing[b.vip]
	if shared && b.voters[0].field.candidates != nil {
		return b.voters[0].field.candidates
	}
	if len(b.voters) == 0 {
		return nil
	}
	p.offers = p.offers[:0]
	for i := range p.members {
		p.offers = append(p.offers, p.offer(i, b))
	}
	out := p.willing("")
	if len(out) == 0 {
		out = p.willing(lb.NodeCordoned)
	}
	if shared {
		b.voters[0].field.candidates = out
	}
	return out
}

// willing returns the members that are refused for no other reason than this one and serve the most Services.
func (p *poll) willing(reason lb.Reason) []election.Candidate {
	most := 1
	for _, o := range p.offers {
		if o.refusal.Reason == reason {
			most = max(most, o.serves)
		}
	}
	out := []election.Candidate{}
	for _, o := range p.offers {
		if o.refusal.Reason == reason && o.serves >= most {
			out = append(out, election.Candidate{Node: o.node, Score: o.score})
		}
	}
	return out
}

// fieldOf returns what the members can do for vip as an address of svc; nil if no advertisement covers it.
func (p *poll) fieldOf(vip netip.Addr, svc *lb.Service) *field {
	ads := p.covering(vip, svc)
	if len(ads) == 0 {
		return nil
	}
	p.key = p.key[:0]
	for _, i := range ads {
		p.key = binary.AppendUvarint(p.key, uint64(i)+1)
	}
	p.key = append(p.key, 0)
	for i, prefix := range p.subnets {
		if prefix.Contains(vip) {
			p.key = binary.AppendUvarint(p.key, uint64(i)+1)
		}
	}
	if f := p.fields[string(p.key)]; f != nil {
		return f
	}
	f := &field{places: make([]place, 0, len(p.members))}
	for _, i := range ads {
		f.failback = shorter(f.failback, p.L2[i].Failback)
	}
	for _, m := range p.members {
		f.places = append(f.places, p.place(vip, ads, m))
	}
	p.fields[string(p.key)] = f
	return f
}

// covering returns the advertisements, by their place in s.L2, for vip as an address of svc. The package comment explains what
// happens to addresses outside the pools.
func (p *poll) covering(vip netip.Addr, svc *lb.Service) []int {
	pool, inPool := p.poolFor(vip, svc)
	var covers, selects []int
	for i, ad := range p.L2 {
		if ad.Covers(pool, *svc) {
			covers = append(covers, i)
		}
		if !inPool && lb.MatchesAny(ad.ServiceSelectors, svc.Labels) {
			selects = append(selects, i)
		}
	}
	if len(covers) == 0 {
		return selects
	}
	return covers
}

// poolFor returns the pool that holds vip, or else, and false, the one that svc was served from.
func (p *poll) poolFor(vip netip.Addr, svc *lb.Service) (lb.Pool, bool) {
	if pool, ok := p.PoolOf(vip); ok {
		return pool, true
	}
	if i := slices.IndexFunc(p.Pools, func(p lb.Pool) bool { return p.Name == svc.Pool }); i >= 0 {
		return p.Pools[i], false
	}
	return lb.Pool{Name: svc.Pool}, false
}

// Heeds reports whether a decision about an address of svc may be another one because its endpoints are: with externalTrafficPolicy Local
// it matters where they are, otherwise only whether any can take a connection.
func Heeds(svc *lb.Service, before, now []lb.Endpoint) bool {
	if svc.ExternalTrafficPolicy == lb.Local {
		return true
	}
	_, could := taking(svc, before)
	_, can := taking(svc, now)
	return could != can
}

// taking reports whether an endpoint of svc is ready, and whether one can take a connection: while none is ready anywhere, those that
// still serve while they terminate will do, as they do for the datapath. The endpoints of all ports count together.
func taking(svc *lb.Service, endpoints []lb.Endpoint) (ready, some bool) {
	for e := range behind(svc, endpoints) {
		if e.Ready {
			return true, true
		}
		some = some || e.Serving && e.Terminating
	}
	return false, some
}

// serving returns the nodes that can serve svc, sorted, nil meaning all of them, and false if no endpoint can take a connection.
func (p *poll) serving(svc *lb.Service) (nodes []lb.NodeName, ok bool) {
	endpoints := p.Endpoints.Of(svc.Key)
	ready, ok := taking(svc, endpoints)
	if svc.ExternalTrafficPolicy != lb.Local || !ok {
		return nil, ok
	}
	for e := range behind(svc, endpoints) {
		if e.Ready || !ready && e.Serving && e.Terminating {
			nodes = append(nodes, e.Node)
		}
	}
	slices.Sort(nodes)
	return slices.Compact(nodes), true
}

// behind goes through the endpoints that are behind the ports of svc. Nobody writes to them.
func behind(svc *lb.Service, endpoints []lb.Endpoint) iter.Seq[*lb.Endpoint] {
	return func(yield func(*lb.Endpoint) bool) {
		for _, port := range svc.Ports {
			list := lb.OfPort(endpoints, port)
			for i := range list {
				if !yield(&list[i]) {
					return
				}
			}
		}
	}
}

// among reports whether node is one of the nodes, which are sorted.
func among(nodes []lb.NodeName, node lb.NodeName) bool {
	_, ok := slices.BinarySearch(nodes, node)
	return ok
}

// terminating reports whether endpoints of svc on this node still serve while they terminate. The datapath forwards to them
// for as long as they do.
func (p *poll) terminating(svc *lb.Service) bool {
	for e := range behind(svc, p.Endpoints.Of(svc.Key)) {
		if e.Node == p.Self && e.Serving && e.Terminating {
			return true
		}
	}
	return false
}
