package ipam

import (
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// TestSeveralPerFamily is about Services that want several addresses of a family.
func TestSeveralPerFamily(t *testing.T) {
	four := newPoolNamed("four", "192.0.2.1-192.0.2.4")
	six := newPoolNamed("six", "2001:db8::1-2001:db8::6")
	both := newPoolNamed("both", "198.51.100.1-198.51.100.9", "2001:db8:1::1-2001:db8:1::2")
	manual := func(p *lb.Pool) { p.AutoAssign = false }
	quota := func(n int) func(*lb.Pool) { return func(p *lb.Pool) { p.MaxPerNamespace = n } }

	for name, steps := range map[string][]step{
		"raised and lowered: the first stay": {
			pools(four),
			ensure(service("a"), "four", "192.0.2.1"), ensure(service("b"), "four", "192.0.2.2"),
			ensure(service("a", each(3)), "four", "192.0.2.1", "192.0.2.3", "192.0.2.4"),
			ensure(service("a", each(2)), "four", "192.0.2.1", "192.0.2.3"),
			ensure(service("a"), "four", "192.0.2.1"),
		},
		"fewer than wanted, then the rest": {
			pools(four),
			ensure(service("a"), "four", "192.0.2.1"), ensure(service("b"), "four", "192.0.2.2"),
			short(service("c", each(3)), "four", lb.PoolExhausted, `has 2 of 3 IPv4 addresses: pool "four"`, "192.0.2.3", "192.0.2.4"),
			short(service("d", each(2)), "", lb.PoolExhausted, "(four)"),
			{release: "a"},
			ensure(service("c", each(3)), "four", "192.0.2.3", "192.0.2.4", "192.0.2.1"),
		},
		"a pool that has all goes before one that has some": {
			pools(newPoolNamed("a", "203.0.113.1-203.0.113.2"), four),
			ensure(service("s", each(3)), "four", "192.0.2.1", "192.0.2.2", "192.0.2.3"),
		},
		"some of the first pool where none has all": {
			pools(newPoolNamed("a", "203.0.113.1-203.0.113.1"), with(four, func(p *lb.Pool) { p.Priority = 1 })),
			short(service("s", each(5)), "four", lb.PoolExhausted, "has 4 of 5 IPv4", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"),
		},
		"two families: the first of each come first": {
			pools(both),
			ensure(service("a", each(2), dual(lb.RequireDualStack)), "both", "198.51.100.1", "2001:db8:1::1", "198.51.100.2", "2001:db8:1::2"),
			ensure(service("a", dual(lb.RequireDualStack)), "both", "198.51.100.1", "2001:db8:1::1"),
			short(service("a", each(3), dual(lb.RequireDualStack)), "both", lb.PoolExhausted, "has 2 of 3 IPv6", "198.51.100.1", "2001:db8:1::1", "198.51.100.3", "2001:db8:1::2", "198.51.100.4").at(time.Second),
			refuse(service("b", each(2), dual(lb.RequireDualStack)), lb.PoolExhausted, "IPv4 and IPv6"), // none at all before one of each
			ensure(service("c", each(2), dual(lb.PreferDualStack)), "both", "198.51.100.5", "198.51.100.6").at(time.Second),
		},
		"two families required later: no more of one before there is one of the other": {
			pools(four),
			ensure(service("a"), "four", "192.0.2.1"),
			refuse(service("a", each(2), dual(lb.RequireDualStack)), lb.FamilyMismatch, "has no IPv6", "192.0.2.1").inPool("four"),
			ensure(service("a", each(2), dual(lb.PreferDualStack)), "four", "192.0.2.1", "192.0.2.2"),
		},
		"one family given up frees all of it": {
			pools(both),
			ensure(service("a", each(2), dual(lb.PreferDualStack)), "both", "198.51.100.1", "2001:db8:1::1", "198.51.100.2", "2001:db8:1::2"),
			ensure(service("a", each(2), dual(lb.SingleStack, lb.IPv6)), "both", "2001:db8:1::1", "2001:db8:1::2"),
		},
		"several by name": {
			pools(four, six),
			ensure(service("a", asks("192.0.2.4", "192.0.2.2")), "four", "192.0.2.4", "192.0.2.2"),
			ensure(service("a", asks("192.0.2.2", "192.0.2.4")), "four", "192.0.2.4", "192.0.2.2"), // what is there keeps its place
			ensure(service("a", asks("192.0.2.2"), each(2)), "four", "192.0.2.4", "192.0.2.2"),
			ensure(service("a", asks("192.0.2.2")), "four", "192.0.2.2"),                       // the one that is named stays
			ensure(service("a", asks("192.0.2.3"), each(2)), "four", "192.0.2.2", "192.0.2.3"), // the first stays first
			refuse(service("b", asks("192.0.2.1", "192.0.2.3")), lb.AddressInUse, "192.0.2.3 belongs to Service default/a"),
			refuse(service("b", asks("192.0.2.1", "2001:db8::1"), dual(lb.RequireDualStack)), lb.AddressNotInPool, "192.0.2.1 and 2001:db8::1 are in different pools"),
		},
		"one by name, another beside it": {
			pools(four),
			ensure(service("a", asks("192.0.2.1"), each(2)), "four", "192.0.2.1", "192.0.2.2"),
		},
		"several by name, each family its own number": {
			pools(both),
			ensure(service("a", asks("198.51.100.5", "198.51.100.7"), dual(lb.RequireDualStack)), "both", "198.51.100.5", "2001:db8:1::1", "198.51.100.7"),
		},
		"resting addresses, several at once": {
			pools(four),
			ensure(service("a", each(2)), "four", "192.0.2.1", "192.0.2.2"), ensure(service("b"), "four", "192.0.2.3"),
			{release: "b"}, {release: "a", after: time.Second},
			ensure(service("c", each(4)), "four", "192.0.2.4", "192.0.2.3", "192.0.2.1", "192.0.2.2").at(2 * time.Second),
		},
		"several, shared": {
			pools(four),
			ensure(service("a", each(2), shares("k"), port(80)), "four", "192.0.2.1", "192.0.2.2"),
			ensure(service("b", each(3), shares("k"), port(81)), "four", "192.0.2.1", "192.0.2.2", "192.0.2.3"),
			ensure(service("a", shares("k"), port(80)), "four", "192.0.2.1"),
			ensure(service("a", each(3), shares("k"), port(80)), "four", "192.0.2.1", "192.0.2.2", "192.0.2.3"),
		},
		"several, released": {
			pools(four),
			ensure(service("a", each(2)), "four", "192.0.2.1", "192.0.2.2"),
			ensure(service("a", each(2), released), "four", "192.0.2.3", "192.0.2.4"),
			{release: "none"},
			ensure(service("b"), "four", "192.0.2.1"),
			refuse(service("a", each(2), released), lb.PoolExhausted, "not released yet: has 1 of 2", "192.0.2.3", "192.0.2.4").inPool("four"),
		},
		"a restart changes nothing": {
			pools(four),
			adopt(service("a", each(2), has("four", "192.0.2.3", "192.0.2.1")), ""),
			ensure(service("a", each(2)), "four", "192.0.2.3", "192.0.2.1"),
			adopt(service("b", has("four", "192.0.2.2", "192.0.2.4")), ""),
			ensure(service("b"), "four", "192.0.2.2"),
		},
		"their pool has gone": {
			pools(four),
			ensure(service("a", each(2)), "four", "192.0.2.1", "192.0.2.2"),
			pools(six),
			refuse(service("a", each(2)), lb.AddressOutsidePools, "", "192.0.2.1", "192.0.2.2").inPool("four"),
			refuse(service("a", each(3)), lb.NoPoolAdmits, "has 2 of 3 IPv4 addresses: 192.0.2.1 is in no pool", "192.0.2.1", "192.0.2.2").inPool("four"),
		},
		"quota of a pool": {
			pools(with(four, quota(3))),
			ensure(service("a", each(2)), "four", "192.0.2.1", "192.0.2.2"),
			short(service("b", each(2)), "four", lb.QuotaExceeded, `has 1 of 2 IPv4 addresses: namespace "default" owns 2 addresses of pool "four"`, "192.0.2.3"),
			ensure(service("c", in("other")), "four", "192.0.2.4"),
			{release: "a"},
			ensure(service("b", each(2)), "four", "192.0.2.3", "192.0.2.1"),
		},
		"quota and two families: one of each before the second of one": {
			pools(with(both, quota(3))),
			short(service("a", each(2), dual(lb.RequireDualStack)), "both", lb.QuotaExceeded, "has 1 of 2 IPv6", "198.51.100.1", "2001:db8:1::1", "198.51.100.2"),
		},
		"a pool by name": {
			pools(with(four, manual), both),
			ensure(service("a", each(2)), "both", "198.51.100.1", "198.51.100.2"),
			ensure(service("a", each(2), fromPool("four")), "four", "192.0.2.1", "192.0.2.2"),
		},
	} {
		t.Run(name, func(t *testing.T) { run(t, steps) })
	}
}

// TestFamilyChanges takes one Service through every change of ipFamilyPolicy and ipFamilies that the API server allows, and
// some that it does not.
func TestFamilyChanges(t *testing.T) {
	both := newPoolNamed("both", "192.0.2.1-192.0.2.9", "2001:db8::1-2001:db8::9")
	const four, six = "192.0.2.1", "2001:db8::1"
	only4 := service("s", dual(lb.SingleStack, lb.IPv4))
	only6 := service("s", dual(lb.SingleStack, lb.IPv6))
	for _, policy := range []lb.FamilyPolicy{lb.PreferDualStack, lb.RequireDualStack} {
		fourSix, sixFour := service("s", dual(policy, lb.IPv4, lb.IPv6)), service("s", dual(policy, lb.IPv6, lb.IPv4))
		for name, steps := range map[string][]step{
			"IPv4 gains IPv6":                 {ensure(only4, "both", four), ensure(fourSix, "both", four, six)},
			"IPv6 gains IPv4":                 {ensure(only6, "both", six), ensure(sixFour, "both", six, four)},
			"IPv6 is given up":                {ensure(fourSix, "both", four, six), ensure(only4, "both", four), ensure(fourSix, "both", four, "2001:db8::2")},
			"IPv4 is given up":                {ensure(sixFour, "both", six, four), ensure(only6, "both", six), ensure(sixFour, "both", six, "192.0.2.2")},
			"the primary family is given up":  {ensure(fourSix, "both", four, six), ensure(only6, "both", six)},
			"the order is swapped":            {ensure(fourSix, "both", four, six), ensure(sixFour, "both", six, four), ensure(fourSix, "both", four, six)},
			"SingleStack lists both families": {ensure(fourSix, "both", four, six), ensure(service("s", dual(lb.SingleStack, lb.IPv4, lb.IPv6)), "both", four)},
			"one family for the other":        {ensure(only4, "both", four), ensure(only6, "both", six), ensure(only4, "both", "192.0.2.2")},
			"dual stack of one family":        {ensure(service("s", dual(policy, lb.IPv4)), "both", four), ensure(fourSix, "both", four, six)},
			"the policy alone changes": {
				ensure(fourSix, "both", four, six), ensure(service("s", dual(lb.RequireDualStack)), "both", four, six),
				ensure(service("s", dual(lb.PreferDualStack)), "both", four, six),
			},
		} {
			t.Run(string(policy)+": "+name, func(t *testing.T) { run(t, append([]step{pools(both)}, steps...)) })
		}
	}
	one := newPoolNamed("one", "192.0.2.1-192.0.2.1", "2001:db8::1-2001:db8::1")
	onlyFour := newPoolNamed("four", "198.51.100.1-198.51.100.9")
	for name, steps := range map[string][]step{
		"required, but the other family is used up: keeps what it has": {
			pools(one), ensure(service("x", dual(lb.SingleStack, lb.IPv6)), "one", six), ensure(only4, "one", four),
			refuse(service("s", dual(lb.RequireDualStack)), lb.PoolExhausted, "no IPv6 address left", four).inPool("one"),
			ensure(service("s", dual(lb.PreferDualStack)), "one", four),
			{release: "x"},
			ensure(service("s", dual(lb.PreferDualStack)), "one", four, six),
		},
		"the pool loses a family: both addresses stay": {
			pools(both), ensure(service("s", dual(lb.PreferDualStack)), "both", four, six),
			pools(newPoolNamed("both", "192.0.2.1-192.0.2.9")),
			refuse(service("s", dual(lb.PreferDualStack)), lb.AddressOutsidePools, six, four, six).inPool("both"),
			refuse(service("s", dual(lb.RequireDualStack)), lb.AddressOutsidePools, six, four, six).inPool("both"),
		},
		"from one family to the other that its pool lacks: another pool": {
			pools(onlyFour, one), ensure(only4, "four", "198.51.100.1"), ensure(only6, "one", six),
		},
		"from one family to the other that no pool has": {
			pools(onlyFour), ensure(only4, "four", "198.51.100.1"), refuse(only6, lb.FamilyMismatch, "IPv6").inPool("four"),
		},
	} {
		t.Run(name, func(t *testing.T) { run(t, steps) })
	}
}

// TestNamespaceQuota is about the quota over all pools.
func TestNamespaceQuota(t *testing.T) {
	a, b := newPoolNamed("a", "192.0.2.1-192.0.2.1"), newPoolNamed("b", "198.51.100.1-198.51.100.9")
	across := func(p *lb.Pool) { p.ShareAcross = true }
	const way = "raise annotation fairlead.dev/max-addresses of the Namespace"
	for name, steps := range map[string][]step{
		"counts every pool": {
			pools(a, b),
			ensure(service("s1", mayOwn(2)), "a", "192.0.2.1"), ensure(service("s2", mayOwn(2)), "b", "198.51.100.1"),
			refuse(service("s3", mayOwn(2)), lb.QuotaExceeded, `namespace "default" owns 2 addresses of all pools together, its quota is 2, and this Service wants 1 more`),
			refuse(service("s3", mayOwn(2), asks("198.51.100.7")), lb.QuotaExceeded, way),
			refuse(service("s3", mayOwn(2), fromPool("b")), lb.QuotaExceeded, way),
			ensure(service("s4", in("other"), mayOwn(2)), "b", "198.51.100.2"),
			ensure(service("s2", mayOwn(2), asks("198.51.100.5")), "b", "198.51.100.5"), // gives up as much as it takes
			{release: "s1"},
			ensure(service("s3", mayOwn(2)), "a", "192.0.2.1"),
		},
		"lowered, it takes nothing away; raised or lifted, it gives": {
			pools(a, b),
			adopt(service("s1", mayOwn(1), has("a", "192.0.2.1")), ""), adopt(service("s2", mayOwn(1), has("b", "198.51.100.1")), ""),
			ensure(service("s1", mayOwn(1)), "a", "192.0.2.1"), ensure(service("s2", mayOwn(1)), "b", "198.51.100.1"),
			refuse(service("s3", mayOwn(1)), lb.QuotaExceeded, "owns 2"),
			ensure(service("s3", mayOwn(3)), "b", "198.51.100.2"),
			refuse(service("s4", mayOwn(3)), lb.QuotaExceeded, "owns 3"),
			ensure(service("s4"), "b", "198.51.100.3"),
		},
		"a shared address counts once per namespace": {
			pools(with(b, across)),
			ensure(service("s1", mayOwn(1), shares("k"), port(80)), "b", "198.51.100.1"),
			ensure(service("s2", mayOwn(1), shares("k"), port(81)), "b", "198.51.100.1"),
			ensure(service("s3", in("other"), mayOwn(1), shares("k"), port(82)), "b", "198.51.100.1"),
			refuse(service("s4", in("other"), mayOwn(1)), lb.QuotaExceeded, `"other" owns 1`),
			{release: "s1"},
			refuse(service("s5", mayOwn(1)), lb.QuotaExceeded, `"default" owns 1`),
			{release: "s2"},
			ensure(service("s5", mayOwn(1)), "b", "198.51.100.2"),
		},
		"several per family: what the quota allows": {
			pools(b),
			short(service("s1", mayOwn(2), each(3)), "b", lb.QuotaExceeded, "has 2 of 3 IPv4 addresses: namespace", "198.51.100.1", "198.51.100.2"),
			ensure(service("s1", mayOwn(3), each(3)), "b", "198.51.100.1", "198.51.100.2", "198.51.100.3"),
		},
		"an address outside every pool counts": {
			pools(b),
			adopt(service("s1", has("gone", "203.0.113.1")), ""),
			refuse(service("s2", mayOwn(1)), lb.QuotaExceeded, "owns 1"),
		},
		"the tighter of two quotas is named": {
			pools(with(b, func(p *lb.Pool) { p.MaxPerNamespace = 1 })),
			ensure(service("s1", mayOwn(2)), "b", "198.51.100.1"),
			refuse(service("s2", mayOwn(2)), lb.QuotaExceeded, `of pool "b", which allows it 1`),
			refuse(service("s2", mayOwn(1)), lb.QuotaExceeded, `spec.serviceAllocation.maxAddressesPerNamespace`),
		},
	} {
		t.Run(name, func(t *testing.T) { run(t, steps) })
	}
}
