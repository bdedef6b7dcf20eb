package daemon_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-lb/fairlead/lab/daemon"
	"github.com/fairlead-lb/fairlead/lab/reaper"
)

// run runs a shell script as a daemon until the test ends.
func run(t *testing.T, script string) (d *daemon.Daemon, log string) {
	t.Helper()
	log = filepath.Join(t.TempDir(), "log")
	r := reaper.New()
	d = daemon.New(daemon.Spec{
		Name: "test", Argv: []string{"/bin/sh", "-c", script}, Env: []string{"WORD=hello"}, Log: log,
	}, daemon.Options{Reaper: r, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.Run(ctx) })
	group.Go(func() error { return d.Run(ctx) })
	t.Cleanup(func() {
		if err := d.Stop(context.Background(), syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		cancel()
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	})
	return d, log
}

func TestStopStart(t *testing.T) {
	d, log := run(t, "echo $WORD; exec sleep 60")
	if err := d.Start(t.Context()); err != nil { // runs already; returns once it does
		t.Fatal(err)
	}
	first := d.Pid()
	if first == 0 {
		t.Fatal("no pid while the program runs")
	}
	for range 2 { // the second time it is stopped already
		if err := d.Stop(t.Context(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	if d.Pid() != 0 {
		t.Errorf("pid %d after Stop", d.Pid())
	}
	if err := syscall.Kill(first, 0); err != syscall.ESRCH {
		t.Errorf("process %d after Stop: %v", first, err)
	}
	for range 2 {
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if pid := d.Pid(); pid == 0 || pid == first {
		t.Errorf("pid %d after another Start, the first was %d", pid, first)
	}
	if err := d.Stop(t.Context(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if strings.ReplaceAll(string(data), "hello\n", "") != "" {
		t.Errorf("log is %q, want the programs' output", data)
	}
}

// A program that ends by itself comes back.
func TestRestart(t *testing.T) {
	d, log := run(t, "echo run")
	for {
		// Requests are served between the restarts, too, and cut the pauses short.
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(log)
		if err == nil && strings.Count(string(data), "run\n") >= 2 {
			return
		}
	}
}

func TestRequestGivesUp(t *testing.T) {
	d := daemon.New(daemon.Spec{Name: "idle"}, daemon.Options{Log: slog.New(slog.DiscardHandler)}) // never run
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Start(ctx); err == nil || !strings.Contains(err.Error(), "idle") {
		t.Errorf("Start() = %v, want an error that names the daemon", err)
	}
}
