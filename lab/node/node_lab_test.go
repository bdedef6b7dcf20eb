//go:build lab

package node_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// lab is a cluster of one node, started with bin/fairlab.
type lab struct {
	t       *testing.T
	program string
	name    string
}

// run returns what fairlab prints, and its exit code.
func (l lab) run(stdin string, args ...string) (string, int) {
	l.t.Helper()
	cmd := exec.CommandContext(l.t.Context(), l.program, append([]string{"--name", l.name}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		l.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// must fails the test if fairlab does.
func (l lab) must(args ...string) string {
	l.t.Helper()
	out, code := l.run("", args...)
	if code != 0 {
		l.t.Fatalf("fairlab %s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// wait waits until a field of a pod has a value.
func (l lab) wait(pod, field, value string) {
	l.t.Helper()
	l.must("kubectl", "wait", "--timeout=90s", "pod/"+pod, fmt.Sprintf("--for=jsonpath={%s}=%s", field, value))
}

func (l lab) field(pod, field string) string {
	l.t.Helper()
	return l.must("kubectl", "get", "pod", pod, "-o", fmt.Sprintf("jsonpath={%s}", field))
}

func (l lab) in(t *testing.T) lab { l.t = t; return l }

func TestNode(t *testing.T) {
	program, err := filepath.Abs("../../bin/fairlab")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v: run `make build-lab`", err)
	}
	l := lab{t: t, program: program, name: "node-test-" + strconv.Itoa(os.Getpid())}
	t.Cleanup(func() {
		out, err := exec.Command(program, "--name", l.name, "down").CombinedOutput() // not bound to the test's context
		if err != nil {
			t.Errorf("fairlab down: %v\n%s", err, out)
		}
	})
	l.must("up", "--nodes", "1", "--dual-stack")
	l.must("kubectl", "apply", "-f", "testdata/pods.yaml")
	l.wait("web", ".status.containerStatuses[0].ready", "true")

	for _, test := range []struct {
		name string
		run  func(lab)
	}{
		{"volumes and environment", testVolumes}, {"exec", testExec}, {"logs", testLogs}, {"port forwarding", testPortForward},
		{"addresses", testAddresses}, {"own service", testOwnService}, {"liveness", testLiveness}, {"unknown image", testUnknownImage},
		{"grace and power cycle", testGraceAndPowerCycle},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(l.in(t)) })
	}
}

func testVolumes(l lab) {
	l.wait("volumes", ".status.phase", "Succeeded")
	got := l.must("kubectl", "logs", "volumes", "-c", "c")
	for _, want := range []string{
		"from-init\nfrom-configmapfrom-secretfrom-configmapapp=\"volumes\"", "tokens", "volumes node-1 10.244.1.", "from-secret from-configmap 10\n", "1234 4321", "read-only\n",
	} {
		if !strings.Contains(got, want) {
			l.t.Errorf("%q is not in\n%s", want, got)
		}
	}
	state := l.field("volumes", ".status.containerStatuses[0].state.terminated.reason")
	if message := l.field("volumes", ".status.containerStatuses[0].state.terminated.message"); state != "Completed" || message != "why\n" {
		l.t.Errorf("state %q, message %q", state, message)
	}
}

func testExec(l lab) {
	if out, code := l.run("input", "kubectl", "exec", "-i", "web", "-c", "web", "--", "sh", "-c", "cat; hostname; exit 7"); code != 7 || !strings.HasPrefix(out, "inputweb\n") {
		l.t.Errorf("exit code %d, output %q", code, out)
	}
	if out, code := l.run("", "kubectl", "exec", "web", "-c", "web", "--", "no-such-program"); code != 127 || !strings.Contains(out, "not found") {
		l.t.Errorf("exit code %d, output %q", code, out)
	}
	if out := l.must("kubectl", "cp", "testdata/pods.yaml", "web:/tmp/copy", "-c", "web"); out != "" {
		l.t.Error(out)
	}
	if out := l.must("kubectl", "exec", "web", "-c", "web", "--", "head", "-1", "/tmp/copy"); !strings.HasPrefix(out, "# Pods of") {
		l.t.Error(out)
	}
}

func testLogs(l lab) {
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.program, "--name", l.name, "kubectl", "logs", "-f", "--tail=0", "web", "-c", "sidecar")
	out, err := cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for range 3 { // none of them existed before
		if !lines.Scan() || lines.Text() != "tick" {
			l.t.Fatalf("line %q, %v", lines.Text(), lines.Err())
		}
	}
	cancel()
	cmd.Wait() // killed
}

func testPortForward(l lab) {
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.program, "--name", l.name, "kubectl", "port-forward", "web", ":8080")
	out, err := cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		l.t.Fatal("no output of port-forward")
	}
	local, _, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "Forwarding from "), " ")
	if got, err := exec.CommandContext(ctx, "curl", "-sS", "http://"+local+"/hostname").CombinedOutput(); err != nil || string(got) != "web" {
		l.t.Errorf("through %s: %q, %v", local, got, err)
	}
	cancel()
	cmd.Wait() // killed
}

