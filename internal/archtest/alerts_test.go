package archtest

import (
	"encoding/json"
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// alert is a rule of the chart's files/alerts.yaml, as far as it is looked at.
type alert struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

func chartFile(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "charts", "fairlead", "files", name))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, ".json") {
		err = json.Unmarshal(text, into)
	} else {
		err = yaml.UnmarshalStrict(text, into)
	}
	if err != nil {
		t.Fatalf("reading %s: %v", name, err)
	}
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string  `json:"name"`
			Rules []alert `json:"rules"`
		} `json:"groups"`
	}
	chartFile(t, "alerts.yaml", &file)
	var out []alert
	for _, g := range file.Groups {
		out = append(out, g.Rules...)
	}
	return out
}

// TestAlertsHaveRunbooks compares the alerts of the chart with the headings of docs/alerts.md, in both directions.
func TestAlertsHaveRunbooks(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "alerts.md"))
	if err != nil {
		t.Fatal(err)
	}
	var sections []string
	for _, m := range regexp.MustCompile(`(?m)^## (.+)\n\n\S`).FindAllStringSubmatch(string(page), -1) {
		sections = append(sections, m[1])
	}
	var names []string
	for _, a := range alerts(t) {
		names = append(names, a.Alert)
		if !slices.Contains(sections, a.Alert) {
			t.Errorf("docs/alerts.md has no section %q that says what to do", a.Alert)
		}
		if a.Annotations["summary"] == "" || !slices.Contains([]string{"info", "warning", "critical"}, a.Labels["severity"]) {
			t.Errorf("alert %s has no summary, or the severity %q", a.Alert, a.Labels["severity"])
		}
	}
	for _, s := range sections {
		if !slices.Contains(names, s) {
			t.Errorf("docs/alerts.md has a section %q, which is no alert", s)
		}
	}
}

// TestMetricsInUseExist holds alerts and dashboard to the metrics of the code, those of Fairlead.
func TestMetricsInUseExist(t *testing.T) {
	known := literals(t)
	var dashboard struct {
		Panels []struct {
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	chartFile(t, "dashboard.json", &dashboard)
	expressions := map[string]string{}
	for _, a := range alerts(t) {
		expressions["alert "+a.Alert] = a.Expr
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			expressions["panel "+p.Title] += target.Expr + " "
		}
	}
	used := 0
	for where, expr := range expressions {
		for _, name := range regexp.MustCompile(`fairlead_[a-z0-9_]+`).FindAllString(expr, -1) {
			used++
			base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
			if !isMetric(known, name) && !isMetric(known, base) {
				t.Errorf("%s uses %s, which no code has", where, name)
			}
		}
	}
	if used < 10 {
		t.Errorf("alerts and dashboard use only %d metrics: has their notation changed?", used)
	}
}

// isMetric reports whether the code has the name, whole or as a prefix like "fairlead_bgp_" and the rest.
func isMetric(known map[string]bool, name string) bool {
	for i := len("fairlead_"); i < len(name); i++ {
		if name[i-1] == '_' && known[name[:i]] && known[name[i:]] {
			return true
		}
	}
	return known[name]
}

// literals returns the strings in the code.
func literals(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, s := range sources(t) {
		if strings.HasSuffix(s.path, "_test.go") || isFree(s.dir()) {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				text, _ := strconv.Unquote(l.Value)
				out[text] = true
			}
			return true
		})
	}
	return out
}
