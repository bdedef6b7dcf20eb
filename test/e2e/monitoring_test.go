//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sourceOf returns the directory with the source of a module at the version that a module of this repository, beside this one, requires.
func sourceOf(t *testing.T, in, module string) string {
	t.Helper()
	var m struct{ Dir string }
	out, err := exec.CommandContext(t.Context(), "go", "-C", filepath.Join("..", in), "mod", "download", "-json", module).Output()
	must(t, err)
	must(t, json.Unmarshal(out, &m))
	return m.Dir
}

// TestMonitoringObjects has the API server judge the chart's PodMonitors and PrometheusRule by the Prometheus operator's own CRDs.
func TestMonitoringObjects(t *testing.T) {
	t.Parallel()
	crds := filepath.Join(sourceOf(t, "monitoring", "github.com/prometheus-operator/prometheus-operator"), "example", "prometheus-operator-crd", "monitoring.coreos.com_")
	for _, kind := range []string{"podmonitors", "prometheusrules"} {
		_, err := lab.Fairlab(t.Context(), "kubectl", "create", "-f", crds+kind+".yaml")
		must(t, err)
		t.Cleanup(func() {
			_, _ = lab.Fairlab(cleanupContext(t), "kubectl", "delete", "--wait=false", "crd", kind+".monitoring.coreos.com")
		})
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(lab.Bin, "helm"), "template", "fairlead", filepath.Join("..", "..", "charts", "fairlead"), "--namespace", fairleadNamespace,
		"--kube-version", "1.36", "--show-only", "templates/monitoring.yaml", "--set", "monitoring.podMonitor.enabled=true,monitoring.prometheusRule.enabled=true").Output()
	must(t, err)
	file := filepath.Join(t.TempDir(), "monitoring.yaml")
	judge := func(text string) (string, error) {
		must(t, os.WriteFile(file, []byte(text), 0o644))
		return lab.Fairlab(t.Context(), "kubectl", "create", "--dry-run=server", "--validate=strict", "-f", file)
	}
	var said string
	eventually(t, 30*time.Second, func() error { // a new kind is served a moment later
		said, err = judge(string(out))
		return err
	})
	if n := strings.Count(said, "created (server dry run)"); n != 3 {
		t.Errorf("%d objects are accepted, want two PodMonitors and a PrometheusRule:\n%s", n, said)
	}
	if _, err := judge(strings.Replace(string(out), "podMetricsEndpoints:", "podMetricsEndpoint:", 1)); err == nil {
		t.Error("a misspelt field is accepted: the test does not test")
	}
}
