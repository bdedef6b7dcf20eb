package kube

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

// Pool converts p. Where p is not valid, the refusal says what is wrong and the pool holds what is left: a wrong entry of
// spec.addresses gives no addresses, a wrong selector matches nothing, a
// wrong rest is the default. That way a typing error in one entry of a pool in
// use does not take the others off the air.
func Pool(p *v1beta1.IPAddressPool) (lb.Pool, lb.Refusal) {
	out := lb.Pool{
		Name:          p.Name,
		Labels:        p.Labels,
		AutoAssign:    p.Spec.AutoAssign == nil || *p.Spec.AutoAssign,
		AvoidBuggyIPs: p.Spec.AvoidBuggyIPs,
		ShareAcross:   p.Spec.AllowCrossNamespaceSharing,
		Forwarding:    lb.Method(p.Spec.Forwarding),
	}
	for _, entry := range p.Spec.Addresses {
		from, to, err := v1beta1.ParseAddresses(entry)
		r := lb.Range{From: from, To: to}
		if err == nil && !slices.ContainsFunc(out.Ranges, func(o lb.Range) bool { return overlap(o, r) }) {
			out.Ranges = append(out.Ranges, r)
		}
	}
	if rest := p.Spec.AddressRest; rest != nil && rest.Duration >= 0 && rest.Duration <= v1beta1.MaxAddressRest {
		out.Rest = &rest.Duration
	}
	if a := p.Spec.ServiceAllocation; a != nil {
		out.Priority = max(a.Priority, 0)
		if limit := a.MaxAddressesPerNamespace; limit != nil {
			out.MaxPerNamespace = int(max(*limit, 0))
		}
		out.Namespaces = a.Namespaces
		out.NamespaceSelector = selectors(a.NamespaceSelectors)
		out.ServiceSelectors = selectors(a.ServiceSelectors)
	}
	return out, invalid(p.Validate())
}

// L2Advertisement converts a, as [Pool] does.
func L2Advertisement(a *v1beta1.L2Advertisement) (lb.L2Advertisement, lb.Refusal) {
	out := lb.L2Advertisement{
		Name:             a.Name,
		Pools:            a.Spec.IPAddressPools,
		PoolSelectors:    selectors(a.Spec.IPAddressPoolSelectors),
		NodeSelectors:    selectors(a.Spec.NodeSelectors),
		ServiceSelectors: selectors(a.Spec.ServiceSelectors),
		Interfaces:       a.Spec.Interfaces,
		Failback:         a.Spec.FailbackAfter(),
	}
	for _, p := range a.Spec.PreferredNodeSelectors {
		out.Preferred = append(out.Preferred, lb.Preference{Weight: int(p.Weight), Selector: selector(p.Preference)})
	}
	return out, invalid(a.Validate())
}

// Overlaps returns, for each pool that shares an address with another, the names of those others, sorted. It sorts all ranges
// and passes them once: what it costs beyond that is the overlaps that it finds.
func Overlaps(pools []lb.Pool) map[string][]string {
	type entry struct {
		lb.Range
		pool string
	}
	var all, open []entry
	for _, p := range pools {
		for _, r := range p.Ranges {
			all = append(all, entry{r, p.Name})
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return a.From.Compare(b.From) })
	out, known := map[string][]string{}, map[[2]string]bool{}
	for _, e := range all {
		open = slices.DeleteFunc(open, func(o entry) bool { return o.To.Less(e.From) })
		for _, o := range open {
			if pair := [2]string{min(o.pool, e.pool), max(o.pool, e.pool)}; o.pool != e.pool && !known[pair] {
				known[pair] = true
				out[o.pool], out[e.pool] = append(out[o.pool], e.pool), append(out[e.pool], o.pool)
			}
		}
		open = append(open, e)
	}
	for _, others := range out {
		slices.Sort(others)
	}
	return out
}

func overlap(a, b lb.Range) bool {
	return a.From.Compare(b.To) <= 0 && b.From.Compare(a.To) <= 0
}

func invalid(errs field.ErrorList) lb.Refusal {
	if len(errs) == 0 {
		return lb.Refusal{}
	}
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return lb.Refusal{Reason: lb.InvalidSpec, Message: strings.Join(texts, "; ")}
}

func selectors(in []metav1.LabelSelector) []lb.Selector {
	var out []lb.Selector
	for _, s := range in {
		out = append(out, selector(s))
	}
	return out
}

// selector converts s; a requirement with an unknown operator stays, and matches nothing.
func selector(s metav1.LabelSelector) lb.Selector {
	out := lb.Selector{}
	for key, value := range s.MatchLabels {
		out = append(out, lb.Requirement{Key: key, Op: lb.In, Values: []string{value}})
	}
	slices.SortFunc(out, func(a, b lb.Requirement) int { return strings.Compare(a.Key, b.Key) })
	for _, e := range s.MatchExpressions {
		out = append(out, lb.Requirement{Key: e.Key, Op: lb.Operator(e.Operator), Values: e.Values})
	}
	return out
}

// wrongNamespace refuses a pool or advertisement that lives where nobody reads it.
func wrongNamespace(have, want string) lb.Refusal {
	return lb.Refusal{Reason: lb.WrongNamespace, Message: fmt.Sprintf("metadata.namespace is %q, but Fairlead reads only %q; create the object there", have, want)}
}
