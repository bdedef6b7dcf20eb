package router

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fairlead-lb/fairlead/test/bed"
)

// patience is the bound of whatever should take well under a second.
const patience = 30 * time.Second

// Role is the role in which [bed.Main] has to run [Hold].
const Role = "namespace"

// Hold is a process that holds a network namespace.
func Hold([]string) error { time.Sleep(time.Hour); return nil }

// Host is a network namespace. Its methods fail the test on error.
type Host struct {
	T   bed.T
	cmd *exec.Cmd
}

// NewHost makes a namespace that ends with the test.
func NewHost(t bed.T) *Host {
	t.Helper()
	h := &Host{T: t, cmd: bed.Again(Role)}
	h.cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	Check(t, h.cmd.Start())
	t.Cleanup(func() { _ = h.cmd.Process.Kill(); _ = h.cmd.Wait() })
	h.Within(func() error {
		return bed.Set("ipv6/conf/default/accept_dad=0", "ipv6/conf/default/dad_transmits=0", "ipv6/conf/all/accept_dad=0")
	})
	h.Run("ip", "link", "set", "lo", "up")
	return h
}

// Within calls f in the host's namespace.
func (h *Host) Within(f func() error) {
	h.T.Helper()
	Check(h.T, bed.Inside(h.cmd.Process.Pid, f))
}

// Run runs a command in the host's namespace.
func (h *Host) Run(args ...string) {
	h.T.Helper()
	h.Within(func() error { return run(args...) })
}

// Process is a program on a host and what it has written.
type Process struct {
	*exec.Cmd
	mu  sync.Mutex
	out bytes.Buffer
}

// Write implements io.Writer.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

// Output returns what the program has written.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// Daemon starts a program in the host's namespace and kills it after the test.
func (h *Host) Daemon(args ...string) *Process {
	h.T.Helper()
	p := &Process{Cmd: exec.Command(args[0], args[1:]...)}
	p.Stdout, p.Stderr = p, p
	h.Within(func() error {
		if err := p.Start(); err != nil {
			return fmt.Errorf("%w; scripts/test-wire installs the routers", err)
		}
		return nil
	})
	h.T.Cleanup(func() { p.End(syscall.SIGKILL) })
	return p
}

// End sends a signal and waits until the program has ended.
func (p *Process) End(sig syscall.Signal) {
	_ = p.Process.Signal(syscall.SIGCONT)
	_ = p.Process.Signal(sig) // it may have ended
	_ = p.Wait()
}

// Cable connects two namespaces, nil = that of this process, by devices of the given names, and gives each its addresses.
func Cable(t bed.T, a *Host, adev string, aaddrs []string, b *Host, bdev string, baddrs []string) {
	t.Helper()
	args := []string{"ip", "link", "add", "name", adev}
	if a != nil {
		args = append(args, "netns", strconv.Itoa(a.cmd.Process.Pid))
	}
	Check(t, run(append(args, "type", "veth", "peer", "name", bdev, "netns", strconv.Itoa(b.cmd.Process.Pid))...))
	if a == nil {
		t.Cleanup(func() { _ = run("ip", "link", "del", adev) })
	}
	address(t, a, adev, aaddrs)
	address(t, b, bdev, baddrs)
}

func address(t bed.T, h *Host, dev string, addrs []string) {
	t.Helper()
	do := func(args ...string) {
		t.Helper()
		if h != nil {
			h.Run(args...)
			return
		}
		Check(t, run(args...))
	}
	for _, a := range addrs {
		args := []string{"ip", "addr", "add", a, "dev", dev}
		if strings.Contains(a, ":") {
			args = append(args, "nodad")
		}
		do(args...)
	}
	do("ip", "link", "set", dev, "up")
}

// Cut drops all packets at the device, or lets them pass again; the carrier stays.
func (h *Host) Cut(dev string, off bool) {
	h.T.Helper()
	if off {
		h.Run("nft", fmt.Sprintf("add table netdev cut; add chain netdev cut i { type filter hook ingress device %s priority 0; policy drop; }; "+
			"add chain netdev cut e { type filter hook egress device %s priority 0; policy drop; }", dev, dev))
		return
	}
	h.Run("nft", "delete table netdev cut")
}

// Until waits for something, and fails the test with what it was if it does not come.
func Until(t bed.T, what string, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > patience {
			t.Fatalf("after %s not: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(start)
}

// dir is a new directory with a short path, since unix sockets go there, that everybody may enter.
func dir(t bed.T) string {
	t.Helper()
	d, err := os.MkdirTemp("/tmp", "router")
	Check(t, err)
	Check(t, os.Chmod(d, 0o755))
	t.Cleanup(func() { os.RemoveAll(d) })
	return d
}

func write(t bed.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	Check(t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

func run(args ...string) error {
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("running %v: %w: %s", args, err, out)
	}
	return nil
}

// Check fails the test if there is an error.
func Check(t bed.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}
