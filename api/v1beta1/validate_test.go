package v1beta1

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func pool(addresses ...string) *IPAddressPool {
	return &IPAddressPool{
		TypeMeta:   metav1.TypeMeta{APIVersion: Group + "/" + Version, Kind: "IPAddressPool"},
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "fairlead-system"},
		Spec:       IPAddressPoolSpec{Addresses: addresses},
	}
}

func poolFor(a ServiceAllocation) *IPAddressPool {
	p := pool("192.0.2.0/24")
	p.Spec.ServiceAllocation = &a
	return p
}

func resting(text string) *IPAddressPool {
	p := pool("192.0.2.0/24")
	d, err := time.ParseDuration(text)
	if err != nil {
		panic(err)
	}
	p.Spec.AddressRest = &metav1.Duration{Duration: d}
	return p
}

func advertisement(spec L2AdvertisementSpec) *L2Advertisement {
	return &L2Advertisement{
		TypeMeta:   metav1.TypeMeta{APIVersion: Group + "/" + Version, Kind: "L2Advertisement"},
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "fairlead-system"},
		Spec:       spec,
	}
}

func badSelector() metav1.LabelSelector {
	return metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Equals", Values: []string{"b"}}}}
}

func many(n int, format string) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf(format, i))
	}
	return out
}

type validated interface{ Validate() field.ErrorList }

