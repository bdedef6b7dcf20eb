package ipam

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/lb"
)

func TestAllocator(t *testing.T) {
	small := newPoolNamed("small", "192.0.2.10-192.0.2.11")
	big := newPoolNamed("big", "198.51.100.0-198.51.100.255")
	both := newPoolNamed("both", "192.0.2.20-192.0.2.29", "2001:db8::20-2001:db8::29")
	six := newPoolNamed("six", "2001:db8::60-2001:db8::60")
	manual := func(p *lb.Pool) { p.AutoAssign = false }
	across := func(p *lb.Pool) { p.ShareAcross = true }
	quota := func(n int) func(*lb.Pool) { return func(p *lb.Pool) { p.MaxPerNamespace = n } }
	prod := func(p *lb.Pool) { p.Namespaces = []string{"prod"} }

	for name, steps := range map[string][]step{
		"lowest first, entry by entry": {
			pools(newPoolNamed("p", "192.0.2.9-192.0.2.9", "192.0.2.1-192.0.2.2")),
			ensure(service("a"), "p", "192.0.2.9"), ensure(service("b"), "p", "192.0.2.1"), ensure(service("c"), "p", "192.0.2.2"),
			ensure(service("a"), "p", "192.0.2.9"),
		},
		"no pools":  {refuse(service("a"), lb.NoPools, "create one")},
		"no admits": {pools(with(small, prod)), refuse(service("a"), lb.NoPoolAdmits, "serviceAllocation")},
		"not unasked": {
			pools(with(small, manual)),
			refuse(service("a"), lb.NoPoolAdmits, "autoAssign"),
			ensure(service("a", fromPool("small")), "small", "192.0.2.10"),
			ensure(service("b", asks("192.0.2.11")), "small", "192.0.2.11"),
		},
		"exhausted, then served when one is free": {
			pools(small),
			ensure(service("a"), "small", "192.0.2.10"), ensure(service("b"), "small", "192.0.2.11"),
			refuse(service("c"), lb.PoolExhausted, "(small)"),
			{release: "a"},
			ensure(service("c"), "small", "192.0.2.10"),
		},
		"priority, then pools for some, then name": {
			pools(newPoolNamed("a", "192.0.2.1-192.0.2.1"), newPoolNamed("b", "192.0.2.2-192.0.2.2"),
				with(newPoolNamed("c", "192.0.2.3-192.0.2.3"), func(p *lb.Pool) { p.ServiceSelectors = []lb.Selector{{}} }),
				with(newPoolNamed("d", "192.0.2.4-192.0.2.4"), func(p *lb.Pool) { p.Priority = 20 }),
				with(newPoolNamed("e", "192.0.2.5-192.0.2.5"), func(p *lb.Pool) { p.Priority = 3 })),
			ensure(service("s1"), "e", "192.0.2.5"), ensure(service("s2"), "d", "192.0.2.4"), ensure(service("s3"), "c", "192.0.2.3"),
			ensure(service("s4"), "a", "192.0.2.1"), ensure(service("s5"), "b", "192.0.2.2"),
		},
		"a full pool for some spills over to one for all, in the order of the names": {
			pools(with(small, func(p *lb.Pool) { p.Namespaces = []string{"default"} }), newPoolNamed("z", "203.0.113.1-203.0.113.1"), big),
			ensure(service("a"), "small", "192.0.2.10"), ensure(service("b"), "small", "192.0.2.11"),
			ensure(service("c"), "big", "198.51.100.0"), ensure(service("d", in("other")), "big", "198.51.100.1"),
		},
		"buggy addresses": {
			pools(with(newPoolNamed("p", "192.0.2.254-192.0.3.1"), func(p *lb.Pool) { p.AvoidBuggyIPs = true })),
			ensure(service("a"), "p", "192.0.2.254"), ensure(service("b"), "p", "192.0.3.1"),
			refuse(service("c"), lb.PoolExhausted, ""),
			refuse(service("c", asks("192.0.3.0")), lb.AddressBuggy, "192.0.3.0"),
		},
		"buggy address that was in use before is kept, and not given out again": {
			adopt(service("a", has("p", "192.0.2.0")), ""),
			pools(with(newPoolNamed("p", "192.0.2.0-192.0.2.0"), func(p *lb.Pool) { p.AvoidBuggyIPs = true })),
			ensure(service("a"), "p", "192.0.2.0"),
			{release: "a"},
			refuse(service("b"), lb.PoolExhausted, ""),
		},
		"requested address": {
			pools(small, big),
			ensure(service("a", asks("198.51.100.7")), "big", "198.51.100.7"),
			refuse(service("b", asks("198.51.100.7")), lb.AddressInUse, "default/a"),
			refuse(service("b", asks("203.0.113.1")), lb.AddressNotInPool, "203.0.113.1"),
			refuse(service("b", asks("192.0.2.10"), fromPool("big")), lb.AddressNotInPool, `pool "big"`),
			refuse(service("b", asks("2001:db8::1")), lb.FamilyMismatch, "IPv6"),
			ensure(service("b", asks("198.51.100.8"), fromPool("big")), "big", "198.51.100.8"),
		},
		"requested address moves, and stays if it cannot": {
			pools(small, big),
			ensure(service("a"), "big", "198.51.100.0"),
			ensure(service("a", asks("192.0.2.11")), "small", "192.0.2.11"),
			ensure(service("b", asks("192.0.2.10")), "small", "192.0.2.10"),
			refuse(service("a", asks("192.0.2.10")), lb.AddressInUse, "default/b", "192.0.2.11").inPool("small"),
			ensure(service("a"), "small", "192.0.2.11"),
		},
		"requested pool": {
			pools(small, with(big, prod)),
			refuse(service("a", fromPool("nope")), lb.UnknownPool, `"nope"`),
			refuse(service("a", fromPool("big")), lb.PoolRefuses, `"big"`),
			refuse(service("a", asks("198.51.100.1")), lb.PoolRefuses, `"big"`),
			pools(small, big),
			ensure(service("a"), "big", "198.51.100.0"),
			ensure(service("a", fromPool("small")), "small", "192.0.2.10"),
			refuse(service("a", fromPool("nope")), lb.UnknownPool, `"nope"`, "192.0.2.10").inPool("small"),
		},
		"a pool edited or deleted under a Service takes nothing away": {
			pools(small, big),
			ensure(service("a", fromPool("small")), "small", "192.0.2.10"), ensure(service("b", asks("192.0.2.11")), "small", "192.0.2.11"), ensure(service("c"), "big", "198.51.100.0"),
			pools(big),
			refuse(service("a", fromPool("small")), lb.AddressOutsidePools, "192.0.2.10", "192.0.2.10").inPool("small"),
			refuse(service("b", asks("192.0.2.11")), lb.AddressOutsidePools, "", "192.0.2.11").inPool("small"),
			pools(with(small, prod)),
			refuse(service("a", fromPool("small")), lb.AddressOutsidePools, `"small"`, "192.0.2.10").inPool("small"),
			refuse(service("c"), lb.AddressOutsidePools, "fairlead.dev/release", "198.51.100.0").inPool("big"),
			pools(newPoolNamed("renamed", "192.0.2.0-192.0.2.100")),
			refuse(service("a", fromPool("small")), "", "", "192.0.2.10").inPool("small"),
			ensure(service("b", asks("192.0.2.11")), "renamed", "192.0.2.11"),
			ensure(service("d", asks("192.0.2.12")), "renamed", "192.0.2.12"),
			refuse(service("e", asks("192.0.2.10")), lb.AddressInUse, "default/a"),
		},
		"rest": {
			pools(small),
			ensure(service("a"), "small", "192.0.2.10"),
			{release: "a"},
			ensure(service("b"), "small", "192.0.2.11").at(30 * time.Second), // .10 rests
			{release: "b", after: 30 * time.Second},
			ensure(service("c"), "small", "192.0.2.10").at(40 * time.Second), // both rest: the longer one
			{release: "c", after: 40 * time.Second},
			ensure(service("d"), "small", "192.0.2.11").at(95 * time.Second), // has rested
			ensure(service("e"), "small", "192.0.2.10").at(96 * time.Second),
		},
		"rest per pool": {
			pools(restful("none", 0, "192.0.2.1-192.0.2.2"), restful("long", time.Hour, "198.51.100.1-198.51.100.2")),
			ensure(service("a", fromPool("none")), "none", "192.0.2.1"), ensure(service("b", fromPool("long")), "long", "198.51.100.1"),
			{release: "a"}, {release: "b"},
			ensure(service("c", fromPool("none")), "none", "192.0.2.1"),
			ensure(service("d", fromPool("long")), "long", "198.51.100.2").at(59 * time.Minute),
			{release: "d", after: 59 * time.Minute},
			ensure(service("e", fromPool("long")), "long", "198.51.100.1").at(60 * time.Minute),
		},
		"rest of an address that two pools hold": {
			pools(restful("long", time.Hour, "192.0.2.1-192.0.2.2"), restful("short", time.Minute, "192.0.2.1-192.0.2.3")),
			ensure(service("a", fromPool("short")), "short", "192.0.2.1"),
			{release: "a"},
			ensure(service("b", fromPool("short")), "short", "192.0.2.1").at(time.Minute),
			{release: "b", after: time.Minute},
			ensure(service("c", fromPool("short"), asks("192.0.2.3")), "short", "192.0.2.3").at(time.Minute),
			ensure(service("d", fromPool("short"), asks("192.0.2.2")), "short", "192.0.2.2").at(time.Minute),
			{release: "d", after: 2 * time.Minute},
			ensure(service("d", fromPool("short")), "short", "192.0.2.1").at(2 * time.Minute),
			ensure(service("e", fromPool("long")), "long", "192.0.2.2").at(30 * time.Minute),
		},
		"rest that an edit lengthens or shortens": {
			pools(restful("p", time.Minute, "192.0.2.1-192.0.2.3")),
			ensure(service("a"), "p", "192.0.2.1"), ensure(service("b"), "p", "192.0.2.2"),
			{release: "a"}, {release: "b", after: 30 * time.Second},
			{pools: []lb.Pool{restful("p", time.Hour, "192.0.2.1-192.0.2.3")}, after: time.Minute},
			ensure(service("c"), "p", "192.0.2.1").at(time.Minute), // had rested
			ensure(service("d"), "p", "192.0.2.3").at(10 * time.Minute),
			{release: "d", after: 10 * time.Minute},
			{pools: []lb.Pool{restful("p", 0, "192.0.2.1-192.0.2.3")}, after: 10 * time.Minute},
			ensure(service("e"), "p", "192.0.2.2").at(10 * time.Minute),
			ensure(service("f"), "p", "192.0.2.3").at(10 * time.Minute),
		},
		"rest survives an edit of the pools": {
			pools(small),
			ensure(service("a"), "small", "192.0.2.10"),
			{release: "a"},
			pools(small, big),
			ensure(service("b", fromPool("small")), "small", "192.0.2.11").at(time.Second),
			ensure(service("a", asks("192.0.2.10")), "small", "192.0.2.10").at(2 * time.Second), // asked for by name
		},
		"release moves to what today's pools give, and the old address rests": {
			pools(small),
			ensure(service("a"), "small", "192.0.2.10"),
			ensure(service("a", released), "small", "192.0.2.11"),
			refuse(service("a", released, fromPool("nope")), lb.UnknownPool, "not released yet", "192.0.2.11").inPool("small"),
			ensure(service("b"), "small", "192.0.2.10"), // rests, but is the last one
		},
		"release is the way out of a pool that has gone": {
			pools(small),
			ensure(service("a"), "small", "192.0.2.10"),
			pools(),
			refuse(service("a", released), lb.NoPools, "not released yet", "192.0.2.10").inPool("small"),
			pools(big),
			refuse(service("a"), lb.AddressOutsidePools, "fairlead.dev/release", "192.0.2.10").inPool("small"),
			ensure(service("a", released), "big", "198.51.100.0"),
			ensure(service("a"), "big", "198.51.100.0"),
		},
		"release waits for another address, but takes its own if asked by name": {
			pools(newPoolNamed("one", "192.0.2.1-192.0.2.1")),
			ensure(service("a"), "one", "192.0.2.1"),
			refuse(service("a", released), lb.PoolExhausted, "not released yet", "192.0.2.1").inPool("one"),
			ensure(service("a", released, asks("192.0.2.1")), "one", "192.0.2.1"),
			refuse(service("new", released, asks("192.0.2.1")), lb.AddressInUse, "default/a"),
		},
		"release of a sharer leaves the others where they are": {
			pools(small),
			ensure(service("a", shares("k"), port(80)), "small", "192.0.2.10"),
			ensure(service("a", shares("k"), port(80), released), "small", "192.0.2.11"), // not back to its own
			ensure(service("b", shares("k"), port(81)), "small", "192.0.2.11"),
			ensure(service("b", shares("m"), port(81), released), "small", "192.0.2.10"),
			ensure(service("a", shares("k"), port(80)), "small", "192.0.2.11"),
		},
		"release of two families": {
			pools(both),
			ensure(service("a", dual(lb.RequireDualStack)), "both", "192.0.2.20", "2001:db8::20"),
			ensure(service("a", dual(lb.RequireDualStack), released), "both", "192.0.2.21", "2001:db8::21"),
		},
		"quota per namespace": {
			pools(with(big, quota(2)), with(small, func(p *lb.Pool) { p.Priority = 1; p.MaxPerNamespace = 1 })),
			ensure(service("a"), "small", "192.0.2.10"), ensure(service("b"), "big", "198.51.100.0"), ensure(service("c"), "big", "198.51.100.1"),
			refuse(service("d"), lb.QuotaExceeded, `namespace "default" owns 1 addresses of pool "small", which allows it 1`),
			refuse(service("d", fromPool("big")), lb.QuotaExceeded, `pool "big", which allows it 2, and this Service wants 1 more`),
			refuse(service("d", asks("198.51.100.9")), lb.QuotaExceeded, "maxAddressesPerNamespace"),
			ensure(service("e", in("other")), "small", "192.0.2.11"),
			ensure(service("b", asks("198.51.100.7")), "big", "198.51.100.7"), // gives up as much as it takes
			ensure(service("b", released), "big", "198.51.100.2"),
			refuse(service("b", asks("192.0.2.10")), lb.AddressInUse, "", "198.51.100.2").inPool("big"),
			{release: "a"},
			ensure(service("d"), "small", "192.0.2.10"),
		},
		"quota: lowered, it takes nothing away; adopted addresses count": {
			pools(with(big, quota(1))),
			adopt(service("a", has("big", "198.51.100.0")), ""), adopt(service("b", has("big", "198.51.100.1")), ""),
			ensure(service("a"), "big", "198.51.100.0"), ensure(service("b"), "big", "198.51.100.1"),
			refuse(service("c"), lb.QuotaExceeded, "owns 2"),
			{release: "a"},
			refuse(service("c"), lb.QuotaExceeded, "owns 1"),
			ensure(service("b", asks("198.51.100.5")), "big", "198.51.100.5"),
			pools(big),
			ensure(service("c"), "big", "198.51.100.2"),
		},
		"quota: a shared address counts once in each namespace": {
			pools(with(big, quota(1), across)),
			ensure(service("a", shares("k"), port(80)), "big", "198.51.100.0"),
			ensure(service("b", shares("k"), port(81)), "big", "198.51.100.0"),
			ensure(service("c", in("other"), shares("k"), port(82)), "big", "198.51.100.0"),
			refuse(service("d", in("other")), lb.QuotaExceeded, `"other" owns 1`),
			{release: "a"},
			refuse(service("e"), lb.QuotaExceeded, `"default" owns 1`),
			{release: "b"},
			ensure(service("e"), "big", "198.51.100.1"),
		},
		"quota: two families": {
			pools(with(both, quota(3))),
			ensure(service("a", dual(lb.RequireDualStack)), "both", "192.0.2.20", "2001:db8::20"),
			refuse(service("b", dual(lb.RequireDualStack)), lb.QuotaExceeded, ""),
			ensure(service("b", dual(lb.PreferDualStack)), "both", "192.0.2.21"),
			refuse(service("b", dual(lb.RequireDualStack)), lb.QuotaExceeded, "wants 1 more", "192.0.2.21").inPool("both"),
			refuse(service("b", dual(lb.RequireDualStack), asks("192.0.2.25")), lb.QuotaExceeded, "wants 1 more", "192.0.2.21").inPool("both"),
		},
		"recreated Service does not inherit": {
			pools(small),
			ensure(service("a"), "small", "192.0.2.10"),
			ensure(service("a", uid("other")), "small", "192.0.2.11"),
		},
		"restart": {
			pools(small),
			adopt(service("a", has("small", "192.0.2.11")), ""),
			adopt(service("b", has("gone", "203.0.113.9")), ""),
			adopt(service("c", has("small", "192.0.2.11")), lb.AddressInUse),
			ensure(service("d"), "small", "192.0.2.10"),
			ensure(service("a"), "small", "192.0.2.11"),
			refuse(service("b"), lb.AddressOutsidePools, "203.0.113.9", "203.0.113.9").inPool("gone"),
			refuse(service("c", has("small", "192.0.2.11")), lb.PoolExhausted, ""),
		},
		"becomes ours with an address": {
			pools(small),
			ensure(service("a", has("", "192.0.2.11")), "small", "192.0.2.11"),
			ensure(service("b", has("", "203.0.113.1")), "small", "192.0.2.10"), // another implementation's
		},
		"sharing": {
			pools(small),
			ensure(service("a", shares("k"), port(80)), "small", "192.0.2.10"),
			ensure(service("b", shares("k"), port(81)), "small", "192.0.2.10"),
			ensure(service("c", shares("k"), port(80)), "small", "192.0.2.11"), // the port is taken there
			refuse(service("d", shares("k"), port(80), asks("192.0.2.10")), lb.SharingConflict, "80/TCP"),
			refuse(service("d", shares("x"), port(82), asks("192.0.2.10")), lb.SharingConflict, "allow-shared-ip"),
			refuse(service("d", port(82), asks("192.0.2.10")), lb.AddressInUse, "allow-shared-ip"),
			refuse(service("d", shares("k"), port(82), localPods("app=x"), asks("192.0.2.10")), lb.SharingConflict, "externalTrafficPolicy"),
			ensure(service("d", shares("k"), port(82), asks("192.0.2.10")), "small", "192.0.2.10"),
			{release: "a"}, {release: "b"},
			refuse(service("e"), lb.PoolExhausted, ""), // d still has it
		},
		"sharing: the lowest address at which the port is free again": {
			pools(big),
			ensure(service("a", shares("k")), "big", "198.51.100.0"), ensure(service("b", shares("k")), "big", "198.51.100.1"),
			ensure(service("c", shares("k")), "big", "198.51.100.2"), ensure(service("x", shares("k"), port(81), asks("198.51.100.1")), "big", "198.51.100.1"),
			{release: "b"},
			ensure(service("d", shares("k")), "big", "198.51.100.1"),
		},
		"sharing with Local needs the same pods": {
			pools(small),
			ensure(service("a", shares("k"), port(80), localPods("app=x")), "small", "192.0.2.10"),
			ensure(service("b", shares("k"), port(81), localPods("app=x")), "small", "192.0.2.10"),
			refuse(service("c", shares("k"), port(82), localPods("app=y"), asks("192.0.2.10")), lb.SharingConflict, ""),
			refuse(service("d", shares("k"), port(83), localPods(""), asks("192.0.2.10")), lb.SharingConflict, ""),
		},
		"sharing: a sole owner may change its key, a sharer who breaks the rules moves": {
			pools(small),
			ensure(service("a", shares("k"), port(80)), "small", "192.0.2.10"),
			ensure(service("a", shares("m"), port(80)), "small", "192.0.2.10"),
			ensure(service("b", shares("m"), port(81)), "small", "192.0.2.10"),
			ensure(service("b", shares("m"), port(80)), "small", "192.0.2.11"),
			ensure(service("a", shares("m"), port(80)), "small", "192.0.2.10"),
		},
		"sharing across namespaces": {
			pools(small),
			ensure(service("a", shares("k"), port(80)), "small", "192.0.2.10"),
			ensure(service("b", in("other"), shares("k"), port(81)), "small", "192.0.2.11"),
			refuse(service("c", in("third"), shares("k"), port(82), asks("192.0.2.10")), lb.SharingConflict, "spec.allowCrossNamespaceSharing"),
			refuse(service("c", in("third"), shares("k"), port(82)), lb.PoolExhausted, ""),
			pools(with(small, across)),
			ensure(service("c", in("third"), shares("k"), port(82)), "small", "192.0.2.10"),
			ensure(service("d", in("third"), shares("k"), port(82), asks("192.0.2.11")), "small", "192.0.2.11"),
			pools(small), // takes nothing away
			ensure(service("a", shares("k"), port(80)), "small", "192.0.2.10"),
			ensure(service("c", in("third"), shares("k"), port(82)), "small", "192.0.2.10"),
			ensure(service("d", in("third"), shares("k"), port(82), asks("192.0.2.11")), "small", "192.0.2.11"),
			ensure(service("d", in("third"), shares("k"), port(84), asks("192.0.2.11")), "small", "192.0.2.11"),
		},
		"sharing across namespaces that a restart finds": {
			pools(small),
			adopt(service("a", shares("k"), port(80), has("small", "192.0.2.10")), ""),
			adopt(service("b", in("other"), shares("k"), port(81), has("small", "192.0.2.10")), ""),
			ensure(service("b", in("other"), shares("k"), port(81)), "small", "192.0.2.10"),
			ensure(service("b", in("other"), shares("k"), port(81), released), "small", "192.0.2.11"),
		},
		"dual stack": {
			pools(small, both, six),
			ensure(service("a", dual(lb.RequireDualStack)), "both", "192.0.2.20", "2001:db8::20"),
			ensure(service("b", dual(lb.PreferDualStack, lb.IPv6, lb.IPv4)), "both", "2001:db8::21", "192.0.2.21"),
			ensure(service("c", dual(lb.SingleStack, lb.IPv6)), "both", "2001:db8::22"),
			ensure(service("d", dual(lb.RequireDualStack), asks("192.0.2.25")), "both", "192.0.2.25", "2001:db8::23"),
			ensure(service("e", dual(lb.RequireDualStack), asks("2001:db8::29", "192.0.2.29")), "both", "192.0.2.29", "2001:db8::29"),
			refuse(service("f", dual(lb.RequireDualStack), asks("192.0.2.10")), lb.FamilyMismatch, "IPv6"),
			refuse(service("f", dual(lb.RequireDualStack), asks("192.0.2.10", "2001:db8::60")), lb.AddressNotInPool, "different pools"),
			refuse(service("f", asks("192.0.2.22", "2001:db8::24")), lb.FamilyMismatch, "2001:db8::24 is IPv6"),
		},
		"dual stack preferred, one family left": {
			pools(small, six),
			ensure(service("a", dual(lb.PreferDualStack)), "small", "192.0.2.10"),
			ensure(service("b", dual(lb.PreferDualStack, lb.IPv6, lb.IPv4)), "six", "2001:db8::60"),
			refuse(service("c", dual(lb.RequireDualStack)), lb.FamilyMismatch, "IPv4 and IPv6"),
			pools(with(small, func(p *lb.Pool) { p.Ranges = append(p.Ranges, rangeOf("2001:db8::10", "2001:db8::10")) }), six),
			ensure(service("a", dual(lb.PreferDualStack)), "small", "192.0.2.10", "2001:db8::10"), // from its own pool
		},
		"dual stack gained and given up": {
			pools(both),
			ensure(service("a"), "both", "192.0.2.20"),
			ensure(service("a", dual(lb.RequireDualStack)), "both", "192.0.2.20", "2001:db8::20"),
			ensure(service("a", dual(lb.SingleStack, lb.IPv6)), "both", "2001:db8::20"),
			ensure(service("b"), "both", "192.0.2.21"), // .20 rests
		},
		"dual stack required of a pool that has one family": {
			pools(small),
			ensure(service("a"), "small", "192.0.2.10"),
			refuse(service("a", dual(lb.RequireDualStack)), lb.FamilyMismatch, "PreferDualStack", "192.0.2.10").inPool("small"),
			pools(six),
			refuse(service("a", dual(lb.RequireDualStack)), lb.NoPoolAdmits, "other family", "192.0.2.10").inPool("small"),
		},
		"overlapping pools": {
			pools(newPoolNamed("a", "192.0.2.1-192.0.2.3"), newPoolNamed("b", "192.0.2.2-192.0.2.4")),
			ensure(service("s1", fromPool("b")), "b", "192.0.2.2"), ensure(service("s2"), "a", "192.0.2.1"),
			ensure(service("s3"), "a", "192.0.2.3"), ensure(service("s4"), "b", "192.0.2.4"),
			{release: "s1"},
			ensure(service("s5"), "a", "192.0.2.2"),
			refuse(service("s6"), lb.PoolExhausted, "(a, b)"),
		},
		"a /64 and more": {
			pools(newPoolNamed("p", "2001:db8::-2001:dbf:ffff:ffff:ffff:ffff:ffff:ffff")),
			ensure(service("a", dual(lb.SingleStack, lb.IPv6)), "p", "2001:db8::"),
			ensure(service("b", dual(lb.SingleStack, lb.IPv6), asks("2001:dbf::1")), "p", "2001:dbf::1"),
			ensure(service("c", dual(lb.SingleStack, lb.IPv6)), "p", "2001:db8::1"),
		},
	} {
		t.Run(name, func(t *testing.T) { run(t, steps) })
	}
}

