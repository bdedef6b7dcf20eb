package announce

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/election"
	"github.com/fairlead-lb/fairlead/lb"
)

// Plan decides for every address in a Service's status, sorted by address, whether s.Self announces it.
func Plan(s lb.Snapshot) []Decision {
	byAddr := map[netip.Addr][]lb.Service{}
	for _, svc := range s.Services {
		for _, addr := range svc.Addrs() {
			byAddr[addr] = append(byAddr[addr], svc)
		}
	}
	out := make([]Decision, 0, len(byAddr))
	for _, vip := range slices.SortedFunc(maps.Keys(byAddr), netip.Addr.Compare) {
		out = append(out, decide(s, vip, byAddr[vip]))
	}
	return out
}

func decide(s lb.Snapshot, vip netip.Addr, services []lb.Service) Decision {
	d := Decision{VIP: vip, Via: L2}
	for _, svc := range services {
		d.Services = append(d.Services, svc.Key)
	}
	voters, refusal := voters(s, vip, services)
	if len(voters) == 0 {
		return d.refuse(refusal)
	}

	offers := map[lb.NodeName]offer{}
	claims := election.Claims{}
	for _, m := range s.Members {
		offers[m.Node] = makeOffer(s, vip, voters, m)
		claims[m.Node] = m.Claim(vip)
	}
	owner, ok := election.Owner(vip, candidates(offers), claims)
	if ok {
		d.Owner = owner
	}
	own, member := offers[s.Self]
	if !member {
		return d.refuse(lb.Refusal{Reason: lb.NotAMember, Message: fmt.Sprintf("the speaker on %s has not joined the others yet", s.Self)})
	}
	return decideSelf(s, d, own, claims, s.Programmed[vip] || !forwarded(s, vip, services))
}

// forwarded reports whether this node's datapath has to forward for vip: not in mode "announce only", nor an address that its
// status leaves to kube-proxy or Cilium.
func forwarded(s lb.Snapshot, vip netip.Addr, services []lb.Service) bool {
	return s.Forwards && slices.ContainsFunc(services, func(svc lb.Service) bool {
		return slices.Contains(svc.Ingress, lb.Ingress{Addr: vip, Mode: lb.ModeProxy})
	})
}

// decideSelf completes d, whose owner is known, with what this node does about it; programmed is the gate.
func decideSelf(s lb.Snapshot, d Decision, own offer, claims election.Claims, programmed bool) Decision {
	switch {
	case d.Owner == s.Self && programmed:
		return d.announceOn(own.interfaces, own.lacking.Message)
	case d.Owner == s.Self:
		return d.refuse(lb.Refusal{Reason: lb.NotProgrammed, Message: "the datapath has not programmed the address yet"})
	case programmed && own.mayHold() && awaitsSuccessor(d, own, claims, s.Self):
		return d.announceOn(own.interfaces, "handing over"+toWhom(d.Owner))
	case !own.refusal.OK():
		return d.refuse(own.refusal)
	case !own.lacking.OK():
		return d.refuse(own.lacking)
	}
	return d.refuse(lb.Refusal{Reason: lb.NotOwner, Message: fmt.Sprintf("%s was elected", d.Owner)})
}

// awaitsSuccessor reports whether this node announces the address now and nobody else does yet. Without any successor only
// a draining node goes on, until its process ends: an excluded one was told to stop. Between equal epochs the owner has won
// the address back after a partition, and nothing is to be awaited.
func awaitsSuccessor(d Decision, own offer, claims election.Claims, self lb.NodeName) bool {
	if claims[self] == 0 {
		return false
	}
	if d.Owner == "" {
		return own.refusal.Reason == lb.NodeDraining
	}
	return claims[d.Owner] < claims[self]
}

func toWhom(owner lb.NodeName) string {
	if owner == "" {
		return ", but nobody can take it"
	}
	return " to " + string(owner)
}

// candidates are the nodes that nothing speaks against and that can serve the most Services.
func candidates(offers map[lb.NodeName]offer) []election.Candidate {
	most := 1
	for _, o := range offers {
		if o.refusal.OK() {
			most = max(most, o.serves)
		}
	}
	var out []election.Candidate
	for node, o := range offers {
		if o.refusal.OK() && o.serves >= most {
			out = append(out, election.Candidate{Node: node, Score: o.score})
		}
	}
	return out
}

// voter is a Service that counts in the election of its address.
type voter struct {
	svc       lb.Service
	ads       []lb.L2Advertisement // that cover address and Service, on whatever node
	endpoints []lb.Endpoint        // behind its ports
}

// voters returns the Services that are advertised and could take a connection somewhere; if there are none, why.
func voters(s lb.Snapshot, vip netip.Addr, services []lb.Service) ([]voter, lb.Refusal) {
	var out []voter
	refusal := lb.Refusal{Reason: lb.NotAdvertised, Message: fmt.Sprintf("no L2Advertisement covers %s", vip)}
	for _, svc := range services {
		v := voter{svc: svc, ads: covering(s, vip, svc), endpoints: behind(s, svc)}
		if len(v.ads) == 0 {
			continue
		}
		if len(lb.Usable(v.endpoints, lb.Cluster, "")) == 0 {
			refusal = lb.Refusal{Reason: lb.NoEndpoints, Message: fmt.Sprintf("no endpoint of %s can take a connection", svc.Key)}
			continue
		}
		out = append(out, v)
	}
	return out, refusal
}

// covering returns the advertisements for vip as an address of svc. The package comment explains what happens to addresses
// outside the pools.
func covering(s lb.Snapshot, vip netip.Addr, svc lb.Service) []lb.L2Advertisement {
	pool, inPool := s.PoolOf(vip)
	if !inPool {
		pool = lb.Pool{Name: svc.Pool}
		if i := slices.IndexFunc(s.Pools, func(p lb.Pool) bool { return p.Name == svc.Pool }); i >= 0 {
			pool = s.Pools[i]
		}
	}
	var covers, selects []lb.L2Advertisement
	for _, ad := range s.L2 {
		if ad.Covers(pool, svc) {
			covers = append(covers, ad)
		}
		if lb.MatchesAny(ad.ServiceSelectors, svc.Labels) {
			selects = append(selects, ad)
		}
	}
	if len(covers) == 0 && !inPool {
		return selects
	}
	return covers
}

func behind(s lb.Snapshot, svc lb.Service) []lb.Endpoint {
	var out []lb.Endpoint
	for _, p := range svc.Ports {
		out = append(out, lb.OfPort(s.Endpoints[svc.Key], p)...)
	}
	return out
}
