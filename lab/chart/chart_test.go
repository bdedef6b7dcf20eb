package chart

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"helm.sh/helm/v3/pkg/strvals"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const everything = "monitoring.podMonitor.enabled=true,monitoring.prometheusRule.enabled=true,monitoring.dashboard.enabled=true," +
	"controller.podAnnotations.a=b,speaker.podAnnotations.a=b,imagePullSecrets[0].name=pull"

func directory() string { return filepath.Join("..", "..", "charts", "fairlead") }

// render returns the templates that render to something, by their file names, with the values set as --set does.
func render(t testing.TB, set string) (map[string]string, error) {
	t.Helper()
	c, err := loader.Load(directory())
	if err != nil {
		t.Fatal(err)
	}
	values, err := strvals.Parse(set)
	if err != nil {
		t.Fatal(err)
	}
	caps := chartutil.DefaultCapabilities.Copy()
	caps.KubeVersion = chartutil.KubeVersion{Version: "v1.36.3", Major: "1", Minor: "36"}
	all, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: "fairlead", Namespace: "fairlead-system", IsInstall: true}, caps)
	if err != nil {
		return nil, err
	}
	rendered, err := engine.Render(c, all)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for name, text := range rendered {
		base := filepath.Base(name)
		if strings.TrimSpace(text) != "" && strings.HasSuffix(base, ".yaml") {
			out[base] = text
		}
	}
	return out, nil
}

// objects decodes every object strictly and returns what there is, as "Kind name". Those of the Prometheus operator are returned
// undecoded: their types are not Kubernetes'.
func objects(t *testing.T, files map[string]string) map[string]runtime.Object {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(s, serializer.EnableStrict).UniversalDeserializer()
	out := map[string]runtime.Object{}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		documents := utilyaml.NewYAMLReader(bufioReader(files[file]))
		for {
			document, err := documents.Read()
			if err != nil {
				break
			}
			if strings.TrimSpace(stripped(document)) == "" || bytes.Contains(document, []byte("monitoring.coreos.com/")) {
				continue
			}
			o, gvk, err := decoder.Decode(document, nil, nil)
			if err != nil {
				t.Errorf("%s: %v in\n%s", file, err, document)
				continue
			}
			name := fmt.Sprintf("%s %s", gvk.Kind, nameOf(o))
			if out[name] != nil {
				t.Errorf("%s: %s is there twice", file, name)
			}
			out[name] = o
		}
	}
	return out
}

func bufioReader(text string) *bufio.Reader { return bufio.NewReader(strings.NewReader(text)) }

// stripped returns the document without its comments.
func stripped(document []byte) string {
	lines := slices.DeleteFunc(strings.Split(string(document), "\n"), func(l string) bool { return strings.HasPrefix(strings.TrimSpace(l), "#") })
	return strings.Join(lines, "\n")
}

func nameOf(o runtime.Object) string {
	m, err := meta.Accessor(o)
	if err != nil {
		return ""
	}
	return m.GetName()
}

func TestLint(t *testing.T) {
	for _, set := range []string{"", everything} {
		values, err := strvals.Parse(set)
		if err != nil {
			t.Fatal(err)
		}
		caps := chartutil.KubeVersion{Version: "v1.36.3", Major: "1", Minor: "36"}
		for _, m := range lint.AllWithKubeVersion(directory(), values, "fairlead-system", &caps).Messages {
			if m.Severity >= support.WarningSev {
				t.Errorf("with %q: %s", set, m.Error())
			}
		}
	}
}

func TestObjects(t *testing.T) {
	for name, c := range map[string]struct{ set, with, without string }{
		"defaults":       {"", "PodDisruptionBudget fairlead-controller", "ConfigMap fairlead-dashboard"},
		"everything":     {everything, "ConfigMap fairlead-dashboard", ""},
		"announce only":  {"datapath.mode=none", "DaemonSet fairlead-speaker", ""},
		"full":           {"datapath.mode=full,datapath.apiServer.host=192.0.2.1,datapath.nodePortAddresses={192.0.2.0/24}", "DaemonSet fairlead-speaker", ""},
		"one controller": {"controller.replicas=1", "NetworkPolicy fairlead-controller", "PodDisruptionBudget fairlead-controller"},
		"dashboard":      {"", "ClusterRole fairlead-dashboard", ""},
		"no dashboard":   {"dashboard.enabled=false", "Deployment fairlead-controller", "ClusterRole fairlead-dashboard"},
		"no webhook":     {"webhook.enabled=false", "Deployment fairlead-controller", "ValidatingWebhookConfiguration fairlead-webhook"},
		"no policies":    {"networkPolicy.enabled=false,controller.podDisruptionBudget=false,diagnosis.clusterRole=false", "Deployment fairlead-controller", "NetworkPolicy fairlead-controller"},
		"calm":           {"heartbeat.realtime=false,heartbeat.interval=0s", "DaemonSet fairlead-speaker", ""},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := render(t, c.set)
			if err != nil {
				t.Fatal(err)
			}
			got := objects(t, files)
			if got[c.with] == nil {
				t.Errorf("there is no %s among %v", c.with, slices.Sorted(maps.Keys(got)))
			}
			if c.without != "" && got[c.without] != nil {
				t.Errorf("there is a %s", c.without)
			}
		})
	}
}

