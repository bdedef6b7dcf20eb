//go:build lab

package cri

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/fairlead-lb/fairlead/lab/container"
)

const inside = "FAIRLAB_CRI_TEST"

// TestMain makes the test binary its own shim and runs the tests in namespaces of their own, as a
// node would. It needs root.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "container":
			os.Exit(container.Main(os.Args[2:]))
		case "pause":
			os.Exit(container.Pause(os.Args[2:]))
		}
	}
	if os.Getenv(inside) == "" {
		os.Exit(reexecute())
	}
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(unix.Mount("proc", "/proc", "proc", 0, ""))
	must(exec.Command("ip", "link", "set", "lo", "up").Run())
	os.Exit(m.Run())
}

func reexecute() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC}
	err := cmd.Run()
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "starting the tests in namespaces (root is needed):", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// node is a running Runtime and a pod on it.
type node struct {
	*Runtime
	t   *testing.T
	dir string
}

func newNode(t *testing.T) *node {
	t.Helper()
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	if !executable(filepath.Join(bin, "agnhost")) {
		t.Fatalf("%s/agnhost is missing: run `make build-lab`", bin)
	}
	shim, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r, err := New(Options{
		Dir: filepath.Join(dir, "cri"), Lower: "/", Shim: shim, Images: NewImages(bin, shim), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24"), netip.MustParsePrefix("fd00:10:244:7::/64")},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		pods, _ := r.ListPodSandbox(ctx, nil)
		for _, p := range pods {
			if err := r.RemovePodSandbox(ctx, p.Id); err != nil {
				t.Error(err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &node{Runtime: r, t: t, dir: dir}
}

func (n *node) run(config *runtimeapi.PodSandboxConfig) string {
	n.t.Helper()
	config.Metadata = &runtimeapi.PodSandboxMetadata{Name: "p", Namespace: "default", Uid: newID()}
	config.Hostname = "p"
	config.LogDirectory = filepath.Join(n.dir, "logs")
	if config.Linux == nil {
		config.Linux = &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
			NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}}}
	}
	id, err := n.RunPodSandbox(n.t.Context(), config, "")
	if err != nil {
		n.t.Fatal(err)
	}
	return id
}

func (n *node) start(pod string, config *runtimeapi.ContainerConfig) (string, error) {
	n.t.Helper()
	config.Metadata = &runtimeapi.ContainerMetadata{Name: "c"}
	config.LogPath = newID() + ".log"
	if config.Linux == nil {
		config.Linux = &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{}}
	}
	if config.Linux.SecurityContext.NamespaceOptions == nil {
		config.Linux.SecurityContext.NamespaceOptions = &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}
	}
	id, err := n.CreateContainer(n.t.Context(), pod, config, n.sandboxes[pod].config)
	if err != nil {
		n.t.Fatal(err)
	}
	return id, n.StartContainer(n.t.Context(), id)
}

// finish runs a shell script as a container's program and returns its exit code and log.
func (n *node) finish(pod, script string, config *runtimeapi.ContainerConfig) (int32, string) {
	n.t.Helper()
	config.Image = &runtimeapi.ImageSpec{Image: "debian"}
	config.Command = []string{"sh", "-c", script}
	id, err := n.start(pod, config)
	if err != nil {
		n.t.Fatal(err)
	}
	<-n.containers[id].ended
	status, err := n.ContainerStatus(n.t.Context(), id, false)
	if err != nil {
		n.t.Fatal(err)
	}
	return status.Status.ExitCode, n.log(id)
}

// log returns what a container wrote, without times.
func (n *node) log(id string) string {
	n.t.Helper()
	data, err := os.ReadFile(n.containers[id].log.path)
	if err != nil {
		n.t.Fatal(err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(data)) {
		_, rest, _ := strings.Cut(line, " ")
		b.WriteString(rest)
	}
	return b.String()
}

func image(name string) *runtimeapi.ImageSpec {
	return &runtimeapi.ImageSpec{Image: name, UserSpecifiedImage: name}
}

func get(t *testing.T, url string) string {
	t.Helper()
	var last error
	for range 1500 { // 30 s: agnhost starts slowly in an emulated machine
		resp, err := http.Get(url)
		if err == nil {
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			return string(body)
		}
		last = err
		time.Sleep(20 * time.Millisecond) // a real process starts to listen
	}
	t.Fatal(last)
	return ""
}

// checkEmpty fails if anything is left of the node's pods.
func (n *node) checkEmpty(t *testing.T) {
	t.Helper()
	if len(n.sandboxes)+len(n.containers) != 0 {
		t.Errorf("left: %d sandboxes, %d containers", len(n.sandboxes), len(n.containers))
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Name, "veth") {
			t.Errorf("link %s is left", l.Name)
		}
	}
	entries, err := os.ReadDir(n.options.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s is left", e.Name())
	}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(procs) != 1 {
		t.Errorf("processes: %v, %v", procs, err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || bytes.Contains(mounts, []byte(n.dir)) {
		t.Errorf("mounts: %s, %v", mounts, err)
	}
}
