//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/test/cluster"
)

const fairleadNamespace = "fairlead-system"

// kubectl runs kubectl with the manifest as its standard input and returns all that it prints, warnings and errors included.
func kubectl(t *testing.T, manifest string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(lab.Bin, "fairlab"), append([]string{"kubectl", "--name", lab.Name}, args...)...)
	cmd.Stdin = strings.NewReader(manifest)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func poolManifest(namespace, name, spec string) string {
	return fmt.Sprintf(`{"apiVersion":"fairlead.dev/v1beta1","kind":"IPAddressPool","metadata":{"namespace":%q,"name":%q},"spec":%s}`, namespace, name, spec)
}

// dryRun has the API server check the manifest, webhooks included, without keeping it.
func dryRun(t *testing.T, manifest string) (string, error) {
	t.Helper()
	return kubectl(t, manifest, "apply", "--dry-run=server", "-f", "-")
}

// checked waits until changes of pools are judged. It may be called while the test is cleaned up.
func checked(t *testing.T) {
	t.Helper()
	ctx := cleanupContext(t)
	must(t, cluster.Until(ctx, 30*time.Second, func() error {
		p := &v1beta1.IPAddressPool{Spec: v1beta1.IPAddressPoolSpec{Addresses: []string{"10.96.0.0/16"}}}
		p.Namespace, p.Name = fairleadNamespace, "checked"
		if err := lab.Client.Create(ctx, p, client.DryRunAll); !apierrors.IsInvalid(err) {
			return fmt.Errorf("a pool of ClusterIPs gives %v, want a refusal", err)
		}
		return nil
	}))
}

// says fails the test unless the text has all of want.
func says(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("want %q in:\n%s", w, text)
		}
	}
}

func TestWebhookRefuses(t *testing.T) {
	ns := namespace(t, "192.0.2.50-192.0.2.55")
	checked(t)
	for name, c := range map[string]struct {
		spec string
		want []string
	}{
		"other pool":      {`{"addresses":["192.0.2.55-192.0.2.60"]}`, []string{"spec.addresses[0]", "192.0.2.55", ns, "keep each address in one pool"}},
		"node":            {`{"addresses":["192.0.2.56/32","192.0.2.8-192.0.2.20"]}`, []string{"spec.addresses[1]", "192.0.2.11", "an address of Node node-1"}},
		"pods":            {`{"addresses":["10.244.1.16/28"]}`, []string{"spec.addresses[0]", "10.244.1.0/24", "Node node-1 gives addresses to pods"}},
		"ClusterIPs":      {`{"addresses":["10.96.5.0/24"]}`, []string{"spec.addresses[0]", "ServiceCIDR kubernetes"}},
		"itself":          {`{"addresses":["192.0.2.60-192.0.2.62","192.0.2.62/32"]}`, []string{"spec.addresses[1]", "overlaps", "keep each address in one entry"}},
		"end first":       {`{"addresses":["192.0.2.62-192.0.2.60"]}`, []string{"spec.addresses[0]", "ends before it starts"}},
		"IPv6, end first": {`{"addresses":["2001:db8::9-2001:db8::1"]}`, []string{"spec.addresses[0]", "ends before it starts", "2001:db8::1-2001:db8::9"}},
		"two families":    {`{"addresses":["192.0.2.62-2001:db8::1"]}`, []string{"spec.addresses[0]", "one entry per family"}},
		"selector":        {`{"addresses":["192.0.2.60/32"],"serviceAllocation":{"serviceSelectors":[{"matchExpressions":[{"key":"a","operator":"In"}]}]}}`, []string{"spec.serviceAllocation.serviceSelectors[0]", "values"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := dryRun(t, poolManifest(fairleadNamespace, "refused", c.spec))
			if err == nil {
				t.Errorf("not refused: %s", out)
			}
			says(t, out, c.want...)
		})
	}
	out, err := dryRun(t, `{"apiVersion":"fairlead.dev/v1beta1","kind":"L2Advertisement","metadata":{"namespace":"fairlead-system","name":"refused"},"spec":{"nodeSelectors":[{"matchLabels":{"a":"-"}}]}}`)
	if err == nil {
		t.Errorf("an L2Advertisement with a wrong selector was not refused: %s", out)
	}
	says(t, out, "spec.nodeSelectors[0]")
}