func TestValuesAreChecked(t *testing.T) {
	for set, field := range map[string]string{
		"controler.replicas=2":              "controler",
		"controller.replicas=0":             "replicas",
		"controller.onCordon=keep":          "controller",
		"speaker.replicas=2":                "speaker",
		"speaker.onCordon=go":               "onCordon",
		"datapath.engine=ebpf":              "engine",
		"datapath.ipMode=proxy":             "ipMode",
		"gossip.probeInterval=fast":         "probeInterval",
		"heartbeat.multiplier=0":            "multiplier",
		"logLevel=loud":                     "logLevel",
		"networkPolicy.enabled=maybe":       "networkPolicy",
		"monitoring.podMonitor.interval=30": "interval",
		"monitoring.dashboard.name=x":       "dashboard",
		"webhook.port=80":                   "port",
		"dashboard.port=0":                  "port",
		"loadBalancerClass=fairlead":        "loadBalancerClass",
	} {
		if _, err := render(t, set); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s is accepted, or refused without naming %s: %v", set, field, err)
		}
	}
}

func TestIPMode(t *testing.T) {
	for set, want := range map[string]string{"": "Proxy", "datapath.mode=full": "VIP", "datapath.mode=none": "VIP", "datapath.ipMode=VIP": "VIP", "datapath.mode=none,datapath.ipMode=Proxy": "Proxy"} {
		files, err := render(t, set)
		if err != nil {
			t.Fatal(err)
		}
		args := objects(t, files)["Deployment fairlead-controller"].(*appsv1.Deployment).Spec.Template.Spec.Containers[0].Args
		if !slices.Contains(args, "--ip-mode="+want) {
			t.Errorf("with %q the controller has %v, want ipMode %s", set, args, want)
		}
	}
}

// No container may do more than it needs; the chart's promise in docs/security.md.
func TestLeastPrivilege(t *testing.T) {
	files, err := render(t, "")
	if err != nil {
		t.Fatal(err)
	}
	all := objects(t, files)
	pods := map[string]corev1.PodSpec{
		"controller": all["Deployment fairlead-controller"].(*appsv1.Deployment).Spec.Template.Spec,
		"speaker":    all["DaemonSet fairlead-speaker"].(*appsv1.DaemonSet).Spec.Template.Spec,
	}
	for name, pod := range pods {
		if pod.SecurityContext == nil || pod.SecurityContext.SeccompProfile == nil || pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: no RuntimeDefault seccomp profile", name)
		}
		for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
			s := c.SecurityContext
			if s == nil || s.Privileged != nil && *s.Privileged || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
				s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || s.Capabilities == nil || !slices.Contains(s.Capabilities.Drop, "ALL") {
				t.Errorf("%s/%s may do too much: %+v", name, c.Name, s)
				continue
			}
			for _, add := range s.Capabilities.Add {
				if !slices.Contains([]corev1.Capability{"NET_ADMIN", "NET_RAW", "SYS_NICE", "IPC_LOCK", "NET_BIND_SERVICE"}, add) {
					t.Errorf("%s/%s has the capability %s", name, c.Name, add)
				}
			}
			if c.Resources.Requests.Memory().IsZero() {
				t.Errorf("%s/%s asks for no memory", name, c.Name)
			}
		}
	}
}

// What the Prometheus operator would make of it: each monitor finds the pods of its component and their port, and the alerts and
// the dashboard arrive as they are in the chart's files.
func TestMonitoring(t *testing.T) {
	files, err := render(t, everything)
	if err != nil {
		t.Fatal(err)
	}
	all := objects(t, files)
	templates := map[string]corev1.PodTemplateSpec{
		"fairlead-controller": all["Deployment fairlead-controller"].(*appsv1.Deployment).Spec.Template,
		"fairlead-speaker":    all["DaemonSet fairlead-speaker"].(*appsv1.DaemonSet).Spec.Template,
	}
	found := 0
	for _, document := range strings.Split(files["monitoring.yaml"], "---\n") {
		var o struct {
			Kind     string
			Metadata struct{ Name string }
			Spec     struct {
				Selector            struct{ MatchLabels map[string]string }
				PodMetricsEndpoints []struct{ Port string }
				Groups              []struct {
					Rules []struct{ Alert, Expr string }
				}
			}
			Data map[string]string
		}
		if err := yaml.Unmarshal([]byte(document), &o); err != nil {
			t.Fatal(err)
		}
		switch o.Kind {
		case "PodMonitor":
			found++
			template := templates[o.Metadata.Name]
			for key, value := range o.Spec.Selector.MatchLabels {
				if template.Labels[key] != value {
					t.Errorf("%s looks for %s=%s, the pods have %q", o.Metadata.Name, key, value, template.Labels[key])
				}
			}
			if !slices.ContainsFunc(template.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == o.Spec.PodMetricsEndpoints[0].Port }) {
				t.Errorf("%s asks port %q, which the pods have not", o.Metadata.Name, o.Spec.PodMetricsEndpoints[0].Port)
			}
		case "PrometheusRule":
			found++
			if len(o.Spec.Groups) == 0 || len(o.Spec.Groups[0].Rules) < 10 || o.Spec.Groups[0].Rules[0].Expr == "" {
				t.Errorf("the alerts have not arrived: %+v", o.Spec.Groups)
			}
		case "ConfigMap":
			found++
			file, err := os.ReadFile(filepath.Join(directory(), "files", "dashboard.json"))
			if err != nil || o.Data["fairlead.json"] != string(file) {
				t.Errorf("the dashboard is not that of the file (%v)", err)
			}
		}
	}
	if found != 4 {
		t.Errorf("%d objects for monitoring, want two monitors, the alerts and the dashboard", found)
	}
}

// The objects that others configure, word by word: what changes in them is seen in a review.
func TestGolden(t *testing.T) {
	files, err := render(t, "monitoring.podMonitor.enabled=true") // alerts and dashboard are files of their own
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"disruption.yaml", "networkpolicy.yaml", "diagnosis.yaml", "monitoring.yaml"} {
		got := files[name]
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("%s (-want +got), -update rewrites it:\n%s", name, d)
		}
	}
}
