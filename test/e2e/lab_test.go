//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/test/cluster"
)

// hostNetwork is what a lab must never touch: the links, routes, rules and namespaces of the machine itself.
func hostNetwork(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for _, command := range []string{"ip -o link | cut -d@ -f1 | cut -d' ' -f2", "ip route show table all", "nft list ruleset", "ip netns", "grep -c fairlab /proc/mounts"} {
		text, _ := exec.Command("sh", "-c", command).Output() // grep -c exits 1 when it counts 0
		fmt.Fprintf(&out, "%s:\n%s\n", command, text)
	}
	return out.String()
}

// A lab whose first process is killed leaves nothing in the machine's network, and up and down mend what is left of it,
// all while another lab with the same addresses goes on.
func TestKilledLabLeavesNothing(t *testing.T) {
	before := hostNetwork(t)
	second, err := cluster.Start(t.Context(), lab.Bin, "e2e-killed", "--nodes", "1", "--kube-proxy", "none")
	must(t, err)
	t.Cleanup(func() { must(t, second.Down(cleanupContext(t))) })
	if got := hostNetwork(t); got != before {
		t.Errorf("a running lab changed the machine's own network from\n%s\nto\n%s", before, got)
	}
	kill(t, "e2e-killed")
	if got := hostNetwork(t); got != before {
		t.Errorf("a killed lab changed the machine's own network from\n%s\nto\n%s", before, got)
	}
	second, err = cluster.Start(t.Context(), lab.Bin, "e2e-killed", "--nodes", "1", "--kube-proxy", "none")
	must(t, err)
	var list corev1.NodeList
	must(t, second.Client.List(t.Context(), &list))
	if len(list.Items) != 1 {
		t.Errorf("after up healed the killed lab it has %d nodes, want 1", len(list.Items))
	}
	kill(t, "e2e-killed")
	must(t, second.Down(t.Context()))
	must(t, second.Down(t.Context())) // again, with nothing there
	if _, err := os.Stat("/var/lib/fairlab/e2e-killed"); !os.IsNotExist(err) {
		t.Errorf("down left the state directory: %v", err)
	}
	must(t, lab.Client.List(t.Context(), &list)) // the first lab has not noticed
	if len(list.Items) != len(nodes) {
		t.Errorf("the other lab has %d nodes, want %d", len(list.Items), len(nodes))
	}
}

// kill sends SIGKILL to a lab's first process and waits until no process of the lab is left.
func kill(t *testing.T, name string) {
	t.Helper()
	pattern := filepath.Join("/var/lib/fairlab", name)
	must(t, exec.Command("pkill", "-KILL", "-f", "supervise --dir "+pattern).Run())
	eventually(t, 10*time.Second, func() error {
		if out, err := exec.Command("pgrep", "-af", pattern).Output(); err == nil {
			return fmt.Errorf("still running:\n%s", out)
		}
		return nil
	})
}

// A pod whose image the lab does not know says so, as on a real node.
func TestUnknownImage(t *testing.T) {
	ns := namespace(t)
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name = ns, "unknown"
	pod.Spec.Containers = []corev1.Container{{Name: "main", Image: "example.com/nothing:1"}}
	create(t, pod)
	eventually(t, 30*time.Second, func() error {
		out, err := lab.Fairlab(t.Context(), "kubectl", "-n", ns, "get", "pod", "unknown", "-o", "jsonpath={.status.containerStatuses[0].state.waiting}")
		if err == nil && !(strings.Contains(out, "ErrImagePull") || strings.Contains(out, "ImagePullBackOff")) {
			err = fmt.Errorf("the container waits for %q, want ErrImagePull", out)
		}
		return err
	})
}

// kubectl logs and exec reach the containers through the API server and the kubelet.
func TestLogsAndExec(t *testing.T) {
	ns := namespace(t)
	d := deployment(t, ns, "web", 1)
	pod := podsOf(t, d)[0].Name
	out, err := lab.Fairlab(t.Context(), "kubectl", "-n", ns, "exec", pod, "--", "sh", "-c", "echo $0 from $(hostname)", "hello")
	must(t, err)
	if want := "hello from " + pod; strings.TrimSpace(out) != want {
		t.Errorf("kubectl exec printed %q, want %q", out, want)
	}
	out, err = lab.Fairlab(t.Context(), "kubectl", "-n", ns, "logs", pod)
	must(t, err)
	if !strings.Contains(out, "netexec") && !strings.Contains(out, "Started HTTP server") {
		t.Errorf("kubectl logs printed %q", out)
	}
}
