package dryrun

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/manifest"
)

const (
	pool     = "apiVersion: fairlead.dev/v1beta1\nkind: IPAddressPool\nmetadata: {name: p, namespace: fairlead-system}\nspec: {addresses: [192.0.2.0/31]}\n"
	other    = "apiVersion: fairlead.dev/v1beta1\nkind: IPAddressPool\nmetadata: {name: q, namespace: fairlead-system}\nspec: {addresses: [192.0.2.1-192.0.2.9]}\n"
	layer2   = "apiVersion: fairlead.dev/v1beta1\nkind: L2Advertisement\nmetadata: {name: l, namespace: fairlead-system}\n"
	web      = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {type: LoadBalancer, ports: [{port: 80}]}\n"
	node     = "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {zone: east}}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.1}]}\n"
	hasFirst = "status: {loadBalancer: {ingress: [{ip: 192.0.2.0}]}}\n"
)

func options() kube.Options { return kube.Options{Namespace: "fairlead-system"} }

func objects(t testing.TB, texts ...string) []manifest.Object {
	t.Helper()
	out, err := manifest.Parse("f", []byte(strings.Join(texts, "---\n")))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// world has the objects in it as a cluster has them.
func world(t testing.TB, texts ...string) World {
	t.Helper()
	w := World{Options: options()}
	typed, findings := w.Parse(objects(t, texts...), "default")
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	w.Objects = typed
	return w
}

func bgp(kind, name, spec string) string {
	return "apiVersion: fairlead.dev/v1beta1\nkind: " + kind + "\nmetadata: {name: " + name + ", namespace: fairlead-system}\nspec: " + spec + "\n"
}

func TestLint(t *testing.T) {
	const peer = "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1"
	for name, c := range map[string]struct {
		cluster, files []string
		want           []string // severity, reason, field
		says           string
	}{
		"good":                     {files: []string{pool, layer2, web}},
		"order does not matter":    {files: []string{layer2 + "spec: {ipAddressPools: [p]}\n", web, pool}},
		"other things":             {files: []string{"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {nonsense: 1}\n"}},
		"typing error":             {files: []string{strings.Replace(pool, "addresses", "adresses", 1)}, want: []string{"error InvalidSpec spec.adresses"}, says: "unknown"},
		"wrong version":            {files: []string{strings.Replace(pool, "v1beta1", "v1", 1)}, want: []string{"error InvalidSpec apiVersion"}},
		"MetalLB's":                {files: []string{strings.Replace(pool, "fairlead.dev", "metallb.io", 1)}, want: []string{"error InvalidSpec apiVersion"}, says: "migrate metallb"},
		"bad range":                {files: []string{strings.Replace(pool, "192.0.2.0/31", "192.0.2.9-192.0.2.1", 1), layer2}, want: []string{"error InvalidSpec spec.addresses[0]"}, says: "192.0.2.1-192.0.2.9"},
		"twice":                    {files: []string{layer2, pool, pool}, want: []string{"error InvalidSpec metadata.name"}, says: "document 2"},
		"overlap":                  {files: []string{layer2, pool, other}, want: []string{"error PoolOverlap spec.addresses[0]"}, says: "192.0.2.1"},
		"overlap with the cluster": {cluster: []string{pool, layer2}, files: []string{other}, want: []string{"error PoolOverlap spec.addresses[0]"}},
		"address of a node":        {cluster: []string{node}, files: []string{pool, layer2}, want: []string{"error AddressReserved spec.addresses[0]"}, says: "Node n1"},
		"elsewhere":                {files: []string{strings.Replace(pool, "fairlead-system", "metallb-system", 1)}, want: []string{"warning WrongNamespace "}},
		"no advertisement":         {files: []string{pool}, want: []string{"warning NotAdvertised "}},
		"of no pool":               {files: []string{layer2 + "spec: {ipAddressPools: [x]}\n"}, want: []string{"warning UnknownPool "}},
		"of no node":               {cluster: []string{strings.Replace(node, "192.0.2.1", "10.0.0.1", 1)}, files: []string{pool, layer2 + "spec: {nodeSelectors: [{matchLabels: {zone: west}}]}\n"}, want: []string{"warning NodeNotSelected spec.nodeSelectors"}},
		"no pool for the Service":  {files: []string{web}, want: []string{"warning NoPools "}},
		"full":                     {cluster: []string{pool, layer2, strings.Replace(web, "web", "a", 1) + hasFirst, strings.Replace(web, "web", "b", 1) + strings.Replace(hasFirst, "192.0.2.0", "192.0.2.1", 1)}, files: []string{web}, want: []string{"warning PoolExhausted "}},
		"asks for another's":       {cluster: []string{pool, layer2, strings.Replace(web, "web", "a", 1) + hasFirst}, files: []string{strings.Replace(web, "namespace: shop", "namespace: shop, annotations: {fairlead.dev/loadBalancerIPs: 192.0.2.0}", 1)}, want: []string{"warning AddressInUse "}, says: "shop/a"},
		"unreadable wish":          {files: []string{pool, layer2, strings.Replace(web, "namespace: shop", "namespace: shop, annotations: {fairlead.dev/release: maybe}", 1)}, want: []string{"error BadRequest "}},
		"Service of another class": {files: []string{strings.Replace(web, "ports", "loadBalancerClass: a/b, ports", 1)}},
		"Service by both families": {files: []string{pool, layer2, strings.Replace(web, "ports", "ipFamilyPolicy: RequireDualStack, ports", 1)}, want: []string{"warning FamilyMismatch "}},
		"quota": {files: []string{pool, layer2, web, strings.Replace(web, "web", "web2", 1), "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: {fairlead.dev/max-addresses: '1'}}\n"},
			want: []string{"warning QuotaExceeded "}},
		"not covered by the labels": {files: []string{pool, layer2 + "spec: {serviceSelectors: [{matchLabels: {a: b}}]}\n", web}, want: []string{"warning NotAdvertised "}, says: "192.0.2.0"},
		"BGP":                       {files: []string{pool, bgp("BGPAdvertisement", "b", "{ipAddressPools: [p], peers: [r], communities: [vip]}"), bgp("BGPPeer", "r", peer+", bfdProfile: f}"), bgp("BFDProfile", "f", "{}"), bgp("Community", "c", "{communities: [{name: vip, value: '1:2'}]}")}},
		"BGP of nothing":            {files: []string{bgp("BGPAdvertisement", "b", "{ipAddressPools: [p], peers: [r], communities: [vip]}")}, want: []string{"warning UnknownPool ", "warning NoPeer ", "warning UnknownCommunity "}},
		"peer twice":                {files: []string{bgp("BGPPeer", "r", peer+"}"), bgp("BGPPeer", "s", peer+"}")}, cluster: []string{node}, want: []string{"error PeerConflict spec.peerAddress"}, says: "BGPPeer fairlead-system/s"},
		"name twice":                {files: []string{bgp("Community", "c", "{communities: [{name: vip, value: '1:2'}]}"), bgp("Community", "d", "{communities: [{name: vip, value: '1:3'}]}")}, want: []string{"error InvalidSpec spec.communities[0].name"}},
		"peer of no profile":        {files: []string{bgp("BGPPeer", "r", peer+", bfdProfile: f}")}, want: []string{"warning UnknownBFDProfile "}},
		"bad peer":                  {files: []string{bgp("BGPPeer", "r", "{myASN: 1, peerAddress: 192.0.2.1}")}, want: []string{"error InvalidSpec spec.peerASN"}},
		"bad profile":               {files: []string{bgp("BFDProfile", "r", "{detectMultiplier: 1}")}, want: []string{"error InvalidSpec spec.detectMultiplier"}},
		"bad community":             {files: []string{bgp("Community", "r", "{communities: [{name: a, value: b}]}")}, want: []string{"error InvalidSpec spec.communities[0].value"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := world(t, c.cluster...)
			found := w.Lint(objects(t, c.files...), "default", time.Unix(0, 0))
			var got []string
			var all strings.Builder
			for _, f := range found {
				got = append(got, string(f.Severity)+" "+string(f.Reason)+" "+f.Field)
				all.WriteString(f.String() + "\n")
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("(-want +got):\n%s\n%s", d, all.String())
			}
			if !strings.Contains(all.String(), c.says) {
				t.Errorf("%q is not in\n%s", c.says, all.String())
			}
		})
	}
}

func TestDiff(t *testing.T) {
	bigger := strings.Replace(pool, "192.0.2.0/31", "192.0.2.0/28", 1)
	away := strings.Replace(pool, "192.0.2.0/31", "198.51.100.0/31", 1)
	for name, c := range map[string]struct {
		cluster, files []string
		want           []string // Service, word, addresses and reason before and after
	}{
		"nothing":         {cluster: []string{pool, layer2, web + hasFirst}, files: []string{pool}},
		"a pool appears":  {cluster: []string{web}, files: []string{pool, layer2}, want: []string{"shop/web gets [ NoPools] -> [192.0.2.0 ]"}},
		"a new Service":   {cluster: []string{pool, layer2}, files: []string{web}, want: []string{"shop/web gets [ ] -> [192.0.2.0 ]"}},
		"more room":       {cluster: []string{pool, layer2, web + hasFirst}, files: []string{bigger}},
		"pool moves away": {cluster: []string{pool, layer2, web + hasFirst}, files: []string{away}, want: []string{"shop/web changes [192.0.2.0 ] -> [192.0.2.0 AddressOutsidePools]"}},
		"and the Service": {cluster: []string{pool, layer2, web + hasFirst}, files: []string{away, strings.Replace(web, "namespace: shop", "namespace: shop, annotations: {fairlead.dev/release: 'true'}", 1)},
			want: []string{"shop/web moves [192.0.2.0 ] -> [198.51.100.0 ]"}},
		"another wish": {cluster: []string{pool, layer2, web + hasFirst}, files: []string{strings.Replace(web, "namespace: shop", "namespace: shop, annotations: {fairlead.dev/loadBalancerIPs: 192.0.2.1}", 1)},
			want: []string{"shop/web moves [192.0.2.0 ] -> [192.0.2.1 ]"}},
		"no longer announced": {cluster: []string{pool, layer2, web + hasFirst}, files: []string{layer2 + "spec: {serviceSelectors: [{matchLabels: {a: b}}]}\n"}, want: []string{"shop/web silenced [192.0.2.0 ] -> [192.0.2.0 ]"}},
		"no longer ours":      {cluster: []string{pool, layer2, web + hasFirst}, files: []string{strings.Replace(web, "LoadBalancer", "ClusterIP", 1)}, want: []string{"shop/web loses [192.0.2.0 ] -> [ ]"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := world(t, c.cluster...)
			in, findings := w.Parse(objects(t, c.files...), "default")
			if len(findings) > 0 {
				t.Fatal(findings)
			}
			var got []string
			for _, d := range w.Diff(in, time.Unix(0, 0)) {
				side := func(o Outcome) string { return "[" + addresses(o.Addrs) + " " + string(o.Refusal.Reason) + "]" }
				got = append(got, d.Service.String()+" "+d.Word()+" "+side(d.Before)+" -> "+side(d.After))
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestObjectsAreReadLikeACluster(t *testing.T) {
	w := world(t, pool, other, strings.Replace(other, "fairlead-system", "elsewhere", 1), node)
	for name, c := range map[string]struct {
		list client.ObjectList
		opts []client.ListOption
		want int
		of   func(client.ObjectList) int
	}{
		"kind":      {&corev1.NodeList{}, nil, 1, func(l client.ObjectList) int { return len(l.(*corev1.NodeList).Items) }},
		"label":     {&corev1.NodeList{}, []client.ListOption{client.MatchingLabels{"zone": "west"}}, 0, func(l client.ObjectList) int { return len(l.(*corev1.NodeList).Items) }},
		"namespace": {&corev1.NodeList{}, []client.ListOption{client.InNamespace("x")}, 0, func(l client.ObjectList) int { return len(l.(*corev1.NodeList).Items) }},
	} {
		t.Run(name, func(t *testing.T) {
			if err := w.Objects.List(context.Background(), c.list, c.opts...); err != nil || c.of(c.list) != c.want {
				t.Errorf("listed %d, %v; want %d", c.of(c.list), err, c.want)
			}
		})
	}
	if n := len(w.facts().Pools); n != 2 {
		t.Errorf("%d pools in Fairlead's namespace, want 2", n)
	}
}
