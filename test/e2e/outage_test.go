//go:build e2e

package e2e

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/internal/speaker"
	"github.com/fairlead-lb/fairlead/test/cluster"
)

// The API server goes away in the middle of a flood of Services. While it is away, addresses answer, a speaker that is killed
// carries on from what it has kept, and a node that loses power is replaced. When it comes back, nothing changes hands, and the
// rest of the flood is served, each once. FAIRLEAD_E2E_OUTAGE is its length, default 25s.
func TestWithoutTheAPIServer(t *testing.T) {
	length, err := time.ParseDuration(cmp.Or(os.Getenv("FAIRLEAD_E2E_OUTAGE"), "25s"))
	must(t, err)
	ns := namespace(t, "192.0.2.164/32")
	deployment(t, ns, "web", int32(len(nodes)), onePerNode)
	s := service(t, ns, "web", func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal })
	target := address(t, s)
	answers(t, target)
	other := namespaceCalled(t, ns+"-flood", floodRange)
	time.Sleep(12 * time.Second * cluster.Slow()) // the speakers write what they keep at most every 10 s

	f := floodIn(t, other, 300)
	f.served(t, 100, 60*time.Second)
	_, err = lab.Fairlab(t.Context(), "apiserver", "stop", "--force")
	must(t, err)
	start, served := time.Now(), f.history.Served()
	t.Cleanup(func() {
		if _, err := lab.Fairlab(cleanupContext(t), "apiserver", "start"); err != nil {
			t.Error(err)
		}
	})
	first := owner(t, target.Addr()) // not before: on few processors a flood may keep a speaker from its heartbeats
	last := duringTheOutage(t, target, first, length/5)
	time.Sleep(time.Until(start.Add(length)))

	wait := meanwhile(t, target, 10*time.Millisecond, 15*time.Second)
	_, err = lab.Fairlab(t.Context(), "apiserver", "start")
	must(t, err)
	back := time.Now()
	r := wait()
	t.Logf("API server back after %s: %d of %d connections failed", back.Sub(start).Round(time.Second), r.Failed, r.Attempts)
	if got := owner(t, target.Addr()); r.Failed > 0 || r.OK == 0 || got != last {
		t.Errorf("the API server came back: %+v, and %s took over from %s", r, got, last)
	}
	f.end(t, 90*time.Second)
	t.Logf("%d of %d served before the outage, the rest within %.0f s of its end", served, f.services, time.Since(back).Seconds())
	noneGaveUp(t)
	n := countEvents(t, ns)
	t.Logf("%d Events in all", n)
	if n > 20 {
		t.Errorf("%d Events on one Service after three changes of ownership", n)
	}
}

// noneGaveUp checks that no controller has ended by itself: after each time the kubelet waits longer until it starts another.
func noneGaveUp(t *testing.T) {
	t.Helper()
	pods := controllerPods(t, t.Context())
	if len(pods) == 0 {
		t.Error("there are no controllers")
	}
	for _, p := range pods {
		for _, c := range p.Status.ContainerStatuses {
			if end := c.LastTerminationState.Terminated; end != nil && end.ExitCode == 1 {
				t.Errorf("%s ended by itself at %s", p.Name, end.FinishedAt)
			}
		}
	}
}

// duringTheOutage looks at the address for a while, kills the speaker of its first owner and takes the power from the second. It
// returns the third.
func duringTheOutage(t *testing.T, target netip.AddrPort, first string, quiet time.Duration) string {
	t.Helper()
	r := meanwhile(t, target, 10*time.Millisecond, quiet)()
	t.Logf("%d connections without the API server, %d failed", r.Attempts, r.Failed)
	if got := owner(t, target.Addr()); r.Failed > 0 || r.OK == 0 || got != first {
		t.Errorf("without the API server: %+v, and %s took over from %s", r, got, first)
	}

	wait := meanwhile(t, target, 10*time.Millisecond, 5*time.Second)
	killSpeaker(t, first)
	r = wait()
	t.Logf("speaker of %s killed: %d of %d connections failed, longest gap %.0f ms", first, r.Failed, r.Attempts, r.LongestGap)
	answers(t, target)

	second := owner(t, target.Addr())
	wait = meanwhile(t, target, 10*time.Millisecond, 5*time.Second)
	time.Sleep(time.Second)
	powerOff(t, second)
	t.Cleanup(func() { _, _ = lab.Fairlab(cleanupContext(t), "apiserver", "start") }) // first: the node cannot come back without it
	third := owner(t, target.Addr())
	r = wait()
	t.Logf("power off %s: %s took over, longest gap %.0f ms, %d of %d connections failed", second, third, r.LongestGap, r.Failed, r.Attempts)
	if third == second {
		t.Errorf("%s lost power and still answers", second)
	}
	answers(t, target)
	return third
}

// killSpeaker ends the speaker's process on a node without warning, and waits until the kubelet has started another one and
// that one is ready: from what it has kept, as there is nobody to ask.
func killSpeaker(t *testing.T, node string) {
	t.Helper()
	pid := func() string {
		out, err := lab.Exec(t.Context(), node, "pgrep", "-f", "^/speaker --node-name") // the node's own processes only, and not that of the BGP sessions
		if err != nil {
			return ""
		}
		return strings.TrimSpace(out)
	}
	old := pid()
	if old == "" || strings.Contains(old, "\n") {
		t.Fatalf("speakers on %s: %q, want one", node, old)
	}
	_, err := lab.Exec(t.Context(), node, "kill", "-KILL", old)
	must(t, err)
	start := time.Now()
	eventually(t, 30*time.Second, func() error {
		if now := pid(); now == "" || now == old {
			return fmt.Errorf("the kubelet of %s has not started another speaker", node)
		}
		if why, err := lab.Exec(t.Context(), node, "curl", "-sS", "--fail-with-body", "http://127.0.0.1:9381/readyz"); err != nil {
			return fmt.Errorf("%w: %s", err, why)
		}
		return nil
	})
	t.Logf("the speaker of %s was ready again %s after it was killed", node, time.Since(start).Round(10*time.Millisecond))
}

// countEvents returns how many times anything was reported about the objects of a namespace by the speakers.
func countEvents(t *testing.T, ns string) int {
	t.Helper()
	var list corev1.EventList
	must(t, lab.Client.List(t.Context(), &list, client.InNamespace(ns)))
	n := 0
	for _, e := range list.Items {
		if e.Reason != speaker.EventAnnouncing && e.Reason != speaker.EventWithdrawn {
			continue
		}
		n += max(1, int(e.Count))
		if e.Series != nil {
			n += int(e.Series.Count)
		}
	}
	return n
}
