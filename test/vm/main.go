package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// exitTrouble is the exit code when the machine failed rather than the command.
const exitTrouble = 125

func main() {
	runtime.LockOSThread() // QEMU and virtiofsd are told to die with the thread that started them
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	code, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		code = exitTrouble
	}
	os.Exit(code)
}

// options describe one machine and what runs in it.
type options struct {
	cache   string
	memory  string
	cpus    int
	timeout time.Duration
	env     []string
	shares  shares
	command []string
}

// shares are directories that the guest writes through to the host, given by repeated flags.
type shares []string

func (s *shares) String() string { return strings.Join(*s, ",") }

// Set adds a directory by its absolute path.
func (s *shares) Set(dir string) error {
	abs, err := filepath.Abs(dir)
	*s = append(*s, abs)
	return err
}

func run(ctx context.Context, args []string) (int, error) {
	if len(args) == 0 || args[0] != "run" {
		return 0, errors.New("the only use is: vm run [flags] -- COMMAND [ARGUMENT]")
	}
	fs := flag.NewFlagSet("vm run", flag.ContinueOnError)
	var o options
	var env string
	fs.StringVar(&o.cache, "cache", "", "directory for kernel and initramfs (default .cache/vm beside go.mod)")
	fs.StringVar(&o.memory, "mem", "2G", "memory of the guest")
	fs.IntVar(&o.cpus, "cpus", 2, "processors of the guest")
	fs.DurationVar(&o.timeout, "timeout", 20*time.Minute, "the guest is killed after this time")
	fs.StringVar(&env, "env", "", "names of further environment variables to pass on, separated by commas; PATH, HOME and FAIRL* always are")
	fs.Var(&o.shares, "share", "directory in which the guest's writes are real; may be repeated")
	if err := fs.Parse(args[1:]); err != nil {
		return 0, err
	}
	if o.command = fs.Args(); len(o.command) == 0 {
		return 0, errors.New("no command given: vm run [flags] -- COMMAND [ARGUMENT]")
	}
	o.env = environment(os.Environ(), strings.Split(env, ","))
	if o.cache == "" {
		root, err := moduleRoot()
		if err != nil {
			return 0, err
		}
		o.cache = filepath.Join(root, ".cache", "vm")
	}
	return boot(ctx, o)
}

// environment picks the variables that the guest's command gets.
func environment(all, names []string) []string {
	var out []string
	for _, kv := range all {
		name, _, _ := strings.Cut(kv, "=")
		wanted := name == "PATH" || name == "HOME" || strings.HasPrefix(name, "FAIRL")
		for _, n := range names {
			wanted = wanted || n == name
		}
		if wanted {
			out = append(out, kv)
		}
	}
	return out
}

// moduleRoot is the nearest directory upwards that holds the module with this command: go test runs in the package's folder.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working directory: give -cache DIR")
		}
		dir = parent
	}
}

// boot prepares what a machine needs, chooses the accelerator and runs the command.
func boot(ctx context.Context, o options) (int, error) {
	if err := installPackages(ctx); err != nil {
		return 0, err
	}
	k, accel, err := prepare(ctx, o.cache)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("the guest did not finish within %v", o.timeout))
	defer cancel()
	m := machine{kernel: k, accel: accel, memory: o.memory, cpus: o.cpus, shares: o.shares, out: os.Stdout, err: os.Stderr}
	code, err := m.run(ctx, o.command, o.env)
	if accel == "tcg" && errors.Is(err, errHung) {
		fmt.Fprintf(os.Stderr, "vm: %v\nvm: this happens to emulated processors; once more, from the beginning\n", err)
		code, err = m.run(ctx, o.command, o.env)
	}
	return code, err
}

// prepare makes kernel, initramfs and the choice of accelerator ready. Of several runners on one cache, as go test starts them for
// several packages, one works and the others wait for it.
func prepare(ctx context.Context, cache string) (kernel, string, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return kernel{}, "", err
	}
	lock, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return kernel{}, "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return kernel{}, "", fmt.Errorf("locking %s: %w", lock.Name(), err)
	}
	k, err := prepareKernel(ctx, cache)
	if err != nil {
		return kernel{}, "", err
	}
	accel, err := accelerator(ctx, k, cache)
	return k, accel, err
}
