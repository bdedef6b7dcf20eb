//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Somebody else changes every Service all the time, so that many of the controller's writes meet a conflict.
func TestConflictsLoseNothing(t *testing.T) {
	f := flood(t, 300)
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				meddle(ctx, f.ns, fmt.Sprintf("web-%d", i%f.services), w, i)
			}
		})
	}
	f.served(t, f.services, 60*time.Second)
	stop()
	writers.Wait()
	f.end(t, 10*time.Second)
	t.Logf("%d writes met a conflict", requests(t, `resource="services"`, `subresource="status"`, `verb="PATCH"`, `code="409"`))
}

// meddle writes a label, an annotation and a condition of its own to a Service, which need not exist.
func meddle(ctx context.Context, ns, name string, writer, i int) {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
	key := fmt.Sprintf("example.com/writer-%d", writer)
	body := fmt.Sprintf(`{"metadata":{"labels":{%q:"%d"},"annotations":{%q:"%d"}}}`, key, i, key, i)
	_ = lab.Client.Patch(ctx, s, client.RawPatch("application/merge-patch+json", []byte(body)))
	body = fmt.Sprintf(`{"status":{"conditions":[{"type":%q,"status":"True","reason":"Meddling","message":"%d","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`, key, i)
	_ = lab.Client.Status().Patch(ctx, s, client.RawPatch("application/strategic-merge-patch+json", []byte(body)))
}

func requests(t *testing.T, labels ...string) int {
	t.Helper()
	n, err := lab.Requests(t.Context(), labels...)
	must(t, err)
	return n
}

// The API server takes one write of the controller at a time and refuses the others with 429. The lease does not suffer,
// because the chart has it served at another priority.
func TestThrottlingLosesNothing(t *testing.T) {
	const name = "throttled-controller"
	leader := holder(t)
	create(t, &flowcontrolv1.PriorityLevelConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type: flowcontrolv1.PriorityLevelEnablementLimited,
			Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
				NominalConcurrencyShares: new(int32(0)), // which makes one
				BorrowingLimitPercent:    new(int32(0)),
				LimitResponse:            flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject},
			},
		},
	})
	create(t, &flowcontrolv1.FlowSchema{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: name},
			MatchingPrecedence:         200, // after the lease's
			Rules: []flowcontrolv1.PolicyRulesWithSubjects{{
				Subjects: []flowcontrolv1.Subject{{Kind: flowcontrolv1.SubjectKindServiceAccount,
					ServiceAccount: &flowcontrolv1.ServiceAccountSubject{Namespace: "fairlead-system", Name: "fairlead-controller"}}},
				ResourceRules: []flowcontrolv1.ResourcePolicyRule{{
					Verbs: []string{"patch", "create", "update"}, APIGroups: []string{"*"}, Resources: []string{"*"}, ClusterScope: true, Namespaces: []string{"*"}}},
			}},
		},
	})
	time.Sleep(2 * time.Second) // the API server takes up the schema
	refused := func() int {
		return requests(t, `resource="services"`, `subresource="status"`, `verb="PATCH"`, `code="429"`)
	}
	before := refused()
	f := flood(t, 30) // each refusal costs the second that the API server asks for
	f.end(t, 90*time.Second)
	if n := refused() - before; n == 0 {
		t.Error("the API server refused nothing: the test does not test")
	} else {
		t.Logf("%d writes were refused", n)
	}
	if now := holder(t); now != leader {
		t.Errorf("the leader changed from %s to %s", leader, now)
	}
}

// Whoever leads is killed between two writes, twice, and then both at once.
func TestKilledLeadersLoseNothing(t *testing.T) {
	readyControllers(t)
	f := flood(t, 1000)
	for i := range 2 {
		f.served(t, (i+1)*100, 60*time.Second)
		old := holder(t)
		send(t, "KILL", podOf(old))
		t.Logf("killed %s with %d served, taken over after %.1f s", old, f.history.Served(), takenOver(t, old).Seconds())
	}
	readyControllers(t)
	f.served(t, 400, 60*time.Second)
	send(t, "KILL", controllers(t)...)
	f.end(t, 90*time.Second)
}