func TestWebhookWarns(t *testing.T) {
	ns := namespace(t, "192.0.2.65-192.0.2.66")
	s := service(t, ns, "web")
	has := address(t, s)
	checked(t)
	for name, c := range map[string]struct {
		manifest string
		want     []string
	}{
		"namespace": {poolManifest(ns, "misplaced", `{"addresses":["192.0.2.65/32"]}`), []string{"Warning: ", `metadata.namespace is "` + ns + `"`, `"fairlead-system"`}},
		"unknown pool": {`{"apiVersion":"fairlead.dev/v1beta1","kind":"L2Advertisement","metadata":{"namespace":"fairlead-system","name":"warned"},"spec":{"ipAddressPools":["` + ns + `","nonesuch"]}}`,
			[]string{"Warning: ", `spec.ipAddressPools[1] is "nonesuch"`}},
		"addresses": {poolManifest(fairleadNamespace, ns, `{"addresses":["192.0.2.66/32"],"serviceAllocation":{"namespaces":["`+ns+`"]}}`),
			[]string{"Warning: ", ns + "/web (" + has.Addr().String() + ")", "keep their addresses", "fairlead.dev/release"}},
		"allocation": {poolManifest(fairleadNamespace, ns, `{"addresses":["192.0.2.65-192.0.2.66"],"serviceAllocation":{"namespaces":["other"]}}`),
			[]string{"Warning: ", "spec.serviceAllocation", ns + "/web (" + has.Addr().String() + ")"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := dryRun(t, c.manifest)
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
			says(t, out, c.want...)
		})
	}
}

func TestPoolInUseIsNotDeleted(t *testing.T) {
	ns := namespace(t, "192.0.2.67/32")
	s := service(t, ns, "web")
	has := address(t, s)
	checked(t)
	out, err := kubectl(t, "", "-n", fairleadNamespace, "delete", "ipaddresspool", ns)
	if err == nil {
		t.Fatalf("a pool in use was deleted: %s", out)
	}
	says(t, out, "Forbidden", ns+"/web ("+has.Addr().String()+")", "fairlead.dev/force-delete")
	patch(t, poolOf(ns), `{"metadata":{"annotations":{"fairlead.dev/force-delete":"true"}}}`)
	if out, err = kubectl(t, "", "-n", fairleadNamespace, "delete", "ipaddresspool", ns); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	says(t, out, "Warning: ", ns+"/web ("+has.Addr().String()+")", "keep their addresses")
	time.Sleep(time.Second)
	if got := address(t, s); got != has {
		t.Errorf("the Service has %s after the forced deletion of its pool, want %s", got, has)
	}
}

// A pool whose last Service has gone a moment ago is not in use, whatever the caches say.
func TestPoolIsDeletedRightAfterItsService(t *testing.T) {
	checked(t)
	for i := range 5 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			ns := namespace(t, "192.0.2.68/32")
			s := service(t, ns, "web")
			address(t, s)
			must(t, lab.Client.Delete(t.Context(), s))
			must(t, lab.Client.Delete(t.Context(), poolOf(ns)))
		})
	}
}

// Whether it leads or not, every controller serves the webhook and has a certificate for it.
func TestEveryControllerServesTheWebhook(t *testing.T) {
	checked(t)
	readyControllers(t)
	for _, p := range controllerPods(t, t.Context()) {
		eventually(t, 20*time.Second, func() error {
			get := func(address, path string) (string, error) {
				return kubectl(t, "", "get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/proxy%s", fairleadNamespace, address, path))
			}
			metrics, err := get(p.Name+":9380", "/metrics")
			if err != nil || !strings.Contains(metrics, "\nfairlead_webhook_certificate_expiry_seconds 1.") {
				return fmt.Errorf("%s has no certificate: %v", p.Name, err)
			}
			if out, err := get("https:"+p.Name+":9443", "/validate"); err != nil || !strings.Contains(out, "expected application/json") {
				return fmt.Errorf("%s does not serve the webhook: %v: %s", p.Name, err, out)
			}
			return nil
		})
	}
}

func webhookSecret(t *testing.T) *corev1.Secret {
	t.Helper()
	var s corev1.Secret
	must(t, lab.Client.Get(t.Context(), client.ObjectKey{Namespace: fairleadNamespace, Name: "fairlead-webhook"}, &s))
	return &s
}

