//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// metallbCRD is a definition of MetalLB's group that takes any field, as far as a client can tell like MetalLB's own.
func metallbCRD(kind, plural string, versions ...string) string {
	var b strings.Builder
	b.WriteString("apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: " + plural + ".metallb.io}\n" +
		"spec:\n  group: metallb.io\n  scope: Namespaced\n  names: {kind: " + kind + ", plural: " + plural + "}\n  versions:\n")
	for i, v := range versions {
		stored := "false"
		if i == len(versions)-1 {
			stored = "true"
		}
		b.WriteString("    - name: " + v + "\n      served: true\n      storage: " + stored +
			"\n      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}\n")
	}
	return b.String()
}

// TestMigrateFromALiveCluster has objects of MetalLB in the API server, in two versions and as the old ConfigMap, and reads them
// there. What comes out is accepted by the API server and Fairlead's webhook.
func TestMigrateFromALiveCluster(t *testing.T) {
	t.Parallel()
	const system = "metallb-here"
	objects := strings.Join([]string{
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: " + system + "}\n",
		"apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: theirs, namespace: " + system + "}\nspec: {addresses: [198.51.100.0/28], autoAssign: false}\n",
		"apiVersion: metallb.io/v1beta2\nkind: BGPPeer\nmetadata: {name: theirs, namespace: " + system + "}\nspec: {myASN: 64512, peerASN: 64513, peerAddress: 198.51.100.99, nodeSelectors: [{matchLabels: {no: node}}], passwordSecret: {name: secret}}\n",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config, namespace: " + system + "}\ndata:\n  config: |\n    address-pools:\n    - {name: old, protocol: layer2, addresses: [198.51.100.16/28], auto-assign: false}\n",
	}, "---\n")
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	crds := write("crds.yaml", metallbCRD("IPAddressPool", "ipaddresspools", "v1beta1")+"---\n"+metallbCRD("BGPPeer", "bgppeers", "v1beta1", "v1beta2"))
	t.Cleanup(func() { _, _ = lab.Fairlab(cleanupContext(t), "kubectl", "delete", "--ignore-not-found", "-f", crds) })
	must(t, lab.Apply(t.Context(), crds))
	theirs := write("theirs.yaml", objects)
	t.Cleanup(func() {
		_, _ = lab.Fairlab(cleanupContext(t), "kubectl", "delete", "--ignore-not-found", "-f", theirs)
	})
	eventually(t, 30*time.Second, func() error { return lab.Apply(t.Context(), theirs) }) // a new kind is served a moment later

	code, out := plugin(t, "migrate", "metallb", "--metallb-namespace", system)
	for _, want := range []string{"name: theirs", "name: old", "kind: L2Advertisement", "myASN: 64512"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in what migrate writes:\n%s", want, out)
		}
	}
	if code != 0 {
		t.Errorf("migrate ends with %d", code)
	}
	ours := write("fairlead.yaml", out)
	if code, found := plugin(t, "lint", "--live", ours); code != 0 {
		t.Errorf("lint ends with %d: %s", code, found)
	}
	t.Cleanup(func() {
		_, _ = lab.Fairlab(cleanupContext(t), "kubectl", "delete", "--ignore-not-found", "-f", ours)
	})
	must(t, lab.Apply(t.Context(), ours))
	pool := &unstructured.Unstructured{}
	pool.SetGroupVersionKind(schema.GroupVersionKind{Group: "fairlead.dev", Version: "v1beta1", Kind: "IPAddressPool"})
	must(t, lab.Client.Get(t.Context(), client.ObjectKey{Namespace: "fairlead-system", Name: "theirs"}, pool))
	if assign, _, _ := unstructured.NestedBool(pool.Object, "spec", "autoAssign"); assign {
		t.Error("autoAssign: false was lost")
	}
}
