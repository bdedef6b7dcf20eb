package link

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRaiseNeverLowers(t *testing.T) {
	root := t.TempDir()
	for key, value := range map[string]string{"low": "0\n", "high": "2\n", "words": "many\n"} {
		if err := os.WriteFile(filepath.Join(root, key), []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raised, err := Raise(root, Sysctl{"absent", 1}, Sysctl{"words", 1}, Sysctl{"high", 1}, Sysctl{"low", 1})
	if d := cmp.Diff([]Sysctl{{"low", 1}}, raised); d != "" {
		t.Errorf("raised (-want +got):\n%s", d)
	}
	if err == nil {
		t.Error("no error for the setting that is absent and the one that is no number")
	}
	for key, want := range map[string]string{"low": "1", "high": "2\n"} {
		got, err := os.ReadFile(filepath.Join(root, key))
		if err != nil || string(got) != want {
			t.Errorf("%s = %q, %v; want %q", key, got, err, want)
		}
	}
}
