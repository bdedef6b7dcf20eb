package netlab

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the answers into the scripts of test/sim")

// TestScripts plays the scenarios of test/sim in virtual time.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("../../test/sim/*.txt")
	if err != nil || len(files) < 12 {
		t.Fatalf("found %d scripts, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				got, err := Run(string(script), 1)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(string(script), got); d != "" && !*update {
					t.Errorf("-want +got:\n%s", d)
				}
				if *update {
					if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			})
		})
	}
}
