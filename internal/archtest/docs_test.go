package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestNamedTestsExist holds the pages of docs to the tests that they name as `package Test` or `package Test/row`: the
// package must have the function, and the row must be one of its strings.
func TestNamedTestsExist(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages in docs: %v", err)
	}
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`([a-z0-9/]+) ((?:Test|Fuzz)[A-Za-z0-9]+)(?:/([^`]+))?`").FindAllStringSubmatch(string(text), -1) {
			found++
			functions, literals := testsOf(t, m[1])
			if !slices.Contains(functions, m[2]) {
				t.Errorf("%s names %s of package %s, which has no such test", filepath.Base(page), m[2], m[1])
			}
			if m[3] != "" && !slices.Contains(literals, m[3]) {
				t.Errorf("%s names the row %q of %s %s, which has no such row", filepath.Base(page), m[3], m[1], m[2])
			}
		}
	}
	if found < 20 {
		t.Errorf("docs name only %d tests: has their notation changed?", found)
	}
}

// testsOf returns the functions and the strings of the package's tests.
func testsOf(t *testing.T, dir string) (functions, literals []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(dir), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				functions = append(functions, n.Name.Name)
			case *ast.BasicLit:
				if n.Kind == token.STRING {
					text, _ := strconv.Unquote(n.Value)
					literals = append(literals, strings.TrimSpace(text))
				}
			}
			return true
		})
	}
	return functions, literals
}
