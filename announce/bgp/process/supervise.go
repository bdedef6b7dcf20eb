package process

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

const (
	restSupervise = 100 * time.Millisecond // before a process that ended early is started again, doubled each time
	maxSupervise  = 5 * time.Second
	early         = 10 * time.Second // a process that ran for less ended early
)

// Supervise runs the command that command returns, and again as soon as it has ended, until ctx is done: then it is sent SIGTERM and
// waited for. The first restart is immediate, where the kubelet would back off. The process ends with this one.
func Supervise(ctx context.Context, command func() *exec.Cmd, log *slog.Logger) error {
	runtime.LockOSThread() // the kernel means the thread that started the process when it speaks of its parent
	defer runtime.UnlockOSThread()
	var rest time.Duration
	for ctx.Err() == nil {
		begun := time.Now()
		err := once(ctx, command())
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(begun) >= early {
			rest = 0
		}
		log.Error("process of the bgp sessions ended, starting it again", "err", err, "ran", time.Since(begun).Round(time.Millisecond), "in", rest)
		select {
		case <-ctx.Done():
		case <-time.After(rest):
		}
		rest = min(max(2*rest, restSupervise), maxSupervise)
	}
	return nil
}

// once runs the command.
func once(ctx context.Context, cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })()
	return cmd.Wait()
}
