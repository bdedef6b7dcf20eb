package explain

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

// Verdict is the answer of a step.
type Verdict string

// A step that does not apply is skipped: a Service with externalTrafficPolicy Cluster has no health check of its own.
const (
	Yes     Verdict = "yes"
	No      Verdict = "no"
	Unknown Verdict = "unknown"
	Skipped Verdict = "-"
)

// Step is one link of a chain.
type Step struct {
	Name     string    `json:"step"`
	Verdict  Verdict   `json:"verdict"`
	Reason   lb.Reason `json:"reason,omitempty"`
	Message  string    `json:"message,omitempty"`
	Evidence []string  `json:"evidence,omitempty"`
	Next     string    `json:"next,omitempty"` // what to do
}

// Chain is the way of one address from the allocation to the pods, or of a Service that has none.
type Chain struct {
	Service string     `json:"service"`
	Address netip.Addr `json:"address"` // the zero Addr = none
	Steps   []Step     `json:"steps"`
}

// Cause returns the first step that says no, nil if none does.
func (c Chain) Cause() *Step {
	i := slices.IndexFunc(c.Steps, func(s Step) bool { return s.Verdict == No })
	if i < 0 {
		return nil
	}
	return &c.Steps[i]
}

func yes(name string, evidence ...string) Step {
	return Step{Name: name, Verdict: Yes, Evidence: evidence}
}

func skipped(name, why string) Step { return Step{Name: name, Verdict: Skipped, Message: why} }

func unknown(name, why string, evidence ...string) Step {
	return Step{Name: name, Verdict: Unknown, Message: why, Evidence: evidence}
}

// no is a step whose cure is in docs/reasons.md.
func no(name string, r lb.Refusal, evidence ...string) Step {
	return Step{Name: name, Verdict: No, Reason: r.Reason, Message: r.Message, Evidence: evidence, Next: cure(r.Reason)}
}

// The names of the steps.
const (
	allocation   = "allocation"
	election     = "election"
	announcement = "announcement"
	toRouters    = "bgp"
	wire         = "wire"
	forwarding   = "datapath"
	endpoints    = "endpoints"
	health       = "health"
	directReturn = "dsr"
)

// Service returns the chains of a Service: one for each of its addresses, or one that says why it has none.
func (f *Facts) Service(key lb.ServiceKey) []Chain {
	known, exists := f.Services[key]
	s, ours := f.service(key)
	switch {
	case !exists:
		return []Chain{{Service: key.String(), Steps: []Step{{Name: allocation, Verdict: No, Message: "there is no such Service", Next: "see `kubectl get services -A` for its name and namespace"}}}}
	case !ours:
		return []Chain{{Service: key.String(), Steps: []Step{{Name: allocation, Verdict: No, Message: "the Service is not Fairlead's: " + known.Foreign, Next: "create it as type LoadBalancer, without a loadBalancerClass or with Fairlead's"}}}}
	}
	first := f.allocated(s, known)
	if len(s.Ingress) == 0 {
		return []Chain{{Service: key.String(), Steps: []Step{first, skipped(election, "there is no address"), f.backends(s, "")}}}
	}
	var out []Chain
	for _, addr := range s.Addrs() {
		owner, elected := f.elected(addr)
		at, announced := f.announced(addr, owner)
		steps := []Step{first, elected, announced}
		if len(f.rows(addr, announce.BGP)) > 0 {
			steps = append(steps, f.told(addr))
		}
		steps = append(steps, f.answering(addr, at), f.forwarded(s, addr, owner), f.backends(s, owner), f.healthy(s, owner))
		if step, asked := f.direct(s, addr); asked {
			steps = append(steps, step)
		}
		out = append(out, Chain{key.String(), addr, steps})
	}
	return out
}

// allocated says whether the Service has what it asks for.
func (f *Facts) allocated(s lb.Service, known Service) Step {
	var has []string
	for _, in := range s.Ingress {
		has = append(has, fmt.Sprintf("%s of pool %s", in.Addr, f.poolOf(in.Addr)))
	}
	c := known.Condition
	switch {
	case !known.Refusal.OK():
		return no(allocation, known.Refusal, has...)
	case c == nil && len(has) == 0:
		step := unknown(allocation, "the controller has said nothing about the Service yet", f.controllers()...)
		step.Next = fmt.Sprintf("see the controller's log: kubectl logs -n %s -l %s=controller", f.Namespace, kube.SpeakerLabel)
		return step
	case c != nil && c.Status == "False" && len(has) == 0:
		return no(allocation, lb.Refusal{Reason: lb.Reason(c.Reason), Message: c.Message})
	case c != nil && c.Reason != "Allocated":
		step := yes(allocation, has...)
		step.Reason, step.Message, step.Next = lb.Reason(c.Reason), c.Message, cure(lb.Reason(c.Reason))
		return step
	}
	return yes(allocation, has...)
}

func (f *Facts) poolOf(addr netip.Addr) string {
	for _, p := range f.Kube.Pools {
		if p.Contains(addr) {
			return p.Name
		}
	}
	return "(none)"
}

func (f *Facts) controllers() []string {
	if len(f.Controller) == 0 {
		return []string{"no pod of the controller was found"}
	}
	var out []string
	for _, p := range f.Controller {
		out = append(out, fmt.Sprintf("pod %s, ready: %v", p.Name, p.Ready))
	}
	return out
}

// Address returns the chains of whoever has the address, or one that says whose it is or could be.
func (f *Facts) Address(addr netip.Addr) []Chain {
	var out []Chain
	for _, s := range f.Kube.Services {
		if !s.HasAddr(addr) {
			continue
		}
		for _, c := range f.Service(s.Key) {
			if c.Address == addr {
				out = append(out, c)
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	step := Step{Name: allocation, Verdict: No, Message: "no Service of Fairlead's has the address"}
	for _, n := range f.Kube.Nodes {
		if slices.Contains(n.Addrs, addr) {
			step.Evidence = append(step.Evidence, fmt.Sprintf("it is the address of Node %s", n.Name))
		}
	}
	if pool := f.poolOf(addr); pool != "(none)" {
		step.Evidence = append(step.Evidence, "it is free in pool "+pool)
		step.Next = "annotate a Service with fairlead.dev/loadBalancerIPs=" + addr.String() + " to give it to that one"
	} else {
		step.Evidence = append(step.Evidence, "it is in no IPAddressPool")
		step.Next = "add it to an IPAddressPool if Services shall have it"
	}
	if len(f.rows(addr, announce.L2))+len(f.rows(addr, announce.BGP)) > 0 {
		step.Evidence = append(step.Evidence, "speakers still decide about it: it was given up a moment ago")
	}
	return []Chain{{Address: addr, Steps: []Step{step}}}
}
