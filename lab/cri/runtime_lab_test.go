//go:build lab

package cri

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	utilexec "k8s.io/utils/exec"
)

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

// wget is asked by Kubernetes' suite what can be reached, and what cannot.
func TestWgetOfAgnhost(t *testing.T) {
	n := newNode(t)
	pod := n.run(&runtimeapi.PodSandboxConfig{})
	id, err := n.start(pod, &runtimeapi.ContainerConfig{Image: image("agnhost"), Args: []string{"netexec", "--http-port=8080"}})
	if err != nil {
		t.Fatal(err)
	}
	status, err := n.PodSandboxStatus(t.Context(), pod, false)
	if err != nil {
		t.Fatal(err)
	}
	get(t, "http://"+status.Status.Network.Ip+":8080/hostname")
	if out, why, err := n.ExecSync(t.Context(), id, []string{"wget", "-T", "5", "-qO-", "127.0.0.1:8080/hostname"}, time.Minute); err != nil || string(out) != "p" {
		t.Errorf("wget of what answers = %q, %q, %v", out, why, err)
	}
	silent, err := net.Listen("tcp", "10.244.7.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, why, err := n.ExecSync(t.Context(), id, []string{"wget", "-T", "1", "-qO-", silent.Addr().String()}, time.Minute); err == nil || strings.Contains(err.Error(), "timed out") {
		t.Errorf("wget of what does not answer: %q, %v", why, err)
	}
	if err := silent.(*net.TCPListener).SetDeadline(time.Now().Add(time.Second)); err != nil { // for the accept that finds no more
		t.Fatal(err)
	}
	tries := 0
	for _, err = silent.Accept(); err == nil; _, err = silent.Accept() {
		tries++
	}
	if tries != 1 {
		t.Errorf("wget tried %d times", tries)
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
	pod := n.run(&runtimeapi.PodSandboxConfig{Linux: linux, PortMappings: []*runtimeapi.PortMapping{{HostPort: 80, ContainerPort: 80}}})
	if _, log := n.finish(pod, "readlink /proc/self/ns/net", &runtimeapi.ContainerConfig{}); !strings.Contains(log, readlink(t, "/proc/self/ns/net")) {
		t.Errorf("container's network is not the node's: %s", log)
	}
	ports := []*runtimeapi.PortMapping{{HostPort: 8080, ContainerPort: 80}, {HostPort: 8081, ContainerPort: 80, HostIp: "127.0.0.1"}}
	behind := n.run(&runtimeapi.PodSandboxConfig{PortMappings: ports})
	id, err := n.start(behind, &runtimeapi.ContainerConfig{Image: image("agnhost"), Args: []string{"netexec", "--http-port=80"}})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{"127.0.0.1:8080": true, "127.0.0.1:8081": true, "10.244.7.1:8080": true, "10.244.7.1:8081": false} {
		if got := reachable(addr, want); got != want {
			t.Errorf("%s reaches the pod: %v, want %v; its log: %s", addr, got, want, n.log(id))
		}
	}
	if err := n.RemovePodSandbox(t.Context(), behind); err != nil {
		t.Fatal(err)
	}
	if reachable("127.0.0.1:8080", false) {
		t.Error("the host port outlives its pod")
	}
}

// reachable tries to connect, for a while if that should succeed.
func reachable(addr string, wanted bool) bool {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
			return true
		}
		if !wanted || time.Now().After(deadline) {
			return false
		}
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
