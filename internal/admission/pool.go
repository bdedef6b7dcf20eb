package admission

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

// maxListed is how many Services a message names, and how many collisions a decision. The API server cuts warnings off
// after 4096 characters.
const maxListed = 10

// keep is what becomes of Services whose pool is edited or deleted.
const keep = "they keep their addresses; to move a Service, annotate it with fairlead.dev/release=true"

// collisions refuses addresses of now that another pool or the cluster itself holds, if old had not the same, and warns of
// the others.
func collisions(d *Decision, old lb.Pool, now Pool, f Facts) {
	for i, entry := range now.Object.Spec.Addresses {
		from, to, err := v1beta1.ParseAddresses(entry)
		if err != nil {
			continue // refused by Validate
		}
		all := []lb.Range{{From: from, To: to}}
		added := without(all[0], old.Ranges)
		path := field.NewPath("spec", "addresses").Index(i)
		judge := func(reason lb.Reason, others []lb.Range, message func(lb.Range) string) {
			if len(d.Refusals)+len(d.Warnings) >= maxListed {
				return
			}
			if common, ok := first(added, others); ok {
				d.refuse(reason, field.Invalid(path, entry, message(common)))
			} else if common, ok := first(all, others); ok {
				d.warn(reason, "%s is %q and %s; it was so before this change", path, entry, message(common))
			}
		}
		for _, other := range f.Pools {
			if other.Name != now.Object.Name {
				judge(lb.PoolOverlap, other.Ranges, func(common lb.Range) string {
					return fmt.Sprintf("overlaps IPAddressPool %q, which holds %s too; keep each address in one pool", other.Name, text(common))
				})
			}
		}
		for _, r := range f.Reserved {
			judge(lb.AddressReserved, []lb.Range{r.Range}, func(common lb.Range) string {
				return fmt.Sprintf("holds %s, %s; leave out what the cluster uses itself", text(common), r.What)
			})
		}
	}
}

// holding is an address that a Service has out of a pool.
type holding struct {
	service lb.Service
	addr    netip.Addr
}

// holdings returns which Services have which addresses of pool p, in the order of their names. An address that several pools
// hold is of the one that the Service was served from; so is one that an earlier edit took out of its pool.
func holdings(p lb.Pool, f Facts) []holding {
	var out []holding
	for _, s := range f.Services {
		served := slices.IndexFunc(f.Pools, func(o lb.Pool) bool { return o.Name == s.Pool && o.Name != p.Name })
		for _, addr := range s.Addrs() {
			switch {
			case served >= 0 && contains(f.Pools[served].Ranges, addr):
			case contains(p.Ranges, addr):
				out = append(out, holding{s, addr})
			case s.Pool == p.Name && !slices.ContainsFunc(f.Pools, func(o lb.Pool) bool { return contains(o.Ranges, addr) }):
				out = append(out, holding{s, addr})
			}
		}
	}
	slices.SortFunc(out, func(a, b holding) int {
		if n := a.service.Key.Compare(b.service.Key); n != 0 {
			return n
		}
		return a.addr.Compare(b.addr)
	})
	return out
}

// list names the first holdings and counts the others.
func list(hs []holding) string {
	var texts []string
	for _, h := range hs[:min(len(hs), maxListed)] {
		texts = append(texts, fmt.Sprintf("%s (%s)", h.service.Key, h.addr))
	}
	out := strings.Join(texts, ", ")
	if more := len(hs) - maxListed; more > 0 {
		out += fmt.Sprintf(" and %d more", more)
	}
	return out
}

// stranded warns of Services that the pool served and now would not. Those that another pool would serve with the same
// address are not stranded.
func stranded(d *Decision, old, now lb.Pool, f Facts) {
	var outside, excluded []holding
	for _, h := range holdings(old, f) {
		elsewhere := slices.ContainsFunc(f.Pools, func(o lb.Pool) bool {
			return o.Name != now.Name && contains(o.Ranges, h.addr) && o.Admits(h.service)
		})
		switch {
		case elsewhere || !contains(old.Ranges, h.addr):
		case !contains(now.Ranges, h.addr):
			outside = append(outside, h)
		case old.Admits(h.service) && !now.Admits(h.service):
			excluded = append(excluded, h)
		}
	}
	if len(outside) > 0 {
		d.warn(lb.AddressOutsidePools, "spec.addresses no longer holds addresses of Services: %s; %s", list(outside), keep)
	}
	if len(excluded) > 0 {
		d.warn(lb.PoolRefuses, "spec.serviceAllocation no longer admits Services with addresses of the pool: %s; %s", list(excluded), keep)
	}
}

// deletePool refuses to delete a pool in use, unless that is forced or its whole namespace goes.
func deletePool(d *Decision, old Pool, f Facts) {
	if old.Object.Namespace != f.Namespace || old.Object.DeletionTimestamp != nil {
		return
	}
	in, force := holdings(old.Parsed, f), old.Object.Annotations[ForceDelete]
	if len(in) > 0 && force != "true" && !f.Terminating {
		d.refuse(lb.PoolInUse, inUse(old.Object.Name, force, in))
		return
	}
	if len(in) > 0 {
		d.warn(lb.PoolInUse, "IPAddressPool %q was in use by Services: %s; %s", old.Object.Name, list(in), keep)
	}
	for _, a := range f.L2 {
		named := slices.Contains(a.Pools, old.Object.Name)
		switch {
		case len(in) == 0 && named:
			d.warn(lb.UnknownPool, "L2Advertisement %q still names IPAddressPool %q in spec.ipAddressPools; take it out", a.Name, old.Object.Name)
		case len(in) > 0 && !named && len(a.PoolSelectors) > 0 && lb.MatchesAny(a.PoolSelectors, old.Parsed.Labels):
			d.warn(lb.NotAdvertised, "L2Advertisement %q selected IPAddressPool %q by its labels and no longer announces its addresses; name the pool in spec.ipAddressPools", a.Name, old.Object.Name)
		}
	}
}

func inUse(name, force string, in []holding) *field.Error {
	path := field.NewPath("metadata", "annotations").Key(ForceDelete)
	return field.Invalid(path, force, fmt.Sprintf("IPAddressPool %q is in use by Services: %s; delete or move them first, or set the annotation %s to \"true\" and delete again: they keep their addresses then",
		name, list(in), ForceDelete))
}
