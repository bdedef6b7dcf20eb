//go:build wire

package bgp

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/announce/bgp/process"
	"github.com/fairlead-lb/fairlead/test/bed"
	"github.com/fairlead-lb/fairlead/test/router"
)

func TestMain(m *testing.M) {
	os.Exit(bed.Main(bed.Program{Run: m.Run, Roles: map[string]func([]string) error{router.Role: router.Hold, "bgp": supervise, "sessions": serve}}))
}

// supervise is the role bgp: the first process of the container.
func supervise(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return process.Supervise(ctx, func() *exec.Cmd { return bed.Again("sessions", args...) }, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// serve is the role sessions: the process with the sessions.
func serve(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	keep, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	return process.Serve(ctx, process.Options{Path: args[0], KeepOnCrash: keep, Grace: 20 * time.Second, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
}
