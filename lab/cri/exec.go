package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	remote "k8s.io/cri-client/pkg"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/fairlead-lb/fairlead/lab/container"
)

// session is one command that runs in a container beside its program.
type session struct {
	args     []string
	tty      bool
	in       io.Reader // nil: /dev/null
	out, err io.Writer // err is not used with a terminal
	resize   <-chan remotecommand.TerminalSize
}

// command writes spec into dir and returns the command that becomes it.
func (r *Runtime) command(dir string, spec container.Spec) (*exec.Cmd, error) {
	if err := os.MkdirAll(filepath.Join(dir, "root"), 0o700); err != nil {
		return nil, fmt.Errorf("creating container directory: %w", err)
	}
	file := filepath.Join(dir, "spec.json")
	if err := container.WriteSpec(file, spec); err != nil {
		return nil, err
	}
	return exec.Command(r.options.Shim, "container", "--spec", file), nil
}

// execute runs a session to its end, or kills it when ctx ends, and returns the exit code.
func (r *Runtime) execute(ctx context.Context, id string, s session) (int, error) {
	c, err := r.running(id)
	if err != nil {
		return 0, err
	}
	process, err := processOf(c)
	if err != nil {
		return 0, err
	}
	process.Args = s.args
	if s.tty {
		process.Env = append(process.Env, "TERM=xterm")
	}
	spec := container.Spec{Process: process}
	for _, kind := range []string{"net", "uts", "ipc", "mnt"} {
		spec.Join = append(spec.Join, container.Namespace{Kind: kind, Path: c.ns(kind)})
	}
	dir := filepath.Join(r.options.Dir, "exec-"+newID())
	cmd, err := r.command(dir, spec)
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	// One of the container's own terminals, so that it has a name there.
	ptmx := fmt.Sprintf("/proc/%d/root/dev/pts/ptmx", c.process.Process.Pid)
	p, err := connect(cmd, s.tty, s.in != nil, ptmx)
	if err != nil {
		return 0, err
	}
	defer p.closeParent()
	err = r.spawner.launch(cmd, c.ns("pid"))
	p.closeChild()
	if err != nil {
		return 0, err
	}
	s.serve(ctx, cmd, p)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return exitCode(cmd.ProcessState), nil
}

// serve copies the streams of a command until it has ended.
func (s session) serve(ctx context.Context, cmd *exec.Cmd, p *pipes) {
	var outputs sync.WaitGroup
	outputs.Go(func() { io.Copy(s.out, p.stdout) }) // ends with the process or the client
	if p.stderr != nil {
		outputs.Go(func() { io.Copy(s.err, p.stderr) })
	}
	if s.in != nil {
		// Not waited for: a client that sends nothing must not keep the session open.
		go func() {
			io.Copy(p.stdin, s.in)
			if p.terminal == nil {
				p.stdin.Close()
			}
		}()
	}
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case size := <-s.resize: // nil or closed: never again of interest
				if size.Width == 0 {
					s.resize = nil
				} else {
					resize(p.terminal, size.Width, size.Height) // cosmetic
				}
			case <-ctx.Done():
				cmd.Process.Kill()
				return
			case <-ended:
				return
			}
		}
	}()
	cmd.Wait()
	close(ended)
	timer := time.AfterFunc(drainTime, p.closeParent)
	defer timer.Stop()
	outputs.Wait()
}

// maxExecOutput bounds what ExecSync returns of each stream, as in containerd.
const maxExecOutput = 16 << 20

// limited keeps the first maxExecOutput bytes.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	room := max(0, maxExecOutput-l.Len())
	l.Buffer.Write(p[:min(room, len(p))])
	return len(p), nil
}

// ExecSync implements internalapi.RuntimeService. Probes expect utilexec.CodeExitError for a code
// other than 0 and remote.ErrCommandTimedOut.
func (r *Runtime) ExecSync(ctx context.Context, id string, args []string, timeout time.Duration) ([]byte, []byte, error) {
	command := strings.Join(args, " ")
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var stdout, stderr limited
	code, err := r.execute(ctx, id, session{args: args, out: &stdout, err: &stderr})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, nil, fmt.Errorf("%w: %q timed out after %s", remote.ErrCommandTimedOut, command, timeout)
	case err != nil:
		return nil, nil, fmt.Errorf("executing %q: %w", command, err)
	case code != 0:
		err = utilexec.CodeExitError{Err: fmt.Errorf("command '%s' exited with %d: %s", command, code, stderr.String()), Code: code}
	}
	return stdout.Bytes(), stderr.Bytes(), err
}

// Exec implements internalapi.RuntimeService.
func (r *Runtime) Exec(_ context.Context, request *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	if _, err := r.running(request.GetContainerId()); err != nil {
		return nil, err
	}
	return r.streams.GetExec(request)
}

// Attach implements internalapi.RuntimeService.
func (r *Runtime) Attach(_ context.Context, request *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	if _, err := r.running(request.GetContainerId()); err != nil {
		return nil, err
	}
	return r.streams.GetAttach(request)
}

// PortForward implements internalapi.RuntimeService.
func (r *Runtime) PortForward(_ context.Context, request *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	return r.streams.GetPortForward(request)
}
