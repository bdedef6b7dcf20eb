package monitoring

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

func read(t *testing.T, name string) any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "charts", "fairlead", "files", name))
	if err != nil {
		t.Fatal(err)
	}
	if text, err = yaml.YAMLToJSON(text); err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// expressions returns everything that is called expr, wherever it is.
func expressions(v any) []string {
	var out []string
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			out = append(out, expressions(x)...)
		}
	case map[string]any:
		for key, x := range v {
			if text, ok := x.(string); ok && key == "expr" {
				out = append(out, text)
				continue
			}
			out = append(out, expressions(x)...)
		}
	}
	return out
}

func TestExpressions(t *testing.T) {
	for file, least := range map[string]int{"alerts.yaml": 10, "dashboard.json": 10} {
		all := expressions(read(t, file))
		if len(all) < least {
			t.Errorf("%s has only %d expressions", file, len(all))
		}
		for _, text := range all {
			e, err := parser.ParseExpr(text)
			if err != nil {
				t.Errorf("%s: %q: %v", file, text, err)
				continue
			}
			names := 0
			parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
				if s, ok := n.(*parser.VectorSelector); ok {
					names++
					if s.Name != "up" && !strings.HasPrefix(s.Name, "fairlead_") {
						t.Errorf("%s: %q asks for %s, which nothing of Fairlead tells", file, text, s.Name)
					}
				}
				return nil
			})
			if names == 0 {
				t.Errorf("%s: %q asks for nothing", file, text)
			}
		}
	}
}
