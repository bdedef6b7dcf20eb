package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

//go:embed stage2.sh
var stage2 string

// hung matches how a Linux kernel panics whose processors have done nothing else for a while: see qemu.
var hung = regexp.MustCompile("softlockup: hung tasks|not syncing: RCU Stall")

// errHung says that the guest's processors stood still.
var errHung = errors.New("the guest's processors hung")

// machine is one virtual machine that runs one command.
type machine struct {
	kernel kernel
	accel  string // kvm or tcg
	memory string
	cpus   int
	shares []string // directories of the host that the guest may write to
	out    io.Writer
	err    io.Writer
}

// run boots the machine, copies the command's output while it runs and returns its exit code. The machine and its file
// server are dead when run returns, whatever happened.
func (m machine) run(ctx context.Context, command, env []string) (int, error) {
	dir, err := os.MkdirTemp("", "fairlead-vm-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := m.writeScripts(dir, command, env); err != nil {
		return 0, err
	}
	var ports [3]*port // standard output, standard error, exit code
	var status bytes.Buffer
	for i, to := range []io.Writer{m.out, m.err, &status} {
		if ports[i], err = listen(filepath.Join(dir, fmt.Sprintf("port%d", i)), to); err != nil {
			return 0, err
		}
		defer ports[i].close()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, s := range m.trees() {
		files := fileServer(ctx, dir, s)
		if err := files.Start(); err != nil {
			return 0, fmt.Errorf("starting virtiofsd: %w", err)
		}
		defer func() { cancel(); _ = files.Wait() }()
		if err := awaitSocket(ctx, filepath.Join(dir, s.tag)); err != nil {
			return 0, err
		}
	}
	console := filepath.Join(dir, "console")
	qemu := m.qemu(ctx, dir, console)
	if out, err := qemu.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("running the machine (%s): %w (%v)\n%s%s", m.accel, err, context.Cause(ctx), out, tail(console))
	}
	for _, p := range ports {
		p.wait()
	}
	code, err := strconv.Atoi(strings.TrimSpace(status.String()))
	if err != nil {
		end := tail(console)
		if hung.MatchString(end) {
			return 0, fmt.Errorf("%w; the end of its console:\n%s", errHung, end)
		}
		return 0, fmt.Errorf("the guest ended without a result; the end of its console:\n%s", end)
	}
	return code, nil
}

// writeScripts writes what the guest executes: stage2 and the command, both found through the shared file tree.
func (m machine) writeScripts(dir string, command, env []string) error {
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	head := fmt.Sprintf("RELEASE=%s MODULES=%s RUN=%s DIRECTORY=%s\n", quote(m.kernel.release), quote(m.kernel.modules), quote(dir), quote(cwd))
	for _, t := range m.trees()[1:] {
		head += fmt.Sprintf("mount -t virtiofs %s %s\n", t.tag, quote(t.source))
	}
	if err := os.WriteFile(filepath.Join(dir, "stage2"), []byte(head+stage2), 0o644); err != nil {
		return err
	}
	var script strings.Builder
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		fmt.Fprintf(&script, "export %s=%s\n", name, quote(value))
	}
	script.WriteString("exec")
	for _, word := range command {
		script.WriteString(" " + quote(word))
	}
	return os.WriteFile(filepath.Join(dir, "command"), []byte(script.String()+"\n"), 0o644)
}

// quote makes s one word for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// tree is a part of the host's file system that the guest can mount by its tag.
type tree struct {
	tag, source string
	cache       string // what the guest may remember of it: always, or auto where it writes
}

// trees are the whole tree, which the guest mounts read-only, and then the shares.
func (m machine) trees() []tree {
	out := []tree{{"host", "/", "always"}}
	for i, dir := range m.shares {
		out = append(out, tree{fmt.Sprintf("share%d", i), dir, "auto"})
	}
	return out
}

