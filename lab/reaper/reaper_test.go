package reaper_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/lab/reaper"
)

// run starts a Reaper that ends with the test.
func run(t *testing.T) *reaper.Reaper {
	t.Helper()
	r := reaper.New()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestStart(t *testing.T) {
	r := run(t)
	tests := []struct {
		script, want string // want: part of Err, "" = nil
	}{
		{"exit 0", ""},
		{"exit 3", "exit status 3"},
		{"kill -TERM $$", "terminated"},
	}
	for _, tt := range tests {
		child, err := r.Start(exec.Command("sh", "-c", tt.script))
		if err != nil {
			t.Fatal(err)
		}
		<-child.Done()
		if got := fmt.Sprint(child.Err()); !strings.Contains(got, tt.want) || (tt.want == "") != (child.Err() == nil) {
			t.Errorf("%q ended with %v, want %q", tt.script, got, tt.want)
		}
		if err := child.Signal(syscall.SIGKILL); err != nil {
			t.Errorf("signal after the end: %v", err)
		}
	}
	if _, err := r.Start(exec.Command("/does/not/exist")); err == nil {
		t.Error("starting a missing program succeeded")
	}
}

func TestSignal(t *testing.T) {
	r := run(t)
	child, err := r.Start(exec.Command("sleep", "60"))
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-child.Done()
	if err := child.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Err() = %v, want killed", err)
	}
}

// Orphans come to pid 1, for which a subreaper stands in here.
func TestOrphan(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	r := run(t)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "sh -c 'echo $$' &")
	cmd.Stdout = in
	child, err := r.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	<-child.Done()
	for {
		next, err := r.Start(exec.Command("true")) // its end makes the Reaper look again
		if err != nil {
			t.Fatal(err)
		}
		<-next.Done()
		if syscall.Kill(pid, 0) == syscall.ESRCH {
			return
		}
	}
}
