package dryrun

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/ipam"
	"github.com/fairlead-lb/fairlead/lb"
)

// Outcome is what becomes of one Service.
type Outcome struct {
	Addrs      []netip.Addr
	Pool       string     // where they are from
	Refusal    lb.Refusal // why it has not what it wants; "" = it has
	Advertised []string   // the advertisements that cover it: "L2Advertisement default"
}

// equal compares what a Service has. The sentence of a refusal is left out: it counts addresses of pools.
func (o Outcome) equal(p Outcome) bool {
	return slices.Equal(o.Addrs, p.Addrs) && o.Pool == p.Pool && o.Refusal.Reason == p.Refusal.Reason && slices.Equal(o.Advertised, p.Advertised)
}

// Change is a Service for which something would be different. The zero Outcome stands for a Service that is not there.
type Change struct {
	Service       lb.ServiceKey
	Before, After Outcome
}

// Word says in one word what would happen to the Service: it gets addresses, loses some, moves to others, is silenced (no
// advertisement covers it any more), or changes in something else.
func (c Change) Word() string {
	had, has := len(c.Before.Addrs), len(c.After.Addrs)
	kept := !slices.ContainsFunc(c.Before.Addrs, func(a netip.Addr) bool { return !slices.Contains(c.After.Addrs, a) })
	switch {
	case kept && has > had:
		return "gets"
	case kept && had > 0 && len(c.Before.Advertised) > 0 && len(c.After.Advertised) == 0:
		return "silenced"
	case kept:
		return "changes"
	case has == 0 || has < had:
		return "loses"
	}
	return "moves"
}

// Diff returns the Services that would be different if the objects were applied to w, sorted by name. Addresses that Services
// have are adopted first, as a controller does when it starts; Services that wait in w are tried in the order of their names.
func (w World) Diff(objects []client.Object, now time.Time) []Change {
	before := w.facts()
	allocator := w.allocator(before, now)
	old := w.outcomes(before, allocator, now)

	next := World{w.Objects.With(objects...), w.Options, w.Rest}
	after := next.facts()
	allocator.SetPools(after.Pools, now)
	then := next.outcomes(after, allocator, now)

	keys := slices.Collect(maps.Keys(then))
	for key := range old {
		if _, stays := then[key]; !stays {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, lb.ServiceKey.Compare)
	var out []Change
	for _, key := range keys {
		if c := (Change{key, old[key], then[key]}); !c.Before.equal(c.After) {
			out = append(out, c)
		}
	}
	return out
}

// Outcomes says what Services have and would be given if a controller started now.
func (w World) Outcomes(now time.Time) map[lb.ServiceKey]Outcome {
	f := w.facts()
	return w.outcomes(f, w.allocator(f, now), now)
}

func (w World) facts() kube.Facts {
	f, err := kube.NewReader(w.Objects, w.Options).Facts(context.Background())
	if err != nil {
		panic("dryrun: reading objects in memory: " + err.Error())
	}
	for i, s := range f.Services {
		ns := corev1.Namespace{}
		_ = w.Objects.Get(context.Background(), client.ObjectKey{Name: s.Key.Namespace}, &ns) // one that is in no manifest says nothing
		f.Services[i].Quota, _ = kube.Quota(&ns, w.Options.MaxPerNamespace)
	}
	return f
}

// allocator returns an allocator that has adopted what Services have.
func (w World) allocator(f kube.Facts, now time.Time) *ipam.Allocator {
	a := ipam.New(w.Rest)
	a.SetPools(f.Pools, now)
	for _, s := range f.Services {
		a.Adopt(s)
	}
	return a
}

// outcomes has the allocator decide about every Service.
func (w World) outcomes(f kube.Facts, a *ipam.Allocator, now time.Time) map[lb.ServiceKey]Outcome {
	out := map[lb.ServiceKey]Outcome{}
	for _, s := range f.Services {
		assigned, refusal := a.Ensure(s, now)
		out[s.Key] = Outcome{assigned.Addrs, assigned.Pool, refusal, advertised(f, s, assigned)}
	}
	return out
}

// advertised returns the advertisements that cover the Service's addresses. Those of no pool count as of the one that they
// are from.
func advertised(f kube.Facts, s lb.Service, a ipam.Assignment) []string {
	if len(a.Addrs) == 0 {
		return nil
	}
	pool := lb.Pool{Name: a.Pool}
	if i := slices.IndexFunc(f.Pools, func(p lb.Pool) bool { return p.Name == a.Pool }); i >= 0 {
		pool = f.Pools[i]
	}
	var out []string
	for _, ad := range f.L2 {
		if ad.Covers(pool, s) {
			out = append(out, "L2Advertisement "+ad.Name)
		}
	}
	for _, ad := range f.BGP {
		if ad.Covers(pool, s) {
			out = append(out, "BGPAdvertisement "+ad.Name)
		}
	}
	return out
}

// addresses joins addresses for a sentence.
func addresses(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}
