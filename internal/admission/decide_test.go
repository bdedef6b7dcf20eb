package admission

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

const home = "fairlead-system"

// pool is the pool p of Fairlead's namespace.
func pool(addresses ...string) *Pool { return named("p", addresses...) }

func named(name string, addresses ...string) *Pool {
	p := &Pool{Object: &v1beta1.IPAddressPool{Spec: v1beta1.IPAddressPoolSpec{Addresses: addresses}}}
	p.Object.Namespace, p.Object.Name = home, name
	p.Parsed.Name = name
	for _, a := range addresses {
		if from, to, err := v1beta1.ParseAddresses(a); err == nil {
			p.Parsed.Ranges = append(p.Parsed.Ranges, lb.Range{From: from, To: to})
		}
	}
	return p
}

// with returns the pool after the change.
func (p *Pool) with(change func(*Pool)) *Pool {
	change(p)
	return p
}

func elsewhere(p *Pool) { p.Object.Namespace = "default" }
func ending(p *Pool)    { p.Object.DeletionTimestamp = &metav1.Time{} }
func labelled(p *Pool) {
	p.Object.Labels = map[string]string{"a": "b"}
	p.Parsed.Labels = p.Object.Labels
}
func force(value string) func(*Pool) {
	return func(p *Pool) { p.Object.Annotations = map[string]string{ForceDelete: value} }
}
func onlyFor(namespace string) func(*Pool) {
	return func(p *Pool) {
		p.Object.Spec.ServiceAllocation = &v1beta1.ServiceAllocation{Namespaces: []string{namespace}}
		p.Parsed.Namespaces = []string{namespace}
	}
}

func ad(pools ...string) *v1beta1.L2Advertisement {
	a := &v1beta1.L2Advertisement{Spec: v1beta1.L2AdvertisementSpec{IPAddressPools: pools}}
	a.Namespace, a.Name = home, "a"
	return a
}

func selecting(label string) *v1beta1.L2Advertisement {
	a := ad()
	a.Spec.NodeSelectors = []metav1.LabelSelector{{MatchLabels: map[string]string{"a": label}}}
	return a
}

// many is so many names of pools.
func many(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("p%d", i))
	}
	return out
}

// user is a Service with an address out of a pool.
func user(name, pool string, addrs ...string) lb.Service {
	s := lb.Service{Key: lb.ServiceKey{Namespace: "shop", Name: name}, Pool: pool}
	for _, a := range addrs {
		s.Ingress = append(s.Ingress, lb.Ingress{Addr: netip.MustParseAddr(a)})
	}
	return s
}

func with(change func(*Facts)) Facts {
	f := facts()
	change(&f)
	return f
}

func facts() Facts {
	span := func(from, to string) lb.Range {
		return lb.Range{From: netip.MustParseAddr(from), To: netip.MustParseAddr(to)}
	}
	return Facts{
		Namespace: home,
		Pools:     []lb.Pool{named("other", "192.0.2.100-192.0.2.109", "2001:db8::100/120").Parsed, pool("192.0.2.1-192.0.2.50").Parsed},
		Reserved: []Reserved{
			{span("192.0.2.200", "192.0.2.200"), "an address of Node n1"},
			{span("10.244.1.0", "10.244.1.255"), "out of 10.244.1.0/24, from which Node n1 gives addresses to pods"},
			{span("10.96.0.0", "10.96.255.255"), "out of 10.96.0.0/16, from which ServiceCIDR kubernetes gives ClusterIPs"},
		},
	}
}

func serving(services ...lb.Service) Facts { return with(func(f *Facts) { f.Services = services }) }

// crowd is 44 Services on 192.0.2.1 and following.
func crowd() []lb.Service {
	var out []lb.Service
	for i := range 44 {
		out = append(out, user(fmt.Sprintf("web-%02d", i), "p", fmt.Sprintf("192.0.2.%d", i+1)))
	}
	return out
}

type row struct {
	request Request
	facts   Facts
	want    []string // each refusal as "! Reason: error", each warning as "Reason: message"
}

