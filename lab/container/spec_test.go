package container

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSpecFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "spec.json")
	want := Spec{
		Join:    []Namespace{{Kind: "net", Path: "/proc/7/ns/net"}},
		Root:    &Root{Lower: "/", Scratch: "/s", Mounts: []Mount{{Source: "/a", Target: "/b", ReadOnly: true}}, Masked: []string{"/proc/kcore"}},
		Process: Process{Args: []string{"/x", "y"}, Env: []string{"A=b"}, UID: 7, Groups: []uint32{8}, Capabilities: Capabilities{Bounding: all}},
	}
	if err := WriteSpec(file, want); err != nil {
		t.Fatal(err)
	}
	got, err := readSpec(file)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	for name, content := range map[string]string{"broken": "{", "without command": "{}"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readSpec(file); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestByDepth(t *testing.T) {
	got := byDepth([]Mount{{Target: "/var/run/secrets/token"}, {Target: "/data/"}, {Target: "/data/sub/"}, {Target: "etc/hosts"}, {Target: "/var"}})
	want := []Mount{{Target: "/data"}, {Target: "/var"}, {Target: "/data/sub"}, {Target: "/etc/hosts"}, {Target: "/var/run/secrets/token"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestExitCode(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{
		{&exec.Error{Name: "x", Err: exec.ErrNotFound}, ExitNotFound},
		{&exec.Error{Name: "/x", Err: syscall.ENOENT}, ExitNotFound},
		{&exec.Error{Name: "/x", Err: syscall.EACCES}, ExitNotExecutable},
		{&exec.Error{Name: "/x", Err: syscall.ENOEXEC}, ExitNotExecutable},
		{syscall.ENOENT, ExitNotStarted},
		{errors.New("x"), ExitNotStarted},
	} {
		if got := exitCode(tc.err); got != tc.want {
			t.Errorf("%v: %d, want %d", tc.err, got, tc.want)
		}
	}
}

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"program": 0o755, "text": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"PATH=/nonexistent:" + dir}
	for _, tc := range []struct{ name, want string }{
		{"program", dir + "/program"}, {"text", ""}, {"missing", ""}, {"./x", "./x"}, {"/a/b", "/a/b"},
	} {
		got, err := lookPath(tc.name, env)
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: %q, %v", tc.name, got, err)
		}
	}
}
