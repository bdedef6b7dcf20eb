package cri

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// pipes are this process's ends of another one's standard streams.
type pipes struct {
	stdin    *os.File // nil: the process reads /dev/null
	stdout   *os.File
	stderr   *os.File // nil with a terminal
	terminal *os.File // nil without one; stdin and stdout are the same file then

	child []*os.File // the other ends, until the process has them
	once  sync.Once
}

// connect sets the standard streams of cmd, which must have SysProcAttr. If it is to have a
// terminal, that is made with the device ptmx.
func connect(cmd *exec.Cmd, tty, stdin bool, ptmx string) (*pipes, error) {
	p := &pipes{}
	var err error
	if tty {
		err = p.connectTerminal(cmd, stdin, ptmx)
	} else {
		err = p.connectPipes(cmd, stdin)
	}
	if err != nil {
		p.closeChild()
		p.closeParent()
		return nil, err
	}
	return p, nil
}

func (p *pipes) connectTerminal(cmd *exec.Cmd, stdin bool, ptmx string) error {
	master, err := os.OpenFile(ptmx, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("opening terminal: %w", err)
	}
	p.stdout, p.terminal = master, master
	if stdin {
		p.stdin = master
	}
	conn, err := master.SyscallConn()
	if err != nil {
		return fmt.Errorf("opening terminal: %w", err)
	}
	slave := -1
	control := conn.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err != nil {
			return
		}
		// Opens the other end without a path, which may belong to another mount namespace.
		r, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
		if slave = int(r); errno != 0 {
			err = errno
		}
	})
	if control != nil || err != nil {
		return fmt.Errorf("opening terminal's other end: %w", err)
	}
	file := os.NewFile(uintptr(slave), "terminal")
	p.child = []*os.File{file}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = file, file, file
	cmd.SysProcAttr.Setctty = true
	return nil
}

func (p *pipes) connectPipes(cmd *exec.Cmd, stdin bool) error {
	var err error
	pipe := func() (r, w *os.File) {
		if err == nil {
			r, w, err = os.Pipe()
		}
		return r, w
	}
	var out, errs, in *os.File
	p.stdout, out = pipe()
	p.stderr, errs = pipe()
	if stdin {
		in, p.stdin = pipe()
	}
	for _, f := range []*os.File{in, out, errs} {
		if f != nil {
			p.child = append(p.child, f)
		}
	}
	if err != nil {
		return fmt.Errorf("creating pipes: %w", err)
	}
	if in != nil {
		cmd.Stdin = in
	}
	cmd.Stdout, cmd.Stderr = out, errs
	return nil
}

// closeChild closes the ends that the process has inherited, so that reading ends with it.
func (p *pipes) closeChild() {
	for _, f := range p.child {
		f.Close()
	}
	p.child = nil
}

// closeParent closes this process's ends; it may be called more than once and concurrently.
func (p *pipes) closeParent() {
	p.once.Do(func() {
		for _, f := range []*os.File{p.stdout, p.stderr, p.stdin} {
			if f != nil {
				f.Close() // a terminal is closed twice, which is an error of no consequence
			}
		}
	})
}

// resize sets a terminal's size, if there is one.
func resize(terminal *os.File, width, height uint16) error {
	if terminal == nil {
		return nil
	}
	conn, err := terminal.SyscallConn()
	if err != nil {
		return fmt.Errorf("resizing terminal: %w", err)
	}
	var set error
	if err := conn.Control(func(fd uintptr) {
		set = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
	}); err != nil {
		return fmt.Errorf("resizing terminal: %w", err)
	}
	return set
}

// stopSignal returns the signal that asks a container to end.
func stopSignal(s runtimeapi.Signal) syscall.Signal {
	const first, last = 34, 64 // of the real-time signals that C libraries leave to programs
	switch {
	case s == runtimeapi.Signal_RUNTIME_DEFAULT:
		return syscall.SIGTERM
	case s >= runtimeapi.Signal_SIGRTMAXMINUS14:
		return syscall.Signal(last - (runtimeapi.Signal_SIGRTMAX - s))
	case s >= runtimeapi.Signal_SIGRTMIN:
		return syscall.Signal(first + (s - runtimeapi.Signal_SIGRTMIN))
	}
	if n := unix.SignalNum(s.String()); n != 0 {
		return n
	}
	return syscall.SIGTERM
}