func testAddresses(l lab) {
	if ips := l.field("web", ".status.podIPs[*].ip"); !strings.HasPrefix(ips, "10.244.1.") || !strings.Contains(ips, " fd00:10:244:1::") {
		l.t.Errorf("addresses of a pod: %s", ips)
	}
	l.wait("host", ".status.phase", "Running")
	if ips := l.field("host", ".status.podIPs[*].ip"); ips != "192.0.2.11 2001:db8:0:1::11" {
		l.t.Errorf("addresses of a pod in the node's network: %s", ips)
	}
	if got := l.must("exec", "node-1", "--", "curl", "-sS", "--retry", "20", "--retry-connrefused", "http://192.0.2.11:9999/hostname"); got != "node-1" {
		l.t.Errorf("host name in the node's network: %q", got)
	}
}

// testOwnService needs packets that come back to the port they came from.
func testOwnService(l lab) {
	script := "for i in $(seq 20); do curl -sS --retry 20 --retry-connrefused http://$WEB_SERVICE_HOST/hostname && exit; sleep 0.2; done"
	l.must("kubectl", "run", "env", "--image=debian", "--restart=Never", "--", "sh", "-c", "echo $WEB_SERVICE_HOST")
	l.wait("env", ".status.phase", "Succeeded")
	ip := strings.TrimSpace(l.must("kubectl", "logs", "env"))
	if got := l.must("kubectl", "exec", "web", "-c", "web", "--", "sh", "-c", strings.ReplaceAll(script, "$WEB_SERVICE_HOST", ip)); got != "web" {
		l.t.Errorf("answer by the Service at %s: %q", ip, got)
	}
}

func testLiveness(l lab) {
	l.wait("unhealthy", ".status.containerStatuses[0].lastState.terminated.exitCode", "137")
	if got := l.field("unhealthy", ".status.containerStatuses[0].restartCount"); got == "0" {
		l.t.Error("an unhealthy container has not been restarted")
	}
	if got := l.field("web", ".status.containerStatuses[0].restartCount"); got != "0" {
		l.t.Errorf("a healthy container has been restarted %s times", got)
	}
	l.must("kubectl", "delete", "pod", "unhealthy")
}

func testUnknownImage(l lab) {
	got := l.must("kubectl", "get", "events", "--field-selector=involvedObject.name=unknown-image,reason=Failed", "-o", "jsonpath={.items[*].message}")
	for _, want := range []string{"ErrImagePull", "registry.example/unheard-of:1.27", "agnhost", filepath.Dir(l.program)} {
		if !strings.Contains(got, want) {
			l.t.Errorf("%q is not in %s", want, got)
		}
	}
	l.must("kubectl", "delete", "pod", "unknown-image")
}

// testGraceAndPowerCycle: a pod keeps its network until it has ended, and the node's disk its files.
func testGraceAndPowerCycle(l lab) {
	l.wait("graceful", ".status.phase", "Running")
	begin := time.Now()
	l.must("kubectl", "delete", "pod", "graceful")
	if took := time.Since(begin); took < 2*time.Second || took > 20*time.Second {
		l.t.Errorf("the pod ended after %s", took)
	}
	l.must("node", "poweroff", "node-1")
	l.must("node", "poweron", "node-1")
	l.wait("web", ".status.containerStatuses[0].restartCount", "1")
	l.wait("web", ".status.containerStatuses[0].ready", "true")
	l.must("kubectl", "run", "reader", "--image=debian", "--restart=Never", "--overrides",
		`{"spec":{"containers":[{"name":"reader","image":"debian","command":["cat","/disk/ended"],"volumeMounts":[{"name":"disk","mountPath":"/disk"}]}],
		"volumes":[{"name":"disk","hostPath":{"path":"/var/lib/node-test"}}]}}`)
	l.wait("reader", ".status.phase", "Succeeded")
	if got := l.must("kubectl", "logs", "reader"); !strings.Contains(got, "inet 10.244.1.") {
		l.t.Errorf("addresses of a pod that is ending: %q", got)
	}
	if _, err := os.Stat("/var/lib/node-test"); !os.IsNotExist(err) {
		l.t.Errorf("a hostPath volume is on the machine's disk: %v", err)
	}
}
