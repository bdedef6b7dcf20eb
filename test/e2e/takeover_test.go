//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
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
	"github.com/fairlead-lb/fairlead/test/cluster"
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

// load opens a connection every 5 ms to each target until it is told to stop.
func load(t *testing.T, targets ...netip.AddrPort) (stop func() []probe.Report) {
	t.Helper()
	dir := t.TempDir()
	reports, errs := make([]probe.Report, len(targets)), make([]error, len(targets))
	done := make(chan int)
	for i, target := range targets {
		go func() {
			defer func() { done <- i }()
			out, err := lab.Exec(t.Context(), "client", "sh", "-c", fmt.Sprintf(`echo $$ >%s/%d; exec %s http %s -path /hostname -interval %s -timeout %s -for 10m`,
				dir, i, filepath.Join(lab.Bin, "probe"), target, 5*time.Millisecond*cluster.Slow(), time.Second*cluster.Slow()))
			if err == nil {
				err = json.Unmarshal([]byte(out), &reports[i])
			}
			errs[i] = err
		}()
	}
	return func() []probe.Report {
		t.Helper()
		_, err := lab.Exec(t.Context(), "client", "sh", "-c", "kill -INT $(cat "+dir+"/*)")
		must(t, err)
		for range targets {
			<-done
		}
		for _, err := range errs {
			must(t, err)
		}
		return reports
	}
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
	stop := load(t, targets...)
	s.page(t, page)
	time.Sleep(3 * time.Second) // what kube-proxy still has to take away
	for i, r := range stop() {
		t.Logf("%s: %d connections, %d failed, longest gap %.0f ms", targets[i], r.Attempts, r.Failed, r.LongestGap)
		failed := r.Failed - r.Errors["interrupt signal received"] // those were open when the client was told to stop
		if r.OK == 0 || failed*100 > r.Attempts {                  // one that is open while its address moves may be lost
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
