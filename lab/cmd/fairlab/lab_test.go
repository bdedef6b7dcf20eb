//go:build lab

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/lab/config"
	"github.com/fairlead-lb/fairlead/lab/control"
	"github.com/fairlead-lb/fairlead/lab/state"
)

// fairlab is the built program; these tests need root and `make build`.
const fairlab = "../../../bin/fairlab"

// labs is a state directory of the test's own, and a check at its end that nothing
// of its labs is left on the machine.
type labs struct {
	t     *testing.T
	state string
}

func newLabs(t *testing.T) labs {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests need root")
	}
	if _, err := os.Stat(fairlab); err != nil {
		t.Fatalf("build the lab first: %v", err)
	}
	l := labs{t, filepath.Join(t.TempDir(), "labs")}
	before := machine(t)
	t.Cleanup(func() {
		for _, name := range []string{"a", "b"} {
			if out, err := l.run("down", "--name", name); err != nil {
				t.Errorf("down: %v: %s", err, out)
			}
		}
		if left := l.processes(); left != nil {
			t.Errorf("processes left: %q", left)
		}
		if _, err := os.Stat(l.state); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", l.state, err)
		}
		if diff := cmp.Diff(before, machine(t)); diff != "" {
			t.Errorf("the machine has changed (-before +after):\n%s", diff)
		}
	})
	return l
}

// command is fairlab with the test's state directory.
func (l labs) command(args ...string) *exec.Cmd {
	cmd := exec.Command(fairlab, args...)
	cmd.Env = append(os.Environ(), stateEnv+"="+l.state)
	return cmd
}

func (l labs) run(args ...string) (string, error) {
	out, err := l.command(args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (l labs) must(args ...string) string {
	l.t.Helper()
	out, err := l.run(args...)
	if err != nil {
		l.t.Fatalf("fairlab %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (l labs) status(name string) control.Status {
	l.t.Helper()
	var status control.Status
	if err := json.Unmarshal([]byte(l.must("status", "-o", "json", "--name", name)), &status); err != nil {
		l.t.Fatal(err)
	}
	return status
}

// processes are the commands that name the state directory: supervisors, inits,
// components, kubelets.
func (l labs) processes() []string {
	var found []string
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		panic(err)
	}
	for _, file := range files {
		data, _ := os.ReadFile(file) // ended meanwhile
		if text := string(bytes.ReplaceAll(data, []byte{0}, []byte{' '})); strings.Contains(text, l.state) {
			found = append(found, text)
		}
	}
	return found
}

// machine is what a lab must not change: links, routes, rules, names and mounts.
func machine(t *testing.T) map[string]string {
	t.Helper()
	seen := map[string]string{}
	for _, command := range []string{
		"ip -o link", "ip route show table all", "ip -6 route show table all", "ip netns", "nft list tables", "cat /proc/self/mounts", "hostname",
	} {
		out, err := exec.Command("sh", "-c", command).Output()
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		seen[command] = string(out)
	}
	return seen
}

func (l labs) supervisor(name string) state.Process {
	l.t.Helper()
	process, alive := state.Dir(filepath.Join(l.state, name)).Supervisor()
	if !alive {
		l.t.Fatalf("lab %s has no supervisor", name)
	}
	return process
}

func TestLab(t *testing.T) {
	l := newLabs(t)
	up := []string{"up", "--name", "a", "--nodes", "2", "--dual-stack", "--node-monitor-grace", config.MinNodeMonitorGrace.String()}
	l.must(up...)
	if out := l.must(up...); out != "lab a is up already" {
		t.Errorf("up again: %s", out)
	}
	if out, err := l.run("up", "--name", "a"); err == nil || !strings.Contains(out, "--nodes is 2, not 3, --dual-stack is true, not false") {
		t.Errorf("up with other options: %v: %s", err, out)
	}
	for _, c := range l.status("a").ControlPlane {
		if c.Health != "ok" || c.Pid == 0 {
			t.Errorf("%s: %s", c.Name, c.Health)
		}
	}
	t.Run("kubectl", l.testKubectl)
	t.Run("exec", l.testExec)
	t.Run("apiserver", l.testAPIServer)
	t.Run("link", l.testLink)
	t.Run("power", l.testPower)
}

func (l labs) testKubectl(t *testing.T) {
	got := l.must("kubectl", "--name", "a", "get", "nodes", "-o", `jsonpath={range .items[*]}{.metadata.name} {.spec.podCIDRs[*]} {.status.addresses[0].address}{"\n"}{end}`)
	want := "node-1 10.244.1.0/24 fd00:10:244:1::/64 192.0.2.11\nnode-2 10.244.2.0/24 fd00:10:244:2::/64 192.0.2.12"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	// Permissions are enforced, the kubelets' too.
	for user, allowed := range map[string]bool{"system:node:node-1": true, "system:serviceaccount:default:default": false} {
		out, err := l.run("kubectl", "--name", "a", "auth", "can-i", "list", "services", "--as", user, "--as-group", groups(user))
		if (err == nil) != allowed {
			t.Errorf("%s may list services: %s, want %v", user, out, allowed)
		}
	}
}

func groups(user string) string {
	if strings.HasPrefix(user, "system:node:") {
		return "system:nodes"
	}
	return "system:serviceaccounts"
}

func (l labs) testExec(t *testing.T) {
	tests := []struct {
		member, script, out string
		code                int
	}{
		{"client", "cat /sys/class/net/eth0/address", "02:fa:1e:ad:01:64", 0},
		{"node-1", "hostname; exit 3", "node-1", 3},
		{"node-2", "kill -TERM $$", "", 128 + int(syscall.SIGTERM)},
		{"router", "cat /proc/1/comm /proc/sys/net/ipv4/ip_forward", "exe\n1", 0},
		{"control-plane", "curl -sk https://10.96.0.1/readyz", "ok", 0},
		{"node-1", "curl -sk https://10.96.0.1/readyz", "ok", 0},
		{"client", "pwd", mustGetwd(t), 0},
	}
	for _, tt := range tests {
		out, err := l.run("exec", "--name", "a", tt.member, "--", "sh", "-c", tt.script)
		var exit *exec.ExitError
		code := 0
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		}
		if out != tt.out || code != tt.code {
			t.Errorf("on %s, %s: %q with %d, want %q with %d", tt.member, tt.script, out, code, tt.out, tt.code)
		}
	}
	// The command ends with fairlab, even if that is killed.
	cmd := l.command("exec", "--name", "a", "client", "--", "sleep", "4711")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "sleep runs", func() bool { return l.running("client", "sleep 4711") })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, "sleep has ended", func() bool { return !l.running("client", "sleep 4711") })
}

