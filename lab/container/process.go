package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func (p Process) dir() string {
	if p.Dir == "" {
		return "/"
	}
	return p.Dir
}

// execute takes on the process's identity and executes it; it returns only errors.
// Nothing may follow the change of credentials that needs privileges.
func (p Process) execute() error {
	// Without CAP_SYS_RESOURCE, in a container, it cannot be lowered; it is only advice.
	err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(p.OOMScoreAdj)), 0)
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("setting oom score: %w", err)
	}
	unix.Umask(0o022)
	if err := p.setCredentials(); err != nil {
		return err
	}
	// After the change of credentials: a process of another user may not reach its directory, which
	// is an error then, as it is in other runtimes.
	if err := unix.Chdir(p.dir()); err != nil {
		return fmt.Errorf("entering working directory %s: %w", p.dir(), err)
	}
	path, err := lookPath(p.Args[0], p.Env)
	if err != nil {
		return err
	}
	// The kernel forgets this setting when credentials change.
	if err := dieWithParent(); err != nil {
		return err
	}
	if err := syscall.Exec(path, p.Args, p.Env); err != nil {
		return &exec.Error{Name: path, Err: err}
	}
	return nil
}

func dieWithParent() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("asking for a signal at the agent's death: %w", err)
	}
	return nil
}

// setCredentials uses raw system calls: package syscall's would change all threads, but only this
// one, which executes the program, is in the right namespaces.
func (p Process) setCredentials() error {
	c := p.Capabilities
	for n := range len(strings.Fields(names)) {
		if c.Bounding&(1<<n) == 0 {
			// EINVAL: the kernel does not know it, so nobody can have it.
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0); err != nil && err != unix.EINVAL {
				return fmt.Errorf("dropping capability %d: %w", n, err)
			}
		}
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keeping capabilities: %w", err)
	}
	var groups unsafe.Pointer
	if len(p.Groups) > 0 {
		groups = unsafe.Pointer(&p.Groups[0])
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(p.Groups)), uintptr(groups), 0); e != 0 {
		return fmt.Errorf("setting groups: %w", e)
	}
	gid, uid := uintptr(p.GID), uintptr(p.UID)
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); e != 0 {
		return fmt.Errorf("setting group %d: %w", p.GID, e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); e != 0 {
		return fmt.Errorf("setting user %d: %w", p.UID, e)
	}
	if err := setCapabilities(c); err != nil {
		return err
	}
	if p.NoNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("setting no_new_privs: %w", err)
		}
	}
	return nil
}

// setCapabilities sets the thread's sets. What becomes of them is decided by execve(2): root gets
// the bounding set, another user the ambient set.
func setCapabilities(c Capabilities) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("reading capabilities: %w", err)
	}
	// The agent itself may lack some, on an old kernel or in a container.
	permitted := c.Bounding & (uint64(data[1].Permitted)<<32 | uint64(data[0].Permitted))
	ambient := c.Ambient & permitted
	data = [2]unix.CapUserData{
		{Effective: uint32(permitted), Permitted: uint32(permitted), Inheritable: uint32(ambient)},
		{Effective: uint32(permitted >> 32), Permitted: uint32(permitted >> 32), Inheritable: uint32(ambient >> 32)},
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("setting capabilities: %w", err)
	}
	for n := range len(strings.Fields(names)) {
		if ambient&(1<<n) != 0 {
			if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(n), 0, 0); err != nil {
				return fmt.Errorf("raising ambient capability %d: %w", n, err)
			}
		}
	}
	return nil
}

// lookPath finds a program as execvp(3) does, in the PATH of env and the current directory's root.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := ""
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}
