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

// TestS64ConntrackIsLargeEnough: as kube-proxy would make it, by the number of CPUs, and never smaller than it is.
func TestS64ConntrackIsLargeEnough(t *testing.T) {
	for _, c := range []struct {
		cpus      int
		was, want string
	}{{1, "65536", "131072"}, {8, "65536", "262144"}, {8, "1000000", "1000000"}} {
		root := t.TempDir()
		dir := filepath.Join(root, "net", "netfilter")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for key, value := range map[string]string{"nf_conntrack_max": c.was, "nf_conntrack_tcp_timeout_close_wait": "60"} {
			if err := os.WriteFile(filepath.Join(dir, key), []byte(value), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Raise(root, Conntrack(c.cpus)...); err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]string{"nf_conntrack_max": c.want, "nf_conntrack_tcp_timeout_close_wait": "3600"} {
			if got, err := os.ReadFile(filepath.Join(dir, key)); err != nil || string(got) != want {
				t.Errorf("%d CPUs, %s: %q, %v; want %q", c.cpus, key, got, err, want)
			}
		}
	}
}
