package pages

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBlocks(t *testing.T) {
	const page = "text\n```sh\nls\n```\n```console\n$ ls\nfile\n$ pwd\n```\n```sh not run: no such place\nctr\n```\n```\na picture\n```\n"
	got, err := Blocks(page)
	want := []Block{
		{2, "sh", "", "ls\n"}, {5, "console", "", "$ ls\nfile\n$ pwd\n"}, {10, "sh", "no such place", "ctr\n"}, {13, "", "", "a picture\n"},
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Fatalf("error %v, (-want +got):\n%s", err, d)
	}
	if s := got[1].Script(); s != "ls\npwd\n" {
		t.Errorf("script of a console: %q", s)
	}
	if s := got[3].Script(); s != "" {
		t.Errorf("script of a picture: %q", s)
	}
	for _, bad := range []string{"```sh\nls\n", "```sh sometimes\nls\n```\n", "```sh not run: \nls\n```\n"} {
		if got, err := Blocks(bad); err == nil {
			t.Errorf("%q gives %v and no error", bad, got)
		}
	}
}

// command is how lines begin that somebody might type.
var command = regexp.MustCompile(`(?m)^\s*(\$|kubectl|helm|make|bin/|curl|nft|ctr|skopeo|go|apt|sudo|git)\s`)

// TestEveryCommandIsMarked holds README, docs and examples to the marks that let a test run their commands.
func TestEveryCommandIsMarked(t *testing.T) {
	found := 0
	for _, pattern := range []string{"README.md", "docs/*.md", "examples/*.md", "examples/*/*.md"} {
		files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(pattern)))
		if err != nil || len(files) == 0 {
			t.Fatalf("no pages %s: %v", pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			blocks, err := Blocks(string(text))
			if err != nil {
				t.Errorf("%s: %v", file, err)
			}
			for _, b := range blocks {
				found++
				shell := b.Language == "sh" || b.Language == "console"
				if !shell && command.MatchString(b.Text) {
					t.Errorf("%s:%d: a block with commands is marked %q: mark it sh or console, or say %q and why after it:\n%s", file, b.Line, b.Language, notRun, b.Text)
				}
				if shell && strings.TrimSpace(b.Script()) == "" {
					t.Errorf("%s:%d: no command in a block that is marked %s", file, b.Line, b.Language)
				}
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d blocks: has their notation changed?", found)
	}
}
