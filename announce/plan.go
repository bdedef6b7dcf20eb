package announce

import (
	"fmt"
	"strings"

	"github.com/fairlead-lb/fairlead/election"
	"github.com/fairlead-lb/fairlead/lb"
)

// Plan decides for every address in a Service's status, sorted by address, whether s.Self announces it: one decision for each way
// by which it is advertised, layer 2 before BGP, and one for layer 2 where it is by neither. Its cost grows with
// the addresses and with the members, and with their product only for Services with externalTrafficPolicy Local, shared
// addresses, and addresses that a datapath has failed on.
func Plan(s lb.Snapshot) []Decision {
	p := newPoll(s)
	ballots := p.ballots()
	seats := make([]election.Seat, len(ballots))
	for i, b := range ballots {
		seats[i] = election.Seat{VIP: b.vip, Candidates: p.candidates(b), Claims: p.claims[b.vip], Failback: b.failback()}
	}
	result := election.Assign(seats)
	better := result.Handovers(s.Self, s.Steady)
	routes := p.newRoutes()
	out := make([]Decision, 0, len(ballots))
	for i, b := range ballots {
		d := p.decide(b, result.Owners[i])
		if d.Announce && d.Owner == s.Self {
			d.HandTo = better[i]
		}
		route, told := routes.decide(b)
		if !told || d.Reason != lb.NotAdvertised {
			out = append(out, d)
		}
		if told {
			out = append(out, route)
		}
	}
	return out
}

// decide says what this node does about an address whose owner is known.
func (p *poll) decide(b ballot, owner lb.NodeName) Decision {
	d := Decision{VIP: b.vip, Via: L2, Services: make([]lb.ServiceKey, len(b.services)), Owner: owner}
	for i, svc := range b.services {
		d.Services[i] = svc.Key
	}
	switch {
	case len(b.voters) == 0:
		return d.refuse(b.refusal)
	case p.self < 0:
		return d.refuse(lb.Refusal{Reason: lb.NotAMember, Message: fmt.Sprintf("the speaker on %s has not joined the others yet", p.Self)})
	case p.Fenced:
		return d.refuse(lb.Refusal{Reason: lb.Fenced, Message: "this process was asleep and has not heard from another speaker since"})
	}
	own := p.offer(p.self, b)
	programmed := p.Programmed[b.vip] || !p.Forwards
	switch {
	case d.Owner == p.Self && !programmed:
		return d.refuse(lb.Refusal{Reason: lb.NotProgrammed, Message: "the datapath has not programmed the address yet"})
	case d.Owner == p.Self:
		if r := p.mustWait(b); !r.OK() {
			return d.refuse(r)
		}
		return d.announceOn(own.interfaces, own.lacking(p, b).Message)
	case programmed && own.mayHold() && p.awaitsSuccessor(d, own):
		return d.announceOn(own.holds(), "handing over"+toWhom(d.Owner))
	case own.refusal.Message != "":
		return d.refuse(own.refusal)
	case own.lacks != "":
		return d.refuse(own.lacking(p, b))
	}
	return d.refuse(lb.Refusal{Reason: lb.NotOwner, Message: string(d.Owner) + " was elected"})
}

// mustWait says what keeps the owner from announcing an address that it does not announce yet.
func (p *poll) mustWait(b ballot) lb.Refusal {
	vip := b.vip
	if claimOf(p.claims[vip], p.Self) > 0 {
		return lb.Refusal{}
	}
	if mac, taken := p.Conflicts[vip]; taken {
		return lb.Refusal{Reason: lb.AddressConflict,
			Message: fmt.Sprintf("the station %s, which is no speaker, answers for %s; take the address from it, or out of the pool",
				strings.ReplaceAll(fmt.Sprintf("% x", mac[:]), " ", ":"), vip)}
	}
	if _, port := p.forwarder(b); port != 0 {
		return unansweredBy(p.Self, port)
	}
	if len(p.Settling) > 0 && len(p.claims[vip]) == 0 && p.Epochs[vip] == 0 {
		return lb.Refusal{Reason: lb.Settling, Message: "waiting a short time for the speakers on " + list(p.Settling)}
	}
	return lb.Refusal{}
}

// unansweredBy is about a forwarder of which it is not known yet whether it can serve a Service.
func unansweredBy(node lb.NodeName, port uint16) lb.Refusal {
	return lb.Refusal{Reason: lb.ForwarderNotReady,
		Message: fmt.Sprintf("kube-proxy or Cilium, which forwards on %s, has not answered yet at healthCheckNodePort %d", node, port)}
}

// awaitsSuccessor reports whether this node announces the address now and nobody else does yet. Without any successor only
// a draining node goes on, until its process ends: an excluded one was told to stop. Between equal epochs the owner has won
// the address back after a partition, and nothing is to be awaited.
func (p *poll) awaitsSuccessor(d Decision, own offer) bool {
	mine := claimOf(p.claims[d.VIP], p.Self)
	if mine == 0 {
		return false
	}
	if d.Owner == "" {
		return own.refusal.Reason == lb.NodeDraining
	}
	return claimOf(p.claims[d.VIP], d.Owner) < mine
}

func toWhom(owner lb.NodeName) string {
	if owner == "" {
		return ", but nobody can take it"
	}
	return " to " + string(owner)
}

func claimOf(claims []election.Claim, node lb.NodeName) uint64 {
	for _, c := range claims {
		if c.Node == node {
			return c.Epoch
		}
	}
	return 0
}

func list(nodes []lb.NodeName) string {
	out := make([]string, len(nodes))
	for i, n := range nodes {
		out[i] = string(n)
	}
	return strings.Join(out, ", ")
}