// The rules are written as schema and CEL and again in Go. Both must agree on every row, but for those marked goOnly: that
// is the list of what schema and CEL cannot say. The message is a part of what Go says.
func TestBothValidatorsAgree(t *testing.T) {
	for name, c := range map[string]verdict{
		"CIDR":                  {object: pool("192.0.2.0/28")},
		"CIDR with host bits":   {object: pool("192.0.2.5/28")},
		"single":                {object: pool("192.0.2.5/32", "2001:db8::1/128")},
		"range":                 {object: pool("192.0.2.10-192.0.2.20")},
		"range of one":          {object: pool("192.0.2.10-192.0.2.10")},
		"range over octets":     {object: pool("9.255.255.255-10.0.0.0")},
		"range with spaces":     {object: pool(" 192.0.2.10 - 192.0.2.20 ")},
		"both families":         {object: pool("192.0.2.0/28", "2001:db8::/64", "2001:db9::1-2001:db9::ffff")},
		"largest":               {object: pool("0.0.0.0/0", "::/0")},
		"none":                  {object: pool(), wrong: "spec.addresses", message: "at least one"},
		"empty entry":           {object: pool(""), wrong: "spec.addresses[0]"},
		"bare address":          {object: pool("192.0.2.5"), wrong: "spec.addresses[0]", message: "/32"},
		"word":                  {object: pool("192.0.2.0/28", "many"), wrong: "spec.addresses[1]", message: `"many"`},
		"prefix too long":       {object: pool("192.0.2.0/33"), wrong: "spec.addresses[0]"},
		"prefix with zero":      {object: pool("192.0.2.0/08"), wrong: "spec.addresses[0]"},
		"CIDR with spaces":      {object: pool(" 192.0.2.0/28"), wrong: "spec.addresses[0]"},
		"octet too large":       {object: pool("192.0.2.256-192.0.3.1"), wrong: "spec.addresses[0]"},
		"leading zero":          {object: pool("192.0.2.010-192.0.2.20"), wrong: "spec.addresses[0]"},
		"zone":                  {object: pool("fe80::1%eth0-fe80::2%eth0"), wrong: "spec.addresses[0]"},
		"mapped address":        {object: pool("::ffff:192.0.2.1-::ffff:192.0.2.2"), wrong: "spec.addresses[0]"},
		"mapped CIDR":           {object: pool("::ffff:192.0.2.0/120"), wrong: "spec.addresses[0]"},
		"three ends":            {object: pool("192.0.2.1-192.0.2.2-192.0.2.3"), wrong: "spec.addresses[0]"},
		"range of CIDRs":        {object: pool("192.0.2.0/28-192.0.2.16/28"), wrong: "spec.addresses[0]"},
		"mixed families":        {object: pool("192.0.2.1-2001:db8::1"), wrong: "spec.addresses[0]", message: "one entry per family"},
		"IPv4 ends first":       {object: pool("192.0.2.20-192.0.2.10"), wrong: "spec.addresses[0]", message: "write 192.0.2.10-192.0.2.20"},
		"IPv4 ends octets ago":  {object: pool("10.0.0.0-9.255.255.255"), wrong: "spec.addresses[0]"},
		"IPv6 ends first":       {object: pool("2001:db8::9-2001:db8::1"), wrong: "spec.addresses[0]", message: "write 2001:db8::1-", goOnly: true},
		"overlap within":        {object: pool("192.0.2.0/28", "192.0.2.15-192.0.2.30"), wrong: "spec.addresses[1]", message: "spec.addresses[0]", goOnly: true},
		"duplicate":             {object: pool("192.0.2.0/28", "192.0.2.0/28"), wrong: "spec.addresses[1]"},
		"too long":              {object: pool(strings.Repeat(" ", 90) + "192.0.2.1-192.0.2.2"), wrong: "spec.addresses[0]"},
		"too many":              {object: pool(many(257, "10.0.%[1]d.1/32")...), wrong: "spec.addresses"},
		"as many as allowed":    {object: pool(many(256, "10.0.%[1]d.1-10.0.%[1]d.99")...)},
		"rest":                  {object: resting("90s")},
		"rest of nothing":       {object: resting("0s")},
		"longest rest":          {object: resting("24h")},
		"negative rest":         {object: resting("-1s"), wrong: "spec.addressRest", message: "0s to 24h"},
		"rest too long":         {object: resting("24h0m1s"), wrong: "spec.addressRest", message: "24h0m1s"},
		"allocation":            {object: poolFor(ServiceAllocation{Priority: 5, Namespaces: []string{"a", "b"}, ServiceSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"a": "b"}}}})},
		"priority":              {object: poolFor(ServiceAllocation{Priority: -1}), wrong: "spec.serviceAllocation.priority", message: "-1"},
		"quota":                 {object: poolFor(ServiceAllocation{MaxAddressesPerNamespace: new(int32(1))})},
		"quota of nothing":      {object: poolFor(ServiceAllocation{MaxAddressesPerNamespace: new(int32(0))}), wrong: "spec.serviceAllocation.maxAddressesPerNamespace", message: "1 or more"},
		"duplicate namespace":   {object: poolFor(ServiceAllocation{Namespaces: []string{"a", "a"}}), wrong: "spec.serviceAllocation.namespaces[1]", message: `"a"`},
		"empty namespace":       {object: poolFor(ServiceAllocation{Namespaces: []string{""}}), wrong: "spec.serviceAllocation.namespaces[0]"},
		"long namespace":        {object: poolFor(ServiceAllocation{Namespaces: []string{strings.Repeat("a", 64)}}), wrong: "spec.serviceAllocation.namespaces[0]"},
		"too many namespaces":   {object: poolFor(ServiceAllocation{Namespaces: many(257, "n%d")}), wrong: "spec.serviceAllocation.namespaces"},
		"namespace selector":    {object: poolFor(ServiceAllocation{NamespaceSelectors: []metav1.LabelSelector{badSelector()}}), wrong: "spec.serviceAllocation.namespaceSelectors[0].matchExpressions[0].operator", message: `"Equals"`, goOnly: true},
		"service selector":      {object: poolFor(ServiceAllocation{ServiceSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"a b": "c"}}}}), wrong: "spec.serviceAllocation.serviceSelectors[0].matchLabels", message: "a b", goOnly: true},
		"too many selectors":    {object: poolFor(ServiceAllocation{ServiceSelectors: make([]metav1.LabelSelector, 65)}), wrong: "spec.serviceAllocation.serviceSelectors"},
		"empty advertisement":   {object: advertisement(L2AdvertisementSpec{})},
		"full advertisement":    {object: advertisement(L2AdvertisementSpec{IPAddressPools: []string{"a"}, Interfaces: []string{"eth0"}, NodeSelectors: make([]metav1.LabelSelector, 1), PreferredNodeSelectors: []PreferredNodeSelector{{Weight: 100}}})},
		"duplicate pool":        {object: advertisement(L2AdvertisementSpec{IPAddressPools: []string{"a", "b", "a"}}), wrong: "spec.ipAddressPools[2]", message: `"a"`},
		"duplicate interface":   {object: advertisement(L2AdvertisementSpec{Interfaces: []string{"eth0", "eth0"}}), wrong: "spec.interfaces[1]"},
		"long interface":        {object: advertisement(L2AdvertisementSpec{Interfaces: []string{"interface0123456"}}), wrong: "spec.interfaces[0]"},
		"weight 0":              {object: advertisement(L2AdvertisementSpec{PreferredNodeSelectors: []PreferredNodeSelector{{Weight: 0}}}), wrong: "spec.preferredNodeSelectors[0].weight", message: "1 to 100"},
		"weight 101":            {object: advertisement(L2AdvertisementSpec{PreferredNodeSelectors: []PreferredNodeSelector{{Weight: 101}}}), wrong: "spec.preferredNodeSelectors[0].weight"},
		"too many preferences":  {object: advertisement(L2AdvertisementSpec{PreferredNodeSelectors: slices.Repeat([]PreferredNodeSelector{{Weight: 1}}, 65)}), wrong: "spec.preferredNodeSelectors"},
		"failback never":        {object: advertisement(L2AdvertisementSpec{Failback: "Never"})},
		"failback":              {object: advertisement(L2AdvertisementSpec{Failback: "1m30s"})},
		"failback at once":      {object: advertisement(L2AdvertisementSpec{Failback: "0s"}), wrong: "spec.failback", message: "1s to 24h"},
		"failback too late":     {object: advertisement(L2AdvertisementSpec{Failback: "25h"}), wrong: "spec.failback", message: "25h"},
		"failback sometime":     {object: advertisement(L2AdvertisementSpec{Failback: "never"}), wrong: "spec.failback", message: "must be Never or"},
		"failback without unit": {object: advertisement(L2AdvertisementSpec{Failback: "30"}), wrong: "spec.failback"},
		"failback backwards":    {object: advertisement(L2AdvertisementSpec{Failback: "-30s"}), wrong: "spec.failback"},
		"preference":            {object: advertisement(L2AdvertisementSpec{PreferredNodeSelectors: []PreferredNodeSelector{{Weight: 1, Preference: badSelector()}}}), wrong: "spec.preferredNodeSelectors[0].preference.matchExpressions[0].operator", goOnly: true},
		"node selector":         {object: advertisement(L2AdvertisementSpec{NodeSelectors: []metav1.LabelSelector{badSelector()}}), wrong: "spec.nodeSelectors[0].matchExpressions[0].operator", goOnly: true},
		"pool selector":         {object: advertisement(L2AdvertisementSpec{IPAddressPoolSelectors: []metav1.LabelSelector{badSelector()}}), wrong: "spec.ipAddressPoolSelectors[0].matchExpressions[0].operator", goOnly: true},
		"advertisement service": {object: advertisement(L2AdvertisementSpec{ServiceSelectors: []metav1.LabelSelector{badSelector()}}), wrong: "spec.serviceSelectors[0].matchExpressions[0].operator", goOnly: true},
	} {
		t.Run(name, c.check)
	}
}

