//go:build e2e

package e2e

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/internal/migrate"
	"github.com/fairlead-lb/fairlead/test/probe"
)

// metallbObjects are MetalLB's configuration that the take-over begins with.
const metallbObjects = `apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: first, namespace: metallb-system}
spec: {addresses: [192.0.2.210-192.0.2.219]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: first, namespace: metallb-system}
`

// installMetalLB applies MetalLB's own manifests. Its images are programs of the lab under names of their own: Fairlead has a speaker too.
func installMetalLB(t *testing.T, s *shell) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(sourceOf(t, "metallb", "go.universe.tf/metallb"), "config", "manifests", "metallb-native.yaml"))
	must(t, err)
	manifest := strings.ReplaceAll(string(text), "quay.io/metallb/", "quay.io/metallb/metallb-")
	must(t, os.WriteFile(filepath.Join(s.dir, "metallb.yaml"), []byte(manifest), 0o644))
	must(t, os.WriteFile(filepath.Join(s.dir, "objects.yaml"), []byte(metallbObjects), 0o644))
	run := func(script string) {
		t.Helper()
		_, err := s.script(t.Context(), script)
		must(t, err)
	}
	run("kubectl apply -f metallb.yaml\nkubectl -n metallb-system rollout status --timeout=90s deployment/controller daemonset/speaker")
	eventually(t, time.Minute, func() error { _, err := s.script(t.Context(), "kubectl apply -f objects.yaml"); return err }) // its webhook needs a moment
}

// takeOver does what the page on the migration says, while clients open connections to the addresses that MetalLB has given.
func (s *shell) takeOver(t *testing.T, page string) {
	installMetalLB(t, s)
	ns := namespaceCalled(t, "shop")
	deployment(t, ns, "web", 2, onePerNode)
	services := []*corev1.Service{service(t, ns, "web"), service(t, ns, "local", selecting("web"), externalLocal)}
	var targets []netip.AddrPort
	for _, svc := range services {
		targets = append(targets, address(t, svc))
		answers(t, targets[len(targets)-1])
	}
	s.stepsAreOn(t, page)
	var wait []func() probe.Report
	for _, target := range targets {
		wait = append(wait, meanwhile(t, target, 5*time.Millisecond, 0))
	}
	s.page(t, page)
	for i := range targets {
		r := wait[i]()
		t.Logf("%s: %d connections, %d failed, longest gap %.0f ms", targets[i], r.Attempts, r.Failed, r.LongestGap)
		if r.OK == 0 || r.Failed*100 > r.Attempts { // one that is open while its address moves may be lost
			t.Errorf("%s: want next to no failed connection during the take-over, got %+v", targets[i], r)
		}
	}
	for i, svc := range services {
		has(t, svc, "Allocated", targets[i].Addr().String())
		if mode := svc.Status.LoadBalancer.Ingress[0].IPMode; mode == nil || *mode != corev1.LoadBalancerIPModeProxy {
			t.Errorf("ipMode of %s is %v, want Proxy", svc.Name, mode)
		}
		node := owner(t, targets[i].Addr()) // exactly one answers
		if d := decision(t, node, targets[i].Addr().String()); !d.Announce {
			t.Errorf("%s answers for %s, but Fairlead there says %+v", node, targets[i].Addr(), d)
		}
		answers(t, targets[i])
	}
	var pods corev1.PodList
	must(t, lab.Client.List(t.Context(), &pods, client.InNamespace("metallb-system")))
	if running := slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil }); len(running) > 0 {
		t.Errorf("%d pods of MetalLB run, such as %s", len(running), running[0].Name)
	}
}

// stepsAreOn holds the page to the commands of the steps that migrate prints for this cluster.
func (s *shell) stepsAreOn(t *testing.T, page string) {
	t.Helper()
	out, err := s.script(t.Context(), "kubectl fairlead migrate metallb -o json")
	must(t, err)
	var report struct{ Steps []migrate.Step }
	must(t, json.Unmarshal([]byte(out), &report))
	text, err := os.ReadFile(filepath.Join("..", "..", page))
	must(t, err)
	commands := 0
	for _, step := range report.Steps {
		if step.Command != "" {
			commands++
		}
		if !strings.Contains(string(text), step.Command) {
			t.Errorf("migrate prints the step\n%s\nwhich is not on %s", step.Command, page)
		}
	}
	if commands < 6 {
		t.Errorf("migrate prints only %d commands:\n%s", commands, out)
	}
}
