//go:build lab

package cri

import (
	"bytes"
	"context"
	"errors"
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
	utilexec "k8s.io/utils/exec"

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

func TestPod(t *testing.T) {
	n := newNode(t)
	begin := time.Now()
	pod := n.run(&runtimeapi.PodSandboxConfig{})
	t.Log("sandbox after", time.Since(begin))
	id, err := n.start(pod, &runtimeapi.ContainerConfig{Image: image("registry.example/e2e/agnhost:2.40"), Args: []string{"netexec", "--http-port=8080"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Log("container after", time.Since(begin))
	status, err := n.PodSandboxStatus(t.Context(), pod, false)
	if err != nil {
		t.Fatal(err)
	}
	ip, ip6 := status.Status.Network.Ip, status.Status.Network.AdditionalIps[0].Ip
	if got := get(t, "http://"+ip+":8080/hostname"); got != "p" {
		t.Errorf("hostname over IPv4 = %q", got)
	}
	t.Log("answer after", time.Since(begin))
	if got := get(t, "http://["+ip6+"]:8080/hostname"); got != "p" {
		t.Errorf("hostname over IPv6 = %q", got)
	}
	stdout, stderr, err := n.ExecSync(t.Context(), id, []string{"sh", "-c", "echo out; echo err >&2; cat /proc/1/comm; exit 3"}, time.Minute)
	var code utilexec.CodeExitError
	if string(stdout) != "" && string(stdout) != "out\nagnhost\n" || string(stderr) != "err\n" || !errors.As(err, &code) || code.Code != 3 {
		t.Errorf("ExecSync = %q, %q, %v", stdout, stderr, err)
	}
	if _, _, err := n.ExecSync(t.Context(), id, []string{"sleep", "60"}, 100*time.Millisecond); err == nil || !strings.Contains(err.Error(), "timed out") {
		t.Errorf("ExecSync beyond its time: %v", err)
	}
	if !strings.Contains(n.log(id), "stderr F ") {
		t.Errorf("log of agnhost: %q", n.log(id))
	}
	// Another pod of the node reaches it, by way of the node.
	other := n.run(&runtimeapi.PodSandboxConfig{})
	if code, log := n.finish(other, "exec 3<>/dev/null; agnhost=1; ip route get "+ip+"; ip -6 route get "+ip6, &runtimeapi.ContainerConfig{}); code != 0 || !strings.Contains(log, "via 10.244.7.1 dev eth0") {
		t.Errorf("route between pods: %d %s", code, log)
	}
	if err := n.StopContainer(t.Context(), id, 30); err != nil {
		t.Error(err)
	}
	for _, p := range []string{pod, other} {
		if err := n.RemovePodSandbox(t.Context(), p); err != nil {
			t.Error(err)
		}
	}
	n.checkEmpty(t)
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

func TestStop(t *testing.T) {
	n := newNode(t)
	pod := n.run(&runtimeapi.PodSandboxConfig{})
	for _, tc := range []struct {
		name, script string
		grace        int64
		want         int32
	}{
		{"asked", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done", 30, 7},
		{"forced", "trap '' TERM; echo ready; while :; do sleep 0.05; done", 1, 137},
		{"without grace", "echo ready; while :; do sleep 0.05; done", 0, 137},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id, err := n.start(pod, &runtimeapi.ContainerConfig{Image: image("debian"), Args: []string{"sh", "-c", tc.script}})
			if err != nil {
				t.Fatal(err)
			}
			for !strings.Contains(n.log(id), "ready") {
				time.Sleep(10 * time.Millisecond)
			}
			if err := n.StopContainer(t.Context(), id, tc.grace); err != nil {
				t.Fatal(err)
			}
			s, err := n.ContainerStatus(t.Context(), id, false)
			if err != nil || s.Status.ExitCode != tc.want || s.Status.State != runtimeapi.ContainerState_CONTAINER_EXITED {
				t.Errorf("status %v, %v", s, err)
			}
		})
	}
}

func TestStartError(t *testing.T) {
	n := newNode(t)
	pod := n.run(&runtimeapi.PodSandboxConfig{})
	for _, tc := range []struct {
		command string
		code    int32
	}{{"no-such-program", 127}, {"/no/such/program", 127}, {"/etc/passwd", 126}} {
		id, err := n.start(pod, &runtimeapi.ContainerConfig{Image: image("debian"), Command: []string{tc.command}})
		if err == nil || !strings.Contains(err.Error(), tc.command) {
			t.Errorf("%s: %v", tc.command, err)
		}
		s, err := n.ContainerStatus(t.Context(), id, false)
		if err != nil || s.Status.ExitCode != tc.code || s.Status.Reason != "StartError" {
			t.Errorf("%s: %v, %v", tc.command, s, err)
		}
	}
}

func TestRootAndIdentity(t *testing.T) {
	n := newNode(t)
	pod := n.run(&runtimeapi.PodSandboxConfig{DnsConfig: &runtimeapi.DNSConfig{Servers: []string{"192.0.2.53"}}})
	volume := t.TempDir()
	if err := os.Chmod(volume, 0o777); err != nil {
		t.Fatal(err)
	}
	script := `id; grep -E 'Cap(Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status; echo $HOME $HOSTNAME $X; cat /etc/resolv.conf; pwd
	touch /data/file && echo data writable; touch /ro/file || echo ro; touch /file || echo root ro
	ls /tmp | wc -l; ls /dev | tr '\n' ' '; test -w /proc/sys/net/ipv4/ip_forward || echo sysctl ro; ls -d /var/run/token; echo > /dev/null && echo $$`
	config := &runtimeapi.ContainerConfig{
		WorkingDir: "/work/dir", Envs: []*runtimeapi.KeyValue{{Key: "X", Value: []byte("y z")}},
		Mounts: []*runtimeapi.Mount{
			{HostPath: volume, ContainerPath: "/data"}, {HostPath: volume, ContainerPath: "/ro", Readonly: true}, {HostPath: volume, ContainerPath: "/var/run/token"},
		},
		Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
			RunAsUser: &runtimeapi.Int64Value{Value: 1234}, RunAsGroup: &runtimeapi.Int64Value{Value: 5}, SupplementalGroups: []int64{77},
			ReadonlyRootfs: true, NoNewPrivs: true, ReadonlyPaths: []string{"/proc/sys", "/nothing"}, MaskedPaths: []string{"/proc/kcore"},
			Capabilities: &runtimeapi.Capability{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"NET_ADMIN", "NET_RAW"}},
		}},
	}
	code, log := n.finish(pod, script, config)
	t.Log("\n" + log)
	for _, want := range []string{
		"uid=1234", "gid=5", "77", "CapEff:\t0000000000000000", "CapBnd:\t0000000000003000", "NoNewPrivs:\t1", "/ p y z", "nameserver 192.0.2.53", "F /work/dir\n",
		"data writable", "F ro\n", "F root ro\n", "F 0\n", "sysctl ro", "/var/run/token", "F 1\n",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("%q is not in the log", want)
		}
	}
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(filepath.Join(volume, "file")); err != nil {
		t.Error(err)
	}
	config.Linux.SecurityContext = &runtimeapi.LinuxContainerSecurityContext{Privileged: true}
	own, err := exec.Command("grep", "CapPrm", "/proc/self/status").Output() // the machine may lack some
	if err != nil {
		t.Fatal(err)
	}
	if _, log := n.finish(pod, "grep CapPrm /proc/self/status; touch /file && echo ok", config); !strings.Contains(log, string(own)) || !strings.Contains(log, "ok") {
		t.Errorf("privileged: %s, want %s", log, own)
	}
}

