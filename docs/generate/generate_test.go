package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPagesAreFresh(t *testing.T) {
	root := filepath.Join("..", "..")
	all, err := pages(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range all {
		have, err := os.ReadFile(filepath.Join(root, "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, string(have)); d != "" {
			t.Errorf("docs/%s is stale, `go generate ./api/...` writes it (-want +have):\n%s", name, d)
		}
	}
}

// What the pages must have, whatever the notation of their sources becomes.
func TestPagesSayEverything(t *testing.T) {
	all, err := pages(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	for page, rows := range map[string][]string{
		"reasons.md": {"| `NoPools` | there is no IPAddressPool | create one in Fairlead's namespace |", "| `InvalidSpec` | condition `Ready` False |", "| `BGPNoNextHop` |"},
		"reference.md": {"## IPAddressPool", "| `spec.addresses` | list of string | required | 1 to 256 entries; each: 1 to 100 characters; ",
			"| `spec.serviceAllocation.namespaceSelectors` | list of label selector |", "| `spec.peerPort` | integer | `179` |",
			"- `spec.peerASN`: set exactly one of peerASN and dynamicASN", "| `datapath.mode` | string | `\"external\"` | `external`, `none`, `full` |"},
	} {
		for _, row := range rows {
			if !strings.Contains(all[page], row) {
				t.Errorf("%s has nothing like %q", page, row)
			}
		}
	}
}

// A reason without a cure, a group without a heading and a value without a description stop the generator.
func TestGapsAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ source, want string }{
		"no cure":      {"// # T\nconst (\n// A: a.\nA Reason = \"A\"\n)", `Do: ""`},
		"no meaning":   {"// # T\nconst (\n// Do: b.\nA Reason = \"A\"\n)", "the comment of A"},
		"no heading":   {"// Why.\nconst (\n// A: a.\n// Do: b.\nA Reason = \"A\"\n)", "is no heading"},
		"another word": {"// # T\nconst (\n// A: a.\n// Do: b.\nA Reason = \"B\"\n)", `the constant A is "B"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "reason.go"), []byte("package lb\n\n"+c.source+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := reasonsPage(dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want an error with %q", err, c.want)
			}
		})
	}
	root := schema{Properties: map[string]schema{"a": {Type: "string"}}}
	for name, want := range map[string]string{"a": "no description of a", "b": "does not have b"} {
		if _, err := root.rows(nil, "", root, map[string]any{name: "x"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
}