// A leader that stops for a while, as in a virtual machine that is suspended, and comes back in the middle of its writes
// finds that another leads.
func TestFrozenLeaderDoesNoHarm(t *testing.T) {
	readyControllers(t)
	f := flood(t, 600)
	f.served(t, 50, 60*time.Second)
	old := holder(t)
	send(t, "STOP", podOf(old))
	took := takenOver(t, old)
	f.served(t, 300, 60*time.Second)
	send(t, "CONT", podOf(old))
	f.end(t, 60*time.Second)
	t.Logf("%s was frozen, taken over after %.1f s", old, took.Seconds())
	readyControllers(t)
}

// A leader that is told to end hands over at once.
func TestPlannedStopHandsOver(t *testing.T) {
	readyControllers(t)
	f := flood(t, 400)
	f.served(t, 50, 60*time.Second)
	old := holder(t)
	must(t, lab.Client.Delete(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: podOf(old)}}))
	t.Logf("%s was deleted, another leads after %.1f s", old, takenOver(t, old).Seconds())
	f.end(t, 60*time.Second)
}

// readyControllers waits until both replicas are ready, so that there is a standby. One that the kubelet lets wait because it
// has ended a few times is replaced.
func readyControllers(t *testing.T) {
	t.Helper()
	eventually(t, 90*time.Second, func() error {
		pods, ready := controllerPods(t, t.Context()), 0
		for _, p := range pods {
			if podReady(p) && p.DeletionTimestamp == nil {
				ready++
			}
			for _, c := range p.Status.ContainerStatuses {
				if c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff" {
					must(t, client.IgnoreNotFound(lab.Client.Delete(t.Context(), &p)))
				}
			}
		}
		if ready != 2 || len(pods) != 2 {
			return fmt.Errorf("%d of %d controllers are ready, want 2", ready, len(pods))
		}
		return nil
	})
}

// holder is the identity in the controllers' lease.
func holder(t *testing.T) string {
	t.Helper()
	var lease coordinationv1.Lease
	must(t, lab.Client.Get(t.Context(), client.ObjectKey{Namespace: "fairlead-system", Name: "fairlead-controller"}, &lease))
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// podOf is the name of the pod in which the holder of a lease runs, or ran.
func podOf(holder string) string {
	pod, _, _ := strings.Cut(holder, "_")
	return pod
}

// controllers are the names of the controller's pods.
func controllers(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, p := range controllerPods(t, t.Context()) {
		names = append(names, p.Name)
	}
	return names
}

func controllerPods(t *testing.T, ctx context.Context) []corev1.Pod {
	t.Helper()
	var pods corev1.PodList
	must(t, lab.Client.List(ctx, &pods, client.InNamespace("fairlead-system"), client.MatchingLabels{"app.kubernetes.io/component": "controller"}))
	return pods.Items
}

// send sends a signal to the processes of these pods, all at once.
func send(t *testing.T, signal string, names ...string) {
	t.Helper()
	var sent sync.WaitGroup
	for _, p := range controllerPods(t, t.Context()) {
		if slices.Contains(names, p.Name) {
			// The process is known by its host name, which is the pod's.
			script := fmt.Sprintf(`for pid in $(pidof lbcontroller); do [ "$(nsenter -t $pid -u hostname)" = %s ] && kill -%s $pid && exit; done; exit 1`, p.Name, signal)
			sent.Go(func() {
				if _, err := lab.Exec(t.Context(), p.Spec.NodeName, "sh", "-c", script); err != nil {
					t.Errorf("sending %s to %s: %v", signal, p.Name, err)
				}
			})
		}
	}
	sent.Wait()
}

// takenOver waits until another process than old holds the lease, be it old's own pod started anew, and returns how long
// that took.
func takenOver(t *testing.T, old string) time.Duration {
	t.Helper()
	start := time.Now()
	eventually(t, 30*time.Second, func() error {
		if now := holder(t); now == old || now == "" {
			return fmt.Errorf("the lease is held by %q", now)
		}
		return nil
	})
	return time.Since(start)
}
