package v1beta1

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Validate returns what is wrong with the pool itself, each error with the field, its value and the way out. It repeats
// what schema and CEL say, and adds what they cannot: that no range ends before it starts, that the entries do not overlap
// each other, and that the label selectors can be evaluated.
func (p *IPAddressPool) Validate() field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateAddresses(spec.Child("addresses"), p.Spec.Addresses)
	if rest := p.Spec.AddressRest; rest != nil && (rest.Duration < 0 || rest.Duration > MaxAddressRest) {
		errs = append(errs, field.Invalid(spec.Child("addressRest"), rest.Duration.String(), "must be a duration from 0s to 24h; write it like 90s or 10m"))
	}
	if a := p.Spec.ServiceAllocation; a != nil {
		path := spec.Child("serviceAllocation")
		if a.Priority < 0 {
			errs = append(errs, field.Invalid(path.Child("priority"), a.Priority, "use 1 for the best pool, bigger numbers for worse ones, 0 for last"))
		}
		if limit := a.MaxAddressesPerNamespace; limit != nil && *limit < 1 {
			errs = append(errs, field.Invalid(path.Child("maxAddressesPerNamespace"), *limit, "use 1 or more, or delete it for no limit"))
		}
		errs = append(errs, validateNames(path.Child("namespaces"), a.Namespaces, 256, 63)...)
		errs = append(errs, validateSelectors(path.Child("namespaceSelectors"), a.NamespaceSelectors)...)
		errs = append(errs, validateSelectors(path.Child("serviceSelectors"), a.ServiceSelectors)...)
	}
	return errs
}

// Validate returns what is wrong with the advertisement itself, as [IPAddressPool.Validate] does. What schema and CEL
// cannot say is whether the label selectors can be evaluated.
func (a *L2Advertisement) Validate() field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateNames(spec.Child("ipAddressPools"), a.Spec.IPAddressPools, 256, 253)
	errs = append(errs, validateSelectors(spec.Child("ipAddressPoolSelectors"), a.Spec.IPAddressPoolSelectors)...)
	errs = append(errs, validateSelectors(spec.Child("nodeSelectors"), a.Spec.NodeSelectors)...)
	errs = append(errs, validateNames(spec.Child("interfaces"), a.Spec.Interfaces, 64, 15)...)
	errs = append(errs, validateSelectors(spec.Child("serviceSelectors"), a.Spec.ServiceSelectors)...)
	path := spec.Child("preferredNodeSelectors")
	if n := len(a.Spec.PreferredNodeSelectors); n > maxSelectors {
		errs = append(errs, field.TooMany(path, n, maxSelectors))
	}
	for i, p := range a.Spec.PreferredNodeSelectors {
		if p.Weight < 1 || p.Weight > 100 {
			errs = append(errs, field.Invalid(path.Index(i).Child("weight"), p.Weight, "use a weight from 1 to 100"))
		}
		errs = append(errs, validateSelector(path.Index(i).Child("preference"), &p.Preference)...)
	}
	if f := a.Spec.Failback; f != "" && f != Never && a.Spec.FailbackAfter() == nil {
		errs = append(errs, field.Invalid(spec.Child("failback"), f, "must be Never or a duration from 1s to 24h; write it like 30s or 10m"))
	}
	return errs
}

// MaxAddressRest is the longest spec.addressRest of a pool.
const MaxAddressRest = 24 * time.Hour

// What spec.failback of an advertisement may say. A better node that has just come may go again.
const (
	minFailback = time.Second
	maxFailback = 24 * time.Hour
)

// The limits below are those of the schema's markers.
const (
	maxAddresses     = 256
	maxAddressLength = 100
	maxSelectors     = 64
)

