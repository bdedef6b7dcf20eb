package datapath

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/fairlead-lb/fairlead/lb"
)

// What one Service may cost a node at most. IPVS's scheduler mh takes no more than 4093 destinations, and a Service of a hundred
// ports on two families at four addresses each has 800 listeners. Of both it cannot have the most: each destination is one behind each
// listener, and 4,000 pods behind 32 listeners are as many as 25,000 ordinary Services have.
const (
	maxDestinations = 4000 // behind one listener
	maxListeners    = 4096
	maxTotal        = 1 << 17 // destinations behind all listeners
	maxRanges       = 1024
)

// Refused is something about a Service that the datapath does not do, and why.
type Refused struct {
	Service lb.ServiceKey
	lb.Refusal
}

// String returns "namespace/name: Reason: message".
func (r Refused) String() string { return r.Service.String() + ": " + r.Refusal.String() }

// JoinRefused returns what is in any of the lists, by Service; those of one Service stay in their order.
func JoinRefused(lists ...[]Refused) []Refused {
	all := slices.Concat(lists...)
	slices.SortStableFunc(all, func(a, b Refused) int { return a.Service.Compare(b.Service) })
	return all
}

func refused(svc lb.ServiceKey, reason lb.Reason, format string, args ...any) Refused {
	return Refused{svc, lb.Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}}
}

func tooManyEndpoints(svc lb.ServiceKey, port lb.Port, cut int) Refused {
	return refused(svc, lb.TooManyEndpoints, "port %d/%s has %d usable endpoints; this node uses %d of them, others use others; split the Service",
		port.Port, port.Protocol, maxDestinations+cut, maxDestinations)
}

// SchedulerMissing is what an engine says whose kernel lacks the scheduler that svc asks for.
func SchedulerMissing(svc lb.ServiceKey, scheduler string) Refused {
	return refused(svc, lb.SchedulerMissing, "this node's kernel has no scheduler %s, so that %s is used; load its module ip_vs_%s, or delete annotation fairlead.dev/scheduler",
		scheduler, RoundRobin, scheduler)
}

func taken(v, by *VirtualServer) Refused {
	why := "has it too and comes first by name"
	if v.Claim != by.Claim {
		why = "has it as its " + by.Claim.String()
	}
	return refused(v.Service, lb.ListenerTaken, "%s is served for %s, which %s; change the port or the address of one of them", v.Listener, by.Service, why)
}

// few returns at most maxDestinations of the destinations, which are sorted, and how many with a weight it has left out. Which ones these are
// differs with the seed.
func few(all []Destination, seed lb.NodeName) ([]Destination, int) {
	if len(all) <= maxDestinations {
		return all, 0
	}
	type ranked struct {
		Destination
		rank uint64
	}
	ranks := make([]ranked, len(all))
	for i, d := range all {
		h := fnv.New64a()
		h.Write([]byte(seed))
		b, _ := d.Addr.MarshalBinary()
		h.Write(b)
		ranks[i] = ranked{d, h.Sum64()}
	}
	slices.SortFunc(ranks, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(b.Weight, a.Weight), cmp.Compare(a.rank, b.rank), a.Addr.Compare(b.Addr))
	})
	cut := 0
	for _, r := range ranks[maxDestinations:] {
		cut += r.Weight
	}
	out := make([]Destination, maxDestinations)
	for i := range out {
		out[i] = ranks[i].Destination
	}
	slices.SortFunc(out, func(a, b Destination) int { return a.Addr.Compare(b.Addr) })
	return out, cut
}

// affordable returns how many of a Service's servers can be had within the limits. Those of one address and port stay together.
func affordable(servers []*VirtualServer) int {
	total, whole := 0, 0
	for i, v := range servers {
		if v.Listener == v.ForEverybody() {
			whole = i
		}
		for _, d := range v.Destinations {
			total += d.Weight // those without are the same memory at every listener, and nothing to a kernel
		}
		if i == maxListeners || total > maxTotal {
			return whole
		}
	}
	return len(servers)
}

// bound keeps what a Service costs within limits. Too many source ranges let nobody in: less of them would be another wish.
func (f frame) bound(svc *lb.Service, r result) result {
	if n, most := len(r.servers), affordable(r.servers); most < n {
		r.servers = slices.Clip(r.servers[:most])
		r.refused = append(r.refused, refused(svc.Key, lb.TooManyListeners,
			"its ports at all of its addresses make %d listeners, of which %d are served; give it fewer ports or externalIPs, or fewer endpoints behind them",
			n, most))
	}
	tooMany := 0
	for i := range r.servers {
		if v := r.servers[i]; len(v.SourceRanges) > maxRanges {
			tooMany = len(v.SourceRanges)
			v.SourceRanges, v.Verdict = nil, Drop
		}
	}
	if tooMany > 0 {
		r.refused = append(r.refused, refused(svc.Key, lb.TooManySourceRanges,
			"spec.loadBalancerSourceRanges has %d ranges, %d at most are possible, so that nobody may connect; join neighbouring ranges", tooMany, maxRanges))
	}
	return r
}

// sameEndpoints reports whether nothing about the endpoints has changed.
func sameEndpoints(a, b []lb.Endpoint) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

// sameService reports whether nothing has changed of what is decided by.
func sameService(a, b *lb.Service) bool {
	return a == b || a.Scheduler == b.Scheduler && a.Forwarding == b.Forwarding && a.SessionAffinity == b.SessionAffinity &&
		a.ExternalTrafficPolicy == b.ExternalTrafficPolicy && a.InternalTrafficPolicy == b.InternalTrafficPolicy &&
		slices.Equal(a.Ports, b.Ports) && slices.Equal(a.Ingress, b.Ingress) && slices.Equal(a.SourceRanges, b.SourceRanges) &&
		slices.Equal(a.ClusterIPs, b.ClusterIPs) && slices.Equal(a.ExternalIPs, b.ExternalIPs)
}