// fileServer is the virtiofsd that serves a tree; Debian 12 has the one written in C, later releases the one in Rust.
func fileServer(ctx context.Context, dir string, t tree) *exec.Cmd {
	socket := "--socket-path=" + filepath.Join(dir, t.tag)
	cmd := exec.CommandContext(ctx, "/usr/libexec/virtiofsd", socket, "--shared-dir="+t.source, "--sandbox=none", "--cache="+t.cache)
	if old := "/usr/lib/qemu/virtiofsd"; exists(old) {
		cmd = exec.CommandContext(ctx, old, socket, "-o", "source="+t.source, "-o", "cache="+t.cache, "-o", "sandbox=chroot", "-o", "log_level=err")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (m machine) qemu(ctx context.Context, dir, console string) *exec.Cmd {
	accel, cpu := "tcg,thread=multi", "max"
	if m.accel == "kvm" {
		accel, cpu = "kvm", "host"
	}
	args := []string{
		"-machine", "pc,memory-backend=mem", "-accel", accel, "-cpu", cpu, "-smp", strconv.Itoa(m.cpus), "-m", m.memory,
		"-object", "memory-backend-memfd,id=mem,share=on,size=" + m.memory,
		"-device", "virtio-serial-pci",
	}
	for _, t := range m.trees() {
		args = append(args, "-chardev", "socket,id="+t.tag+",path="+filepath.Join(dir, t.tag), "-device", "vhost-user-fs-pci,chardev="+t.tag+",tag="+t.tag)
	}
	for i := range 3 {
		id := fmt.Sprintf("port%d", i)
		args = append(args, "-chardev", "socket,id="+id+",path="+filepath.Join(dir, id), "-device", fmt.Sprintf("virtserialport,chardev=%s,nr=%d", id, i+1))
	}
	// The guest would read the time from a device, which takes ten times as long, because it doubts that its processors' counters agree;
	// and there is nobody in it to be guarded from speculation, which costs every call. Emulated processors have been seen to wait for each
	// other for ever, and to do nothing but take one breakpoint of code that is being patched (stage2.sh): the guest panics after two minutes of either,
	// with what all of them were at.
	args = append(args, "-kernel", m.kernel.image, "-initrd", m.kernel.initrd,
		"-append", "console=ttyS0 panic=-1 loglevel=5 tsc=reliable mitigations=off "+
			"sysctl.kernel.watchdog_thresh=60 softlockup_panic=1 sysctl.kernel.softlockup_all_cpu_backtrace=1 "+
			"rcupdate.rcu_cpu_stall_timeout=120 sysctl.kernel.panic_on_rcu_stall=1 vm.run="+dir, "-no-reboot", "-nodefaults", "-display", "none", "-nic", "none", "-serial", "file:"+console)
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// accelerator returns kvm if a machine boots with it within 20 s, else tcg. The answer is kept for this boot of the host.
func accelerator(ctx context.Context, k kernel, cache string) (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	file := filepath.Join(cache, "accelerator")
	if known, err := os.ReadFile(file); err == nil {
		if accel, rest, ok := strings.Cut(string(known), " "); ok && rest == string(id) {
			return accel, nil
		}
	}
	accel := "tcg"
	if exists("/dev/kvm") {
		probe, cancel := context.WithTimeoutCause(ctx, 20*time.Second, fmt.Errorf("the probe boot did not finish within 20s"))
		defer cancel()
		m := machine{kernel: k, accel: "kvm", memory: "512M", cpus: 1, out: io.Discard, err: io.Discard}
		if code, err := m.run(probe, []string{"true"}, nil); err == nil && code == 0 {
			accel = "kvm"
		} else if ctx.Err() != nil {
			return "", ctx.Err()
		}
	}
	fmt.Fprintf(os.Stderr, "vm: using %s\n", accel)
	return accel, os.WriteFile(file, []byte(accel+" "+string(id)), 0o644)
}

// port is a unix socket on which QEMU delivers one of the guest's output streams.
type port struct {
	listener net.Listener
	copied   sync.WaitGroup
}

func listen(path string, to io.Writer) (*port, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	p := &port{listener: l}
	p.copied.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.Copy(to, conn) // ends when the machine does
	})
	return p, nil
}

func (p *port) wait()  { p.copied.Wait() }
func (p *port) close() { p.listener.Close() }

// awaitSocket waits until virtiofsd listens.
func awaitSocket(ctx context.Context, path string) error {
	for !exists(path) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// tail returns the last lines of the guest's console.
func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-120):], "\n")
}
