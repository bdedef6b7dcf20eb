package member

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/fairlead-lb/fairlead/lab/reaper"
	"github.com/fairlead-lb/fairlead/lab/sandbox"
)

// Machine is a member that is switched on.
type Machine struct {
	Init *reaper.Child
}

// Start switches a member on: its namespaces exist and are furnished when Start
// returns, its daemons start after begin was called. dir holds the configuration,
// logDir the log of the init.
func Start(r *reaper.Reaper, config Config, dir, logDir string) (machine Machine, begin func() error, err error) {
	cmd, err := initCommand(config, dir, logDir)
	if err != nil {
		return Machine{}, nil, err
	}
	defer closeAll(cmd.Stdout.(*os.File))
	preparedOut, preparedIn, err := os.Pipe()
	if err != nil {
		return Machine{}, nil, fmt.Errorf("making pipe: %w", err)
	}
	defer closeAll(preparedOut, preparedIn)
	pluggedOut, pluggedIn, err := os.Pipe()
	if err != nil {
		return Machine{}, nil, fmt.Errorf("making pipe: %w", err)
	}
	defer closeAll(pluggedOut)
	cmd.ExtraFiles = []*os.File{preparedIn, pluggedOut} // preparedFD, pluggedFD
	child, err := r.Start(cmd)
	if err != nil {
		closeAll(pluggedIn)
		return Machine{}, nil, err
	}
	closeAll(preparedIn) // the init's end is the last, so that its death is an EOF
	if _, err := preparedOut.Read(make([]byte, 1)); err != nil {
		closeAll(pluggedIn)
		<-child.Done()
		return Machine{}, nil, fmt.Errorf("starting %s: init ended (%v), see %s", config.Name, child.Err(), initLog(logDir))
	}
	begin = func() error {
		defer closeAll(pluggedIn)
		if _, err := pluggedIn.Write([]byte{1}); err != nil {
			return fmt.Errorf("starting daemons of %s: %w", config.Name, err)
		}
		return nil
	}
	return Machine{Init: child}, begin, nil
}

// NetNS is the path of the member's network namespace.
func (m Machine) NetNS() string { return fmt.Sprintf("/proc/%d/ns/net", m.Init.Pid) }

// Running reports whether the member is switched on.
func (m Machine) Running() bool {
	if m.Init == nil {
		return false
	}
	select {
	case <-m.Init.Done():
		return false
	default:
		return true
	}
}

// Kill switches the member off, as a power failure would, and returns when all of
// its processes are gone.
func (m Machine) Kill() error {
	if err := m.Init.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-m.Init.Done()
	return nil
}

func initCommand(config Config, dir, logDir string) (*exec.Cmd, error) {
	for _, d := range []string{dir, logDir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("making directory of %s: %w", config.Name, err)
		}
	}
	data, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding configuration of %s: %w", config.Name, err)
	}
	path := filepath.Join(dir, "init.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return nil, fmt.Errorf("writing configuration of %s: %w", config.Name, err)
	}
	log, err := os.OpenFile(initLog(logDir), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening log of %s: %w", config.Name, err)
	}
	cmd := exec.Command("/proc/self/exe", "member", "--config", path)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: sandbox.Flags, Setsid: true}
	return cmd, nil
}

func initLog(logDir string) string { return filepath.Join(logDir, "init.log") }

func closeAll(files ...*os.File) {
	for _, f := range files {
		_ = f.Close() // closing twice is harmless
	}
}