func mustGetwd(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func (l labs) running(member, command string) bool {
	return strings.Contains(l.must("exec", "--name", "a", member, "--", "ps", "axo", "args"), "\n"+command)
}

func (l labs) testAPIServer(t *testing.T) {
	for _, stop := range [][]string{{"apiserver", "stop", "--name", "a"}, {"apiserver", "stop", "--force", "--name", "a"}} {
		l.must(stop...)
		if out, err := l.run("kubectl", "--name", "a", "get", "--raw", "/readyz"); err == nil {
			t.Errorf("%v: the API server answers %s", stop, out)
		}
		l.must("apiserver", "start", "--name", "a")
		l.must("kubectl", "--name", "a", "get", "--raw", "/readyz")
	}
}

func (l labs) testLink(t *testing.T) {
	carrier := func() string {
		return l.must("exec", "--name", "a", "node-1", "--", "cat", "/sys/class/net/eth0/carrier", "/sys/class/net/mgmt0/carrier")
	}
	l.must("link", "cut", "node-1", "--name", "a")
	if got := carrier(); got != "0\n1" {
		t.Errorf("carriers of eth0 and mgmt0 after the cut: %q", got)
	}
	l.must("link", "heal", "node-1", "--name", "a")
	if got := carrier(); got != "1\n1" {
		t.Errorf("carriers of eth0 and mgmt0 after healing: %q", got)
	}
}

func (l labs) testPower(t *testing.T) {
	l.must("node", "poweroff", "node-2", "--name", "a")
	if out, err := l.run("exec", "--name", "a", "node-2", "--", "true"); err == nil || !strings.Contains(out, "is off") {
		t.Errorf("exec on a node that is off: %v: %s", err, out)
	}
	for _, process := range l.processes() {
		if strings.Contains(process, "node-2") {
			t.Errorf("still runs: %s", process)
		}
	}
	eventually(t, "node-2 is NotReady", func() bool {
		for _, m := range l.status("a").Members {
			if m.Name == "node-2" {
				return !m.Up && m.Node != nil && !m.Node.Ready
			}
		}
		return false
	})
	l.must("node", "poweron", "node-2", "--name", "a")
	l.must("kubectl", "--name", "a", "wait", "node", "node-2", "--for=condition=Ready", "--timeout=90s")
}

// A lab whose pid 1 was killed is gone, and `up` starts it anew beside another one.
func TestCrash(t *testing.T) {
	l := newLabs(t)
	var group sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		group.Go(func() {
			if out, err := l.run("up", "--name", name, "--nodes", "1"); err != nil {
				t.Errorf("up: %v: %s", err, out)
			}
		})
	}
	group.Wait()
	if err := l.supervisor("a").Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, process := range l.processes() {
		if strings.Contains(process, l.state+"/a/") {
			t.Errorf("outlives its lab: %s", process)
		}
	}
	if out, err := l.run("status", "--name", "a"); err == nil || !strings.Contains(out, "is not running") {
		t.Errorf("status of a killed lab: %v: %s", err, out)
	}
	l.must("up", "--name", "a", "--nodes", "1")
	for _, name := range []string{"a", "b"} {
		if got := l.must("kubectl", "--name", name, "get", "nodes", "-o", "name"); got != "node/node-1" {
			t.Errorf("nodes of %s: %s", name, got)
		}
	}
	l.must("down", "--all")
	if left := l.processes(); left != nil {
		t.Errorf("down --all leaves %q", left)
	}
}

// However `up` is ended half-way, `down` leaves nothing.
func TestInterruptedUp(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			l := newLabs(t)
			cmd := l.command("up", "--name", "a", "--nodes", "1")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "etcd runs", func() bool { return strings.Contains(strings.Join(l.processes(), ""), " etcd ") })
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("interrupted up succeeded")
			}
			if s == syscall.SIGINT && l.processes() != nil {
				t.Errorf("an interrupted up leaves %q", l.processes())
			}
		})
	}
}

// eventually waits two minutes at most, which is three times the node monitor grace period.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for !is() {
		select {
		case <-ctx.Done():
			t.Fatalf("waiting until %s: gave up", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