func TestUsage(t *testing.T) {
	a := New(restTime)
	a.SetPools([]lb.Pool{
		newPoolNamed("b", "192.0.2.0-192.0.2.255", "2001:db8::-2001:db8::ffff:ffff:ffff:ffff"),
		with(newPoolNamed("a", "198.51.100.0-198.51.100.255"), func(p *lb.Pool) { p.AvoidBuggyIPs = true }),
	}, epoch)
	a.Adopt(service("odd", has("a", "198.51.100.0")))
	a.Adopt(service("outside", has("x", "203.0.113.1")))
	a.Ensure(service("s1"), epoch)
	a.Ensure(service("s2", fromPool("b"), dual(lb.RequireDualStack)), epoch)
	a.Ensure(service("s3"), epoch)
	a.Release(service("s3").Key, epoch)
	want := []Usage{
		{Pool: "a", IPv4: Count{Total: 255, Assigned: 2, Available: 253, Resting: 1}},
		{Pool: "b", IPv4: Count{Total: 256, Assigned: 1, Available: 255}, IPv6: Count{Total: math.MaxInt64, Assigned: 1, Available: math.MaxInt64}},
	}
	if diff := cmp.Diff(want, a.Usage(epoch.Add(restTime-1))); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
	if n := a.Usage(epoch.Add(restTime))[0].IPv4.Resting; n != 0 {
		t.Errorf("%d still rest", n)
	}
}