func TestHostNetworkAndHostPort(t *testing.T) {
	n := newNode(t)
	linux := &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
		NamespaceOptions: &runtimeapi.NamespaceOption{Network: runtimeapi.NamespaceMode_NODE, Pid: runtimeapi.NamespaceMode_CONTAINER}}}
	ports := []*runtimeapi.PortMapping{{HostPort: 80, ContainerPort: 80}}
	pod := n.run(&runtimeapi.PodSandboxConfig{Linux: linux, PortMappings: ports})
	if _, log := n.finish(pod, "readlink /proc/self/ns/net", &runtimeapi.ContainerConfig{}); !strings.Contains(log, readlink(t, "/proc/self/ns/net")) {
		t.Errorf("container's network is not the node's: %s", log)
	}
	_, err := n.RunPodSandbox(t.Context(), &runtimeapi.PodSandboxConfig{PortMappings: ports}, "")
	if err == nil || !strings.Contains(err.Error(), "hostPort 80") {
		t.Errorf("hostPort: %v", err)
	}
}

func readlink(t *testing.T, path string) string {
	t.Helper()
	s, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSharedProcessNamespaceAndTerminal(t *testing.T) {
	n := newNode(t)
	shared := &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_POD}
	pod := n.run(&runtimeapi.PodSandboxConfig{Linux: &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: shared}}})
	id, err := n.start(pod, &runtimeapi.ContainerConfig{
		Image: image("debian"), Args: []string{"sh", "-c", "tty; echo pid $$; read x; echo got $x"}, Tty: true, Stdin: true,
		Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{NamespaceOptions: shared}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := n.containers[id]
	if _, err := c.stdin.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	<-c.ended
	if log := n.log(id); !strings.Contains(log, "got hello") || strings.Contains(log, "pid 1\r") {
		t.Errorf("log: %q", log)
	}
	if err := n.RemovePodSandbox(t.Context(), pod); err != nil {
		t.Error(err)
	}
	n.checkEmpty(t)
}