func validateAddresses(path *field.Path, entries []string) field.ErrorList {
	var errs field.ErrorList
	if len(entries) == 0 {
		errs = append(errs, field.Required(path, "list at least one CIDR such as 192.0.2.0/28 or range such as 192.0.2.10-192.0.2.20"))
	}
	if len(entries) > maxAddresses {
		errs = append(errs, field.TooMany(path, len(entries), maxAddresses))
	}
	var earlier []span
	for i, entry := range entries {
		if len(entry) > maxAddressLength {
			errs = append(errs, field.TooLong(path.Index(i), entry, maxAddressLength))
			continue
		}
		from, to, err := ParseAddresses(entry)
		if err != nil {
			errs = append(errs, field.Invalid(path.Index(i), entry, err.Error()))
			continue
		}
		for _, o := range earlier {
			if from.Compare(o.to) <= 0 && o.from.Compare(to) <= 0 {
				errs = append(errs, field.Invalid(path.Index(i), entry, fmt.Sprintf("overlaps %q at %s; keep each address in one entry", o.entry, path.Index(o.index))))
				break
			}
		}
		earlier = append(earlier, span{from, to, entry, i})
	}
	return errs
}

// span is one valid entry of spec.addresses.
type span struct {
	from, to netip.Addr
	entry    string
	index    int
}

// ParseAddresses reads one entry of spec.addresses and returns its first and last address. Host bits of a CIDR are
// masked off. The error says what is wrong and how to write it, without naming the entry.
func ParseAddresses(entry string) (from, to netip.Addr, err error) {
	if strings.Contains(entry, "/") {
		prefix, err := netip.ParsePrefix(entry)
		if err != nil || prefix.Addr().Is4In6() {
			return from, to, errors.New("is not a CIDR; write it like 192.0.2.0/28 or 2001:db8::/120")
		}
		return prefix.Masked().Addr(), lastOf(prefix), nil
	}
	first, last, ok := strings.Cut(entry, "-")
	if !ok {
		return from, to, errors.New("is neither a CIDR nor a range; write it like 192.0.2.0/28 or 192.0.2.10-192.0.2.20, a single address as a /32 or /128")
	}
	from, errFrom := parseAddr(first)
	to, errTo := parseAddr(last)
	switch {
	case errFrom != nil || errTo != nil:
		return from, to, errors.New("is not a range of two IP addresses; write it like 192.0.2.10-192.0.2.20")
	case from.Is4() != to.Is4():
		return from, to, errors.New("begins in one IP family and ends in the other; use one entry per family")
	case to.Less(from):
		return from, to, fmt.Errorf("ends before it starts; write %s-%s", to, from)
	}
	return from, to, nil
}

func parseAddr(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(strings.TrimSpace(s))
	if err == nil && (addr.Is4In6() || addr.Zone() != "") {
		err = errors.New("not a plain address")
	}
	return addr, err
}

// lastOf returns the highest address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}

func validateNames(path *field.Path, names []string, maxItems, maxLength int) field.ErrorList {
	var errs field.ErrorList
	if len(names) > maxItems {
		errs = append(errs, field.TooMany(path, len(names), maxItems))
	}
	seen := map[string]bool{}
	for i, name := range names {
		switch {
		case name == "":
			errs = append(errs, field.Invalid(path.Index(i), name, "is empty; delete the entry or name something"))
		case len(name) > maxLength:
			errs = append(errs, field.TooLong(path.Index(i), name, maxLength))
		case seen[name]:
			errs = append(errs, field.Duplicate(path.Index(i), name))
		}
		seen[name] = true
	}
	return errs
}

func validateSelectors(path *field.Path, selectors []metav1.LabelSelector) field.ErrorList {
	var errs field.ErrorList
	if len(selectors) > maxSelectors {
		errs = append(errs, field.TooMany(path, len(selectors), maxSelectors))
	}
	for i := range selectors {
		errs = append(errs, validateSelector(path.Index(i), &selectors[i])...)
	}
	return errs
}

func validateSelector(path *field.Path, selector *metav1.LabelSelector) field.ErrorList {
	return metav1validation.ValidateLabelSelector(selector, metav1validation.LabelSelectorValidationOptions{}, path)
}
