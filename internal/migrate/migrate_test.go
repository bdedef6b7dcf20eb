package migrate

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairlead-lb/fairlead/internal/manifest"
	"github.com/fairlead-lb/fairlead/lb"
)

func options() Options { return Options{Namespace: "fairlead-system", Class: "fairlead.dev/lb"} }

// theirs is an object of MetalLB with the given kind and what follows its metadata.
func theirs(version, kind, rest string) string {
	return "apiVersion: metallb.io/" + version + "\nkind: " + kind + "\nmetadata: {name: a, namespace: metallb-system}\n" + rest + "\n"
}

// ours is what should come out, in the form that Render gives it.
func ours(kind, name, spec string) string {
	return "apiVersion: fairlead.dev/v1beta1\nkind: " + kind + "\nmetadata: {name: " + name + ", namespace: fairlead-system}\nspec: " + spec + "\n"
}

func configMap(name, key, text string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + ", namespace: metallb-system}\ndata:\n  " + key + ": |\n    " +
		strings.ReplaceAll(text, "\n", "\n    ") + "\n"
}

func parse(t testing.TB, text string) []manifest.Object {
	t.Helper()
	objects, err := manifest.Parse("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// fields returns the objects in a form that compares.
func fields(t testing.TB, r Result) []map[string]any {
	t.Helper()
	var all []runtime.Object
	for _, o := range r.Objects {
		all = append(all, o)
	}
	text, err := manifest.Render(all...)
	if err != nil {
		t.Fatal(err)
	}
	return raw(parse(t, string(text)))
}

func raw(objects []manifest.Object) []map[string]any {
	var out []map[string]any
	for _, o := range objects {
		out = append(out, o.Object)
	}
	return out
}

// brief is a note without the object it is about: verdict, field, and whether the message says what it should is looked at
// apart.
func brief(r Result) []string {
	var out []string
	for _, n := range r.Notes {
		out = append(out, strings.TrimSpace(string(n.Verdict)+" "+n.Field))
	}
	return out
}

func TestObjects(t *testing.T) {
	const peer = "{myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.1"
	for name, c := range map[string]struct {
		in    string
		want  string // our objects
		notes []string
		says  string // part of the notes
	}{
		"pool": {
			in:    theirs("v1beta1", "IPAddressPool", "spec: {addresses: [192.0.2.0/28, 2001:db8::1-2001:db8::9], autoAssign: false, avoidBuggyIPs: true, serviceAllocation: {priority: 5, namespaces: [x], namespaceSelectors: [{matchLabels: {a: b}}], serviceSelectors: [{matchExpressions: [{key: a, operator: In, values: [b]}]}]}}"),
			want:  ours("IPAddressPool", "a", "{addresses: [192.0.2.0/28, 2001:db8::1-2001:db8::9], autoAssign: false, avoidBuggyIPs: true, serviceAllocation: {priority: 5, namespaces: [x], namespaceSelectors: [{matchLabels: {a: b}}], serviceSelectors: [{matchExpressions: [{key: a, operator: In, values: [b]}]}]}}"),
			notes: []string{"taken"},
		},
		"pool with a typing error": {
			in:    theirs("v1beta1", "IPAddressPool", "spec: {adresses: [192.0.2.0/28]}"),
			notes: []string{"refused spec.adresses"}, says: "is unknown",
		},
		"pool of a bare address": {
			in:    theirs("v1beta1", "IPAddressPool", "spec: {addresses: [192.0.2.1]}"),
			notes: []string{"refused spec.addresses[0]"}, says: "/32",
		},
		"pool with a number": {
			in:    theirs("v1beta1", "IPAddressPool", "spec: {addresses: 7}"),
			notes: []string{"refused spec.addresses"}, says: "number",
		},
		"pool without spec": {in: theirs("v1beta1", "IPAddressPool", ""), notes: []string{"refused spec.addresses"}},
		"pool with data":    {in: theirs("v1beta1", "IPAddressPool", "spec: {addresses: [192.0.2.0/28]}\ndata: {}"), notes: []string{"refused data"}},
		"status of the pool": {
			in:   theirs("v1beta1", "IPAddressPool", "spec: {addresses: [192.0.2.0/28]}\nstatus: {assignedIPv4: 7}"),
			want: ours("IPAddressPool", "a", "{addresses: [192.0.2.0/28]}"), notes: []string{"taken"},
		},
		"labels and annotations": {
			in:    "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: a, namespace: x, labels: {zone: east, app.kubernetes.io/managed-by: Helm}, annotations: {kubectl.kubernetes.io/last-applied-configuration: '{}', mine: yes-it-is}, finalizers: [x/y]}\nspec: {addresses: [192.0.2.0/28]}\n",
			want:  "apiVersion: fairlead.dev/v1beta1\nkind: IPAddressPool\nmetadata: {name: a, namespace: fairlead-system, labels: {zone: east}, annotations: {mine: yes-it-is}}\nspec: {addresses: [192.0.2.0/28]}\n",
			notes: []string{"changed metadata.labels[app.kubernetes.io/managed-by]", "changed metadata"},
		},
		"annotation that is no text": {
			in:    "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: a, annotations: {mine: yes}}\nspec: {addresses: [192.0.2.0/28]}\n",
			notes: []string{"refused metadata.annotations"}, says: "bool",
		},
		"same name twice": {
			in:    theirs("v1beta1", "IPAddressPool", "spec: {addresses: [192.0.2.0/28]}") + "---\n" + theirs("v1beta1", "IPAddressPool", "spec: {addresses: [192.0.3.0/28]}"),
			want:  ours("IPAddressPool", "a", "{addresses: [192.0.2.0/28]}"),
			notes: []string{"taken", "refused metadata.name"}, says: "f, document 1",
		},
		"layer 2": {
			in:    theirs("v1beta1", "L2Advertisement", "spec: {ipAddressPools: [a], ipAddressPoolSelectors: [{matchLabels: {a: b}}], nodeSelectors: [{matchLabels: {a: b}}], interfaces: [eth0], serviceSelectors: [{matchLabels: {a: b}}], preferredNodeSelectors: [{weight: 9, preference: {matchLabels: {a: b}}}]}"),
			want:  ours("L2Advertisement", "a", "{ipAddressPools: [a], ipAddressPoolSelectors: [{matchLabels: {a: b}}], nodeSelectors: [{matchLabels: {a: b}}], interfaces: [eth0], serviceSelectors: [{matchLabels: {a: b}}], preferredNodeSelectors: [{weight: 9, preference: {matchLabels: {a: b}}}]}"),
			notes: []string{"taken"},
		},
		"layer 2 without spec": {in: theirs("v1beta1", "L2Advertisement", ""), want: ours("L2Advertisement", "a", "{}"), notes: []string{"taken"}},
		"layer 2 with a wrong weight": {
			in:    theirs("v1beta1", "L2Advertisement", "spec: {preferredNodeSelectors: [{weight: 200, preference: {}}]}"),
			notes: []string{"refused spec.preferredNodeSelectors[0].weight"},
		},
		"BGP": {
			in:    theirs("v1beta1", "BGPAdvertisement", "spec: {aggregationLength: 24, aggregationLengthV6: 64, localPref: 7, communities: ['64512:1', 'large:1:2:3', vip], ipAddressPools: [a], peers: [b], nodeSelectors: [{matchLabels: {a: b}}]}"),
			want:  ours("BGPAdvertisement", "a", "{aggregationLength: 24, aggregationLengthV6: 64, localPref: 7, communities: ['64512:1', 'large:1:2:3', vip], ipAddressPools: [a], peers: [b], nodeSelectors: [{matchLabels: {a: b}}]}"),
			notes: []string{"taken"},
		},
		"BGP with a bad community": {in: theirs("v1beta1", "BGPAdvertisement", "spec: {communities: ['1:99999']}"), notes: []string{"refused spec.communities[0]"}},
		"old peer": {
			in:    theirs("v1beta1", "BGPPeer", "spec: "+peer+", sourceAddress: 192.0.2.9, peerPort: 1179, holdTime: 30s, keepaliveTime: 10s, routerID: 192.0.2.8, nodeSelectors: [{matchExpressions: [{key: a, operator: In, values: [b]}]}], password: x, bfdProfile: f, ebgpMultiHop: true}"),
			want:  ours("BGPPeer", "a", peer+", sourceAddress: 192.0.2.9, peerPort: 1179, holdTime: 30s, keepaliveTime: 10s, routerID: 192.0.2.8, nodeSelectors: [{matchExpressions: [{key: a, operator: In, values: [b]}]}], password: x, bfdProfile: f, ebgpMultiHop: true}"),
			notes: []string{"taken"},
		},
		"peer": {
			in:    theirs("v1beta2", "BGPPeer", "spec: {myASN: 64512, dynamicASN: external, localASN: 64999, interface: eth0, connectTime: 5s, enableGracefulRestart: true, vrf: red, dualStackAddressFamily: true, passwordSecret: {name: s}}"),
			want:  ours("BGPPeer", "a", "{myASN: 64512, dynamicASN: external, localASN: 64999, interface: eth0, connectTime: 5s, enableGracefulRestart: true, vrf: red, dualStackAddressFamily: true, passwordSecret: {name: s}}"),
			notes: []string{"changed spec.passwordSecret"}, says: "metallb-system/s is to be copied",
		},
		"peer that never speaks": {
			in:   theirs("v1beta2", "BGPPeer", "spec: "+peer+", holdTime: 9m, keepaliveTime: 0s}"),
			want: ours("BGPPeer", "a", peer+", holdTime: 9m0s}"), notes: []string{"changed spec.keepaliveTime"},
		},
		"peer without timers":  {in: theirs("v1beta2", "BGPPeer", "spec: "+peer+", holdTime: 0s, keepaliveTime: 0s}"), want: ours("BGPPeer", "a", peer+", holdTime: 0s, keepaliveTime: 0s}"), notes: []string{"taken"}},
		"peer without an AS":   {in: theirs("v1beta2", "BGPPeer", "spec: {myASN: 64512, peerAddress: 192.0.2.1}"), notes: []string{"refused spec.peerASN"}},
		"peer of a version":    {in: theirs("v1", "BGPPeer", "spec: {}"), notes: []string{"refused apiVersion"}, says: "v1beta1 and v1beta2"},
		"BFD":                  {in: theirs("v1beta1", "BFDProfile", "spec: {receiveInterval: 100, transmitInterval: 100, detectMultiplier: 5, passiveMode: true, minimumTtl: 250}"), want: ours("BFDProfile", "a", "{receiveInterval: 100, transmitInterval: 100, detectMultiplier: 5, passiveMode: true, minimumTtl: 250}"), notes: []string{"taken"}},
		"BFD with echo":        {in: theirs("v1beta1", "BFDProfile", "spec: {echoMode: true, echoInterval: 50}"), want: ours("BFDProfile", "a", "{}"), notes: []string{"changed spec.echoMode", "changed spec.echoInterval"}, says: "RFC 5880"},
		"BFD out of range":     {in: theirs("v1beta1", "BFDProfile", "spec: {receiveInterval: 5}"), notes: []string{"refused spec.receiveInterval"}},
		"community":            {in: theirs("v1beta1", "Community", "spec: {communities: [{name: vip, value: '64512:1'}]}"), want: ours("Community", "a", "{communities: [{name: vip, value: '64512:1'}]}"), notes: []string{"taken"}},
		"community of a word":  {in: theirs("v1beta1", "Community", "spec: {communities: [{name: vip, value: x}]}"), notes: []string{"refused spec.communities[0].value"}},
		"status":               {in: theirs("v1beta1", "ServiceL2Status", "status: {node: n}") + "---\n" + theirs("v1beta1", "ServiceBGPStatus", "") + "---\n" + theirs("v1beta1", "ConfigurationState", ""), notes: []string{"ignored", "ignored", "ignored"}},
		"the operator's":       {in: theirs("v1beta1", "MetalLB", "spec: {}"), notes: []string{"ignored"}, says: "values of Fairlead's chart"},
		"unknown kind":         {in: theirs("v1beta1", "Wish", "spec: {}"), notes: []string{"refused kind"}},
		"FRR":                  {in: strings.Replace(theirs("v1beta1", "FRRConfiguration", "spec: {}"), "metallb.io", "frrk8s.metallb.io", 1), notes: []string{"refused kind"}, says: "FRR"},
		"Fairlead's own":       {in: ours("IPAddressPool", "a", "{addresses: [192.0.2.0/28]}"), notes: []string{"ignored"}},
		"something else":       {in: "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: controller}\n", notes: []string{"ignored"}},
		"Secret":               {in: "apiVersion: v1\nkind: Secret\nmetadata: {name: memberlist}\n", notes: []string{"ignored"}},
		"legacy layer 2":       {in: theirs("v1alpha1", "AddressPool", "spec: {protocol: layer2, addresses: [192.0.2.0/28], autoAssign: false}"), want: ours("IPAddressPool", "a", "{addresses: [192.0.2.0/28], autoAssign: false}") + "---\n" + ours("L2Advertisement", "a", "{ipAddressPools: [a]}"), notes: []string{"changed"}, says: "IPAddressPool a with L2Advertisement a"},
		"legacy BGP":           {in: theirs("v1beta1", "AddressPool", "spec: {protocol: bgp, addresses: [192.0.2.0/28]}"), want: ours("IPAddressPool", "a", "{addresses: [192.0.2.0/28]}") + "---\n" + ours("BGPAdvertisement", "a", "{ipAddressPools: [a]}"), notes: []string{"changed"}},
		"legacy BGP, two":      {in: theirs("v1beta1", "AddressPool", "spec: {protocol: bgp, addresses: [192.0.2.0/24], bgpAdvertisements: [{aggregationLength: 32, localPref: 100, communities: [vip]}, {aggregationLength: 24}]}"), want: ours("IPAddressPool", "a", "{addresses: [192.0.2.0/24]}") + "---\n" + ours("BGPAdvertisement", "a", "{ipAddressPools: [a], aggregationLength: 32, localPref: 100, communities: [vip]}") + "---\n" + ours("BGPAdvertisement", "a-2", "{ipAddressPools: [a], aggregationLength: 24}"), notes: []string{"changed"}},
		"legacy contradiction": {in: theirs("v1beta1", "AddressPool", "spec: {protocol: layer2, addresses: [192.0.2.0/28], bgpAdvertisements: [{}]}"), notes: []string{"refused spec.bgpAdvertisements"}},
		"legacy protocol":      {in: theirs("v1beta1", "AddressPool", "spec: {protocol: ospf, addresses: [192.0.2.0/28]}"), notes: []string{"refused spec.protocol"}},
		"legacy unknown":       {in: theirs("v1beta1", "AddressPool", "spec: {protocol: bgp, addresses: [192.0.2.0/28], cidr: x}"), notes: []string{"refused spec.cidr"}},
		"ConfigMap": {
			in: configMap("config", "config", `peers:
- {my-asn: 64512, peer-asn: 64512, peer-address: 192.0.2.1, hold-time: 30s, bfd-profile: fast, node-selectors: [{match-labels: {rack: a}, match-expressions: [{key: a, operator: In, values: [b]}]}]}
- {my-asn: 64512, peer-asn: 64513, peer-address: 192.0.2.2, ebgp-multihop: true, password: x}
bgp-communities: {vip: '64512:1'}
address-pools:
- {name: My_Pool, protocol: layer2, addresses: [192.0.2.0/28], auto-assign: false}
- {name: b, protocol: bgp, addresses: [192.0.3.0/24], avoid-buggy-ips: true, bgp-advertisements: [{aggregation-length: 24, localpref: 7, communities: [vip]}]}
bfd-profiles:
- {name: fast, receive-interval: 50, echo-mode: true}`),
			want: ours("IPAddressPool", "b", "{addresses: [192.0.3.0/24], avoidBuggyIPs: true}") + "---\n" +
				ours("IPAddressPool", "my-pool", "{addresses: [192.0.2.0/28], autoAssign: false}") + "---\n" +
				ours("BFDProfile", "fast", "{receiveInterval: 50}") + "---\n" +
				ours("Community", "communities", "{communities: [{name: vip, value: '64512:1'}]}") + "---\n" +
				ours("BGPPeer", "peer-1", "{myASN: 64512, peerASN: 64512, peerAddress: 192.0.2.1, holdTime: 30s, bfdProfile: fast, nodeSelectors: [{matchLabels: {rack: a}, matchExpressions: [{key: a, operator: In, values: [b]}]}]}") + "---\n" +
				ours("BGPPeer", "peer-2", "{myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.2, ebgpMultiHop: true, password: x}") + "---\n" +
				ours("L2Advertisement", "my-pool", "{ipAddressPools: [my-pool]}") + "---\n" +
				ours("BGPAdvertisement", "b", "{ipAddressPools: [b], aggregationLength: 24, localPref: 7, communities: [vip]}"),
			notes: []string{"changed data.config: address-pools.name", "changed", "changed", "changed spec.echoMode", "changed", "changed", "changed", "changed"},
			says:  `"My_Pool" is now called "my-pool"`,
		},
		"ConfigMap of long ago":   {in: configMap("config", "config", "address-pools:\n- {name: a, protocol: arp, cidr: [192.0.2.0/28]}"), notes: []string{"refused data.config: address-pools[0].cidr"}},
		"ConfigMap with discover": {in: configMap("config", "config", "peer-autodiscovery: {}"), notes: []string{"refused data.config: peer-autodiscovery"}},
		"ConfigMap with seconds":  {in: configMap("config", "config", "peers:\n- {my-asn: 1, peer-asn: 2, peer-address: 192.0.2.1, hold-time: '120'}"), notes: []string{"refused data.config: peers[0].hold-time"}, says: "90s"},
		"ConfigMap that is none":  {in: configMap("config", "config", "just: [broken"), notes: []string{"refused data.config"}},
		"ConfigMap of nothing":    {in: configMap("config", "config", "# nothing"), notes: []string{"ignored data.config"}},
		"bgpextras":               {in: configMap("bgpextras", "extras", "router bgp 1"), notes: []string{"refused data.extras"}},
		"excludel2":               {in: configMap("metallb-excludel2", "excludel2.yaml", "announcedInterfacesToExclude: [docker.*]"), notes: []string{"ignored"}, says: "subnet"},
		"another ConfigMap":       {in: configMap("x", "y", "z"), notes: []string{"ignored"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := Migrate(Input{Objects: parse(t, c.in)}, options())
			if d := cmp.Diff(raw(parse(t, c.want)), fields(t, r)); d != "" {
				t.Errorf("objects (-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.notes, brief(r)); d != "" {
				t.Errorf("notes (-want +got):\n%s\n%v", d, r.Notes)
			}
			var all strings.Builder
			for _, n := range r.Notes {
				all.WriteString(n.String() + "\n")
			}
			if !strings.Contains(all.String(), c.says) {
				t.Errorf("%q is not in\n%s", c.says, all.String())
			}
		})
	}
}

func service(namespace, name string, addrs ...string) Service {
	s := Service{Service: lb.Service{Key: lb.ServiceKey{Namespace: namespace, Name: name}}}
	for _, a := range addrs {
		s.Ingress = append(s.Ingress, lb.Ingress{Addr: netip.MustParseAddr(a)})
	}
	return s
}

func TestServices(t *testing.T) {
	pool := theirs("v1beta1", "IPAddressPool", "spec: {addresses: [192.0.2.0/28]}")
	classed, broken, asking := service("x", "a", "192.0.2.1"), service("x", "a", "192.0.2.1"), service("x", "a")
	classed.Class = "metallb.io/lb"
	broken.Refusal = lb.Refusal{Reason: lb.BadRequest, Message: "annotation metallb.io/x is wrong"}
	asking.RequestedPool = "b"
	wishing := service("y", "b")
	wishing.RequestedAddrs = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	for name, c := range map[string]struct {
		services []Service
		shared   bool
		notes    []string // after that of the pool
		step     string   // part of a command
	}{
		"has an address":             {services: []Service{service("x", "a", "192.0.2.1")}, notes: []string{"taken"}},
		"has one of no pool":         {services: []Service{service("x", "a", "192.0.9.1")}, notes: []string{"refused status.loadBalancer.ingress"}},
		"shares within a namespace":  {services: []Service{service("x", "a", "192.0.2.1"), service("x", "b", "192.0.2.1")}, notes: []string{"taken", "taken"}},
		"shares across namespaces":   {services: []Service{service("x", "a", "192.0.2.1"), service("y", "b", "192.0.2.1")}, shared: true, notes: []string{"taken", "taken", "changed spec.allowCrossNamespaceSharing"}},
		"asks to share across":       {services: []Service{service("x", "a", "192.0.2.1"), wishing}, shared: true, notes: []string{"taken", "taken", "changed spec.allowCrossNamespaceSharing"}},
		"has a class":                {services: []Service{classed}, notes: []string{"changed spec.loadBalancerClass"}, step: "--set loadBalancerClass=metallb.io/lb"},
		"cannot be read":             {services: []Service{broken}, notes: []string{"refused metadata.annotations"}},
		"asks for a pool that isn't": {services: []Service{asking}, notes: []string{"refused metadata.annotations"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := Migrate(Input{Objects: parse(t, pool), Services: c.services}, options())
			if d := cmp.Diff(append([]string{"taken"}, c.notes...), brief(r)); d != "" {
				t.Errorf("notes (-want +got):\n%s\n%v", d, r.Notes)
			}
			if got := fields(t, r)[0]["spec"].(map[string]any)["allowCrossNamespaceSharing"] == true; got != c.shared {
				t.Errorf("allowCrossNamespaceSharing is %v, want %v", got, c.shared)
			}
			var commands strings.Builder
			for _, s := range r.Steps {
				commands.WriteString(s.Command + "\n")
			}
			if !strings.Contains(commands.String(), c.step) {
				t.Errorf("%q is not in\n%s", c.step, commands.String())
			}
		})
	}
}

func TestSecretsAreAStep(t *testing.T) {
	in := theirs("v1beta2", "BGPPeer", "spec: {myASN: 1, peerASN: 2, peerAddress: 192.0.2.1, passwordSecret: {name: s, namespace: other}}")
	r := Migrate(Input{Objects: parse(t, in)}, options())
	for _, s := range r.Steps {
		if strings.Contains(s.Command, "create secret generic s -n fairlead-system") && strings.Contains(s.Command, "get secret s -n other") {
			return
		}
	}
	t.Errorf("no step copies Secret other/s: %v", r.Steps)
}

// FuzzMigrate holds Migrate to its promise: nothing goes in without a note, and what is written is valid.
func FuzzMigrate(f *testing.F) {
	f.Add(theirs("v1beta1", "IPAddressPool", "spec: {addresses: [192.0.2.0/28]}"))
	f.Add(theirs("v1beta1", "AddressPool", "spec: {protocol: bgp, addresses: [192.0.2.0/28], bgpAdvertisements: [{aggregationLength: 24}]}"))
	f.Add(theirs("v1beta1", "BFDProfile", "spec: {echoMode: true}"))
	f.Add(configMap("config", "config", "address-pools:\n- {name: A_, protocol: layer2, addresses: [192.0.2.0/28]}"))
	f.Fuzz(func(t *testing.T, text string) {
		objects, err := manifest.Parse("f", []byte(text))
		if err != nil {
			return
		}
		objects = slices.DeleteFunc(objects, func(o manifest.Object) bool { return o.Is("", "Service") })
		r := Migrate(Input{Objects: objects}, options())
		if len(r.Notes) < len(objects) {
			t.Errorf("%d objects have %d notes", len(objects), len(r.Notes))
		}
		for _, o := range r.Objects {
			if errs := o.Validate(); len(errs) > 0 || o.GetNamespace() != "fairlead-system" {
				t.Errorf("%s is written, but %v", o.GetName(), errs)
			}
		}
	})
}