// verdict is what both validators shall say of an object.
type verdict struct {
	object  validated
	wrong   string // the field, "" = valid
	message string
	goOnly  bool
}

func (c verdict) check(t *testing.T) {
	fromGo, fromServer := c.object.Validate(), newAPIServer(t, resourceOf(c.object)).validate(c.object)
	if c.wrong == "" {
		if len(fromGo)+len(fromServer) > 0 {
			t.Fatalf("refused: Go %v, API server %v", fromGo, fromServer)
		}
		return
	}
	if len(fromGo) == 0 || fromGo[0].Field != c.wrong || !strings.Contains(fromGo.ToAggregate().Error(), c.message) {
		t.Errorf("Go says %v, want field %s and %q", fromGo, c.wrong, c.message)
	}
	switch {
	case c.goOnly && len(fromServer) > 0:
		t.Errorf("the API server can tell after all, remove goOnly: %v", fromServer)
	case !c.goOnly && (len(fromServer) == 0 || fromServer[0].Field != c.wrong):
		t.Errorf("the API server says %v, want field %s", fromServer, c.wrong)
	}
}

func resourceOf(object any) string {
	switch object.(type) {
	case *L2Advertisement:
		return "l2advertisements"
	case *BGPPeer:
		return "bgppeers"
	case *BGPAdvertisement:
		return "bgpadvertisements"
	case *BFDProfile:
		return "bfdprofiles"
	case *Community:
		return "communities"
	}
	return "ipaddresspools"
}

// FuzzParseAddresses holds Go and CEL to the same verdict on any text, but for IPv6 ranges that end first.
func FuzzParseAddresses(f *testing.F) {
	for _, s := range []string{"192.0.2.0/28", "192.0.2.1-192.0.2.9", "2001:db8::/64", "::1-::2", "1.2.3.4", "-", "/", "a-b", "1.1.1.1 -\t1.1.1.2", "::ffff:1.2.3.4/96", "1.2.3.4/032"} {
		f.Add(s)
	}
	server := newAPIServer(f, "ipaddresspools")
	f.Fuzz(func(t *testing.T, entry string) {
		if entry == "" || len(entry) > maxAddressLength {
			return
		}
		from, to, err := ParseAddresses(entry)
		if err == nil && (from.Is4() != to.Is4() || to.Less(from) || !from.IsValid() || !to.IsValid()) {
			t.Fatalf("%q is %s to %s", entry, from, to)
		}
		refused := server.validate(pool(entry))
		backwards := err != nil && strings.Contains(err.Error(), "ends before") && strings.Contains(entry, ":")
		if (err != nil) != (len(refused) > 0) && !backwards {
			t.Errorf("%q: Go says %v, the API server %v", entry, err, refused)
		}
	})
}

func TestParseAddresses(t *testing.T) {
	for entry, want := range map[string][2]string{
		"192.0.2.5/28":        {"192.0.2.0", "192.0.2.15"},
		"192.0.2.5/32":        {"192.0.2.5", "192.0.2.5"},
		"0.0.0.0/0":           {"0.0.0.0", "255.255.255.255"},
		"2001:db8::1/63":      {"2001:db8::", "2001:db8:0:1:ffff:ffff:ffff:ffff"},
		"192.0.2.9-192.0.3.1": {"192.0.2.9", "192.0.3.1"},
	} {
		from, to, err := ParseAddresses(entry)
		if err != nil || from != netip.MustParseAddr(want[0]) || to != netip.MustParseAddr(want[1]) {
			t.Errorf("%s is %s to %s, %v; want %v", entry, from, to, err, want)
		}
	}
}