func webhookConfig(t *testing.T) *admissionregistrationv1.ValidatingWebhookConfiguration {
	t.Helper()
	var c admissionregistrationv1.ValidatingWebhookConfiguration
	must(t, lab.Client.Get(t.Context(), client.ObjectKey{Name: "fairlead-webhook"}, &c))
	return &c
}

func TestWebhookCertificatesHeal(t *testing.T) {
	checked(t)
	before := webhookSecret(t)
	healed := func(how string, limit time.Duration, done func(*corev1.Secret) bool) {
		t.Helper()
		start := time.Now()
		eventually(t, limit, func() error {
			var s corev1.Secret
			if err := lab.Client.Get(t.Context(), client.ObjectKeyFromObject(before), &s); err != nil {
				return err
			}
			if bundle := webhookConfig(t).Webhooks[0].ClientConfig.CABundle; !done(&s) || !bytes.Equal(bundle, s.Data["ca.crt"]) {
				return fmt.Errorf("%s: not healed; the bundle has %d bytes, ca.crt %d", how, len(bundle), len(s.Data["ca.crt"]))
			}
			return nil
		})
		t.Logf("%s: healed after %v", how, time.Since(start).Round(time.Millisecond))
		checked(t)
	}
	must(t, lab.Client.Delete(t.Context(), before))
	healed("Secret deleted", 40*time.Second, func(s *corev1.Secret) bool { return !bytes.Equal(s.Data["ca.crt"], before.Data["ca.crt"]) })

	damaged := webhookSecret(t)
	patch(t, damaged, `{"data":{"tls.key":"bm9uc2Vuc2U="}}`)
	healed("key damaged", 40*time.Second, func(s *corev1.Secret) bool {
		return bytes.Equal(s.Data["ca.crt"], damaged.Data["ca.crt"]) && len(s.Data["tls.key"]) > 100
	})

	config := webhookConfig(t)
	config.Webhooks[0].ClientConfig.CABundle = nil
	must(t, lab.Client.Update(t.Context(), config))
	healed("bundle emptied", 40*time.Second, func(*corev1.Secret) bool { return true })

	bundle := webhookConfig(t).Webhooks[0].ClientConfig.CABundle
	must(t, install(t.Context()))
	if !bytes.Equal(webhookConfig(t).Webhooks[0].ClientConfig.CABundle, bundle) {
		t.Error("helm upgrade changed the bundle")
	}
	checked(t)
}

// scaleControllers waits until there are so many controllers and all are ready. It may be called while the test is cleaned up.
func scaleControllers(t *testing.T, ctx context.Context, n int) {
	t.Helper()
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: fairleadNamespace, Name: "fairlead-controller"}}
	must(t, lab.Client.Patch(ctx, d, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n))))
	must(t, cluster.Until(ctx, 60*time.Second, func() error {
		pods := controllerPods(t, ctx)
		if ready := len(slices.DeleteFunc(slices.Clone(pods), func(p corev1.Pod) bool { return !podReady(p) })); len(pods) != n || ready != n {
			return fmt.Errorf("%d controller pods, %d ready, want %d", len(pods), ready, n)
		}
		return nil
	}))
}

// passes makes and deletes a pool that the webhook would refuse, and fails the test if that does not go through in time.
func passes(t *testing.T, how string) {
	t.Helper()
	p := &v1beta1.IPAddressPool{Spec: v1beta1.IPAddressPoolSpec{Addresses: []string{"10.96.7.0/30"}}}
	p.Namespace, p.Name = fairleadNamespace, "unchecked"
	start := time.Now()
	must(t, lab.Client.Create(t.Context(), p))
	created := time.Since(start)
	must(t, lab.Client.Delete(t.Context(), p))
	t.Logf("%s: created after %v, deleted after %v", how, created.Round(time.Millisecond), (time.Since(start) - created).Round(time.Millisecond))
	if limit := 5 * time.Second * cluster.Slow(); created > limit {
		t.Errorf("%s: a change took %v, want at most the webhook's 3 s and some", how, created)
	}
}

func TestPoolsCanBeChangedWithoutControllers(t *testing.T) {
	checked(t)
	t.Cleanup(func() { scaleControllers(t, cleanupContext(t), 2); checked(t) })
	readyControllers(t)
	send(t, "STOP", controllers(t)...)
	passes(t, "controllers hang")
	send(t, "CONT", controllers(t)...)
	scaleControllers(t, t.Context(), 0)
	passes(t, "no controllers")
}