func created(p *Pool) Request        { return Request{Operation: Create, NewPool: p} }
func deleted(p *Pool) Request        { return Request{Operation: Delete, OldPool: p} }
func updated(old, now *Pool) Request { return Request{Operation: Update, OldPool: old, NewPool: now} }
func advertised(old, now *v1beta1.L2Advertisement) Request {
	return Request{Operation: Update, OldAdvertisement: old, NewAdvertisement: now}
}

func run(t *testing.T, rows map[string]row) {
	t.Helper()
	for name, r := range rows {
		t.Run(name, func(t *testing.T) {
			if r.facts.Namespace == "" {
				r.facts = facts()
			}
			var got []string
			d := Decide(r.request, r.facts)
			for _, refusal := range d.Refusals {
				got = append(got, fmt.Sprintf("! %s: %v", refusal.Reason, refusal.Err))
			}
			for _, w := range d.Warnings {
				got = append(got, fmt.Sprintf("%s: %s", w.Reason, w.Message))
			}
			if diff := cmp.Diff(r.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if refused := strings.HasPrefix(strings.Join(r.want, ""), "! "); d.Allowed() == refused {
				t.Errorf("allowed is %v", d.Allowed())
			}
		})
	}
}

const (
	kept    = "; they keep their addresses; to move a Service, annotate it with fairlead.dev/release=true"
	oneOnly = "; keep each address in one pool"
	notOurs = "; leave out what the cluster uses itself"
)

func TestWritePool(t *testing.T) {
	overlapping := with(func(f *Facts) {
		f.Pools = append(f.Pools, named("old", "192.0.2.10-192.0.2.19").Parsed)
		f.Reserved = append(f.Reserved, Reserved{pool("192.0.2.30/32").Parsed.Ranges[0], "an address of Node n2"})
	})
	run(t, map[string]row{
		"free addresses":          {created(pool("192.0.2.110-192.0.2.119", "2001:db8::/120")), Facts{}, nil},
		"its own, once more":      {created(pool("192.0.2.1/32")), Facts{}, nil}, // a replay of its creation
		"another pool":            {created(pool("192.0.2.99/32", "192.0.2.105-192.0.2.120")), Facts{}, []string{`! PoolOverlap: spec.addresses[1]: Invalid value: "192.0.2.105-192.0.2.120": overlaps IPAddressPool "other", which holds 192.0.2.105-192.0.2.109 too` + oneOnly}},
		"another pool, IPv6":      {created(pool("2001:db8::1ff/128")), Facts{}, []string{`! PoolOverlap: spec.addresses[0]: Invalid value: "2001:db8::1ff/128": overlaps IPAddressPool "other", which holds 2001:db8::1ff too` + oneOnly}},
		"a node":                  {created(pool("192.0.2.192/28")), Facts{}, []string{`! AddressReserved: spec.addresses[0]: Invalid value: "192.0.2.192/28": holds 192.0.2.200, an address of Node n1` + notOurs}},
		"pods":                    {created(pool("10.244.1.128/30")), Facts{}, []string{`! AddressReserved: spec.addresses[0]: Invalid value: "10.244.1.128/30": holds 10.244.1.128-10.244.1.131, out of 10.244.1.0/24, from which Node n1 gives addresses to pods` + notOurs}},
		"ClusterIPs":              {created(pool("10.0.0.0/8")), with(func(f *Facts) { f.Reserved = f.Reserved[2:] }), []string{`! AddressReserved: spec.addresses[0]: Invalid value: "10.0.0.0/8": holds 10.96.0.0-10.96.255.255, out of 10.96.0.0/16, from which ServiceCIDR kubernetes gives ClusterIPs` + notOurs}},
		"end before start":        {created(pool("192.0.2.120-192.0.2.110")), Facts{}, []string{`! InvalidSpec: spec.addresses[0]: Invalid value: "192.0.2.120-192.0.2.110": ends before it starts; write 192.0.2.110-192.0.2.120`}},
		"two families":            {created(pool("192.0.2.110-2001:db8::1")), Facts{}, []string{`! InvalidSpec: spec.addresses[0]: Invalid value: "192.0.2.110-2001:db8::1": begins in one IP family and ends in the other; use one entry per family`}},
		"itself":                  {created(pool("192.0.2.110/31", "192.0.2.111/32")), Facts{}, []string{`! InvalidSpec: spec.addresses[1]: Invalid value: "192.0.2.111/32": overlaps "192.0.2.110/31" at spec.addresses[0]; keep each address in one entry`}},
		"nothing":                 {created(pool()), Facts{}, []string{`! InvalidSpec: spec.addresses: Required value: list at least one CIDR such as 192.0.2.0/28 or range such as 192.0.2.10-192.0.2.20`}},
		"selector":                {created(pool("192.0.2.110/32").with(onlyFor(""))), Facts{}, []string{`! InvalidSpec: spec.serviceAllocation.namespaces[0]: Invalid value: "": is empty; delete the entry or name something`}},
		"wrong namespace":         {created(pool("192.0.2.200/32").with(elsewhere)), Facts{}, []string{`WrongNamespace: metadata.namespace is "default", but Fairlead reads only "fairlead-system": the object has no effect; create it there`}},
		"old overlap, labels":     {updated(pool("192.0.2.10/32"), pool("192.0.2.10/32").with(labelled)), overlapping, nil},
		"old overlap, goes":       {updated(pool("192.0.2.10/32"), pool("192.0.2.9/32").with(ending)), overlapping, nil},
		"old overlap, more room":  {updated(pool("192.0.2.10/32"), pool("192.0.2.10/32", "192.0.2.20/32")), overlapping, []string{`PoolOverlap: spec.addresses[0] is "192.0.2.10/32" and overlaps IPAddressPool "old", which holds 192.0.2.10 too` + oneOnly + `; it was so before this change`}},
		"old overlap, less of it": {updated(pool("192.0.2.10-192.0.2.12"), pool("192.0.2.12/32")), overlapping, []string{`PoolOverlap: spec.addresses[0] is "192.0.2.12/32" and overlaps IPAddressPool "old", which holds 192.0.2.12 too` + oneOnly + `; it was so before this change`}},
		"old overlap, more of it": {updated(pool("192.0.2.10-192.0.2.12"), pool("192.0.2.10-192.0.2.13")), overlapping, []string{`! PoolOverlap: spec.addresses[0]: Invalid value: "192.0.2.10-192.0.2.13": overlaps IPAddressPool "old", which holds 192.0.2.13 too` + oneOnly}},
		"old node, other entry":   {updated(pool("192.0.2.30/31"), pool("192.0.2.28-192.0.2.30")), overlapping, []string{`AddressReserved: spec.addresses[0] is "192.0.2.28-192.0.2.30" and holds 192.0.2.30, an address of Node n2` + notOurs + `; it was so before this change`}},
		"old mistake, moved":      {updated(pool("192.0.2.40/33"), pool("192.0.2.41/32", "192.0.2.40/33")), Facts{}, []string{`InvalidSpec: wrong as before: spec.addresses[1]: Invalid value: "192.0.2.40/33": is not a CIDR; write it like 192.0.2.0/28 or 2001:db8::/120`}},
		"new mistake":             {updated(pool("192.0.2.40/32"), pool("192.0.2.40/33")), Facts{}, []string{`! InvalidSpec: spec.addresses[0]: Invalid value: "192.0.2.40/33": is not a CIDR; write it like 192.0.2.0/28 or 2001:db8::/120`}},
		"update elsewhere":        {updated(pool("192.0.2.1/32").with(elsewhere), pool("192.0.2.2/32").with(elsewhere)), serving(user("web", "p", "192.0.2.1")), []string{`WrongNamespace: metadata.namespace is "default", but Fairlead reads only "fairlead-system": the object has no effect; create it there`}},
	})
}

func TestStranded(t *testing.T) {
	web, api := user("web", "p", "192.0.2.1"), user("api", "p", "192.0.2.2", "2001:db8::2")
	run(t, map[string]row{
		"addresses": {updated(pool("192.0.2.1-192.0.2.2"), pool("192.0.2.1/32")), serving(web, api), []string{`AddressOutsidePools: spec.addresses no longer holds addresses of Services: shop/api (192.0.2.2)` + kept}},
		"both families": {updated(pool("192.0.2.1-192.0.2.2", "2001:db8::/126"), pool("192.0.2.1/32")), serving(web, api),
			[]string{`AddressOutsidePools: spec.addresses no longer holds addresses of Services: shop/api (192.0.2.2), shop/api (2001:db8::2)` + kept}},
		"allocation": {updated(pool("192.0.2.1-192.0.2.2"), pool("192.0.2.1-192.0.2.2").with(onlyFor("bank"))), serving(web, api),
			[]string{`PoolRefuses: spec.serviceAllocation no longer admits Services with addresses of the pool: shop/api (192.0.2.2), shop/web (192.0.2.1)` + kept}},
		"allocation as before": {updated(pool("192.0.2.1-192.0.2.2").with(onlyFor("bank")), pool("192.0.2.1-192.0.2.3").with(onlyFor("bank"))), serving(web), nil},
		"stranded before":      {updated(pool("192.0.2.2/32"), pool("192.0.2.3/32")), serving(web), nil},
		"moved to another pool": {updated(pool("192.0.2.1-192.0.2.2"), pool("192.0.2.2/32")),
			with(func(f *Facts) {
				f.Services = []lb.Service{web}
				f.Pools = append(f.Pools, named("new", "192.0.2.1/32").Parsed)
			}), nil},
		"of another pool": {updated(pool("192.0.2.100/32"), pool("192.0.2.1/32")), serving(user("web", "other", "192.0.2.100")), nil},
		"more room":       {updated(pool("192.0.2.1/32"), pool("192.0.2.1-192.0.2.2")), serving(web), nil},
		"refused anyway": {updated(pool("192.0.2.1/32"), pool("192.0.2.200/32")), serving(web),
			[]string{`! AddressReserved: spec.addresses[0]: Invalid value: "192.0.2.200/32": holds 192.0.2.200, an address of Node n1` + notOurs}},
		"a crowd": {updated(pool("192.0.2.1-192.0.2.50"), pool("192.0.2.50/32")), serving(crowd()...),
			[]string{`AddressOutsidePools: spec.addresses no longer holds addresses of Services: shop/web-00 (192.0.2.1), shop/web-01 (192.0.2.2), shop/web-02 (192.0.2.3), shop/web-03 (192.0.2.4), shop/web-04 (192.0.2.5), shop/web-05 (192.0.2.6), shop/web-06 (192.0.2.7), shop/web-07 (192.0.2.8), shop/web-08 (192.0.2.9), shop/web-09 (192.0.2.10) and 34 more` + kept}},
	})
}

func TestDeletePool(t *testing.T) {
	web := user("web", "p", "192.0.2.1")
	refused := func(value string) []string {
		return []string{`! PoolInUse: metadata.annotations[fairlead.dev/force-delete]: Invalid value: "` + value + `": IPAddressPool "p" is in use by Services: shop/web (192.0.2.1); delete or move them first, or set the annotation fairlead.dev/force-delete to "true" and delete again: they keep their addresses then`}
	}
	warned := []string{`PoolInUse: IPAddressPool "p" was in use by Services: shop/web (192.0.2.1)` + kept}
	byLabel := lb.L2Advertisement{Name: "a", PoolSelectors: []lb.Selector{{{Key: "a", Op: lb.In, Values: []string{"b"}}}}}
	advertisedBy := func(a lb.L2Advertisement, services ...lb.Service) Facts {
		return with(func(f *Facts) { f.L2, f.Services = []lb.L2Advertisement{a}, services })
	}
	run(t, map[string]row{
		"unused":                   {deleted(pool("192.0.2.1/32")), Facts{}, nil},
		"in use":                   {deleted(pool("192.0.2.1/32")), serving(web), refused("")},
		"almost forced":            {deleted(pool("192.0.2.1/32").with(force("yes"))), serving(web), refused("yes")},
		"forced":                   {deleted(pool("192.0.2.1/32").with(force("true"))), serving(web), warned},
		"not annotated":            {deleted(pool("192.0.2.1/32")), serving(user("web", "", "192.0.2.1")), refused("")},
		"edited under it":          {deleted(pool("192.0.2.60/32")), serving(user("web", "p", "192.0.2.61")), []string{strings.Replace(refused("")[0], "192.0.2.1)", "192.0.2.61)", 1)}},
		"of another pool":          {deleted(pool("192.0.2.100/32")), serving(user("web", "other", "192.0.2.100")), nil},
		"pool of the name is gone": {deleted(pool("192.0.2.1/32")), serving(user("web", "gone", "192.0.2.1")), refused("")},
		"namespace goes":           {deleted(pool("192.0.2.1/32")), with(func(f *Facts) { f.Services, f.Terminating = []lb.Service{web}, true }), warned},
		"going already":            {deleted(pool("192.0.2.1/32").with(ending)), serving(web), nil},
		"elsewhere":                {deleted(pool("192.0.2.1/32").with(elsewhere)), serving(web), nil},
		"still named": {deleted(pool("192.0.2.1/32")), advertisedBy(lb.L2Advertisement{Name: "a", Pools: []string{"p"}}),
			[]string{`UnknownPool: L2Advertisement "a" still names IPAddressPool "p" in spec.ipAddressPools; take it out`}},
		"forced, advertised by name": {deleted(pool("192.0.2.1/32").with(force("true"))), advertisedBy(lb.L2Advertisement{Name: "a", Pools: []string{"p"}}, web), warned},
		"forced, advertised by label": {deleted(pool("192.0.2.1/32").with(force("true")).with(labelled)), advertisedBy(byLabel, web),
			append(warned[:1:1], `NotAdvertised: L2Advertisement "a" selected IPAddressPool "p" by its labels and no longer announces its addresses; name the pool in spec.ipAddressPools`)},
	})
}

func TestWriteAdvertisement(t *testing.T) {
	away := ad("p")
	away.Namespace = "default"
	gone := ad("q")
	gone.DeletionTimestamp = &metav1.Time{}
	unknown := `UnknownPool: spec.ipAddressPools[1] is "q", but there is no such IPAddressPool in namespace "fairlead-system": nothing of it is announced until there is; create it or correct the name`
	wrong := `spec.nodeSelectors[0].matchLabels: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`
	more := selecting("-")
	more.Spec.Interfaces = []string{"eth0"}
	run(t, map[string]row{
		"old length": {advertised(ad(make([]string, 300)...), ad(many(299)...)), with(func(f *Facts) { f.Pools = nil; f.Namespace = "x" }), []string{
			`InvalidSpec: wrong as before: spec.ipAddressPools: Too many: 299: must have at most 256 items`,
			`WrongNamespace: metadata.namespace is "fairlead-system", but Fairlead reads only "x": the object has no effect; create it there`}},
		"known":           {Request{Operation: Create, NewAdvertisement: ad("p", "other")}, Facts{}, nil},
		"every pool":      {Request{Operation: Create, NewAdvertisement: ad()}, Facts{}, nil},
		"unknown":         {Request{Operation: Create, NewAdvertisement: ad("p", "q")}, Facts{}, []string{unknown}},
		"unknown, update": {advertised(ad("p"), ad("p", "q")), Facts{}, []string{unknown}},
		"unchanged":       {advertised(ad("q"), ad("q")), Facts{}, nil},
		"going":           {advertised(ad("p"), gone), Facts{}, nil},
		"elsewhere":       {Request{Operation: Create, NewAdvertisement: away}, Facts{}, []string{`WrongNamespace: metadata.namespace is "default", but Fairlead reads only "fairlead-system": the object has no effect; create it there`}},
		"selector":        {Request{Operation: Create, NewAdvertisement: selecting("-")}, Facts{}, []string{"! InvalidSpec: " + wrong}},
		"old selector":    {advertised(selecting("-"), more), Facts{}, []string{"InvalidSpec: wrong as before: " + wrong}},
		"deletion":        {Request{Operation: Delete, OldAdvertisement: ad("p")}, Facts{}, nil},
		"other kind":      {Request{Operation: Create}, Facts{}, nil},
	})
}

// However much collides, the answer stays short.
func TestCollisionsAreFew(t *testing.T) {
	f := facts()
	for i := range 300 {
		f.Reserved = append(f.Reserved, Reserved{pool(fmt.Sprintf("198.18.%d.1/32", i%256)).Parsed.Ranges[0], "an address of a Node"})
	}
	if d := Decide(created(pool("198.18.0.0/16")), f); len(d.Refusals) != maxListed {
		t.Errorf("%d refusals, want %d", len(d.Refusals), maxListed)
	}
}
