package archtest

import (
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSemanticsAreProved holds docs/semantics.md against the code: every statement has a row, every cell says something, and
// every test that is named exists.
func TestSemanticsAreProved(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "semantics.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasSuffix(s.path, "_test.go") {
				tests[f.Name.Name] = true
			}
		}
	}
	rows := statements(t, string(text), tests)
	for letter, last := range map[string]int{"S": 77, "H": 17, "I": 17} {
		for n := 1; n <= last; n++ {
			if key := fmt.Sprint(letter, n); rows[key] != 1 {
				t.Errorf("%s has %d rows, want one", key, rows[key])
			}
			delete(rows, fmt.Sprint(letter, n))
		}
	}
	for key := range rows {
		t.Errorf("%s is no statement", key)
	}
}

// statements checks the cells of each row, and counts the rows by number.
func statements(t *testing.T, page string, tests map[string]bool) map[string]int {
	t.Helper()
	named := regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")
	rows := map[string]int{}
	for line := range strings.Lines(page) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		number := strings.TrimSpace(cells[0])
		if !strings.HasPrefix(line, "| ") || number == "" {
			continue
		}
		rows[number]++
		if len(cells) != 6 {
			t.Errorf("%s: %d cells, want 6", number, len(cells))
			continue
		}
		for i, cell := range cells[2:] {
			cell = strings.TrimSpace(cell)
			found := named.FindAllStringSubmatch(cell, -1)
			for _, f := range found {
				if !tests[f[1]] {
					t.Errorf("%s: there is no %s", number, f[1])
				}
			}
			said := strings.HasPrefix(cell, "– ") || strings.HasPrefix(cell, "open: ") || cell == "as left" && i > 0
			if len(found) == 0 && !said {
				t.Errorf("%s, column %d: %q names no test, and does not say why", number, i+3, cell)
			}
		}
	}
	return rows
}
