//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/internal/view"
	"github.com/fairlead-lb/fairlead/test/cluster"
	"github.com/fairlead-lb/fairlead/test/probe"
)

func TestRestartsChangeNothing(t *testing.T) {
	ns := namespace(t, "192.0.2.150-192.0.2.159")
	deployment(t, ns, "web", 3)
	before := map[types.NamespacedName]string{}
	for i := range 5 {
		s := service(t, ns, fmt.Sprintf("web-%d", i), func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "web"} })
		before[client.ObjectKeyFromObject(s)] = address(t, s).Addr().String()
	}
	// A gap in the addresses in use: a controller that allocates anew would fill it.
	first := types.NamespacedName{Namespace: ns, Name: "web-0"}
	must(t, lab.Client.Delete(t.Context(), &corev1.Service{ObjectMeta: objectMeta(first)}))
	delete(before, first)
	for _, component := range []string{"controller", "speaker"} {
		restart(t, component)
		for key, want := range before {
			var s corev1.Service
			must(t, lab.Client.Get(t.Context(), key, &s))
			target := address(t, &s)
			if got := target.Addr().String(); got != want {
				t.Errorf("restart of %s renumbered %s from %s to %s", component, key, want, got)
			}
			answers(t, target)
		}
	}
}

// A rolling update of the speakers hands every address over before its owner stops: each new connection comes about, and those that are open
// go on, though the node that receives the rest of them does not know them.
func TestSpeakerRolloutLosesNothing(t *testing.T) {
	ns := namespace(t, "192.0.2.162/32")
	deployment(t, ns, "web", 3)
	target := address(t, service(t, ns, "web"))
	answers(t, target)
	held := hold(t, target, 200)
	wait, start := meanwhile(t, target, 5*time.Millisecond, 0), time.Now()
	replaceSpeakers(t)
	t.Logf("every speaker was replaced after %.0f s", time.Since(start).Seconds())
	held.goesOn(t, "every speaker replaced")
	outlived(t, wait())
}

// A speaker that crashes takes no connection with it: its node forwards on, and is handed what comes to the next owner.
func TestSpeakerCrashKeepsConnections(t *testing.T) {
	ns := namespace(t, "192.0.2.167/32")
	deployment(t, ns, "web", 3)
	target := address(t, service(t, ns, "web"))
	answers(t, target)
	held := hold(t, target, 200)
	for move := range 2 {
		first := owner(t, target.Addr())
		wait := meanwhile(t, target, 5*time.Millisecond, 3*time.Second)
		killSpeaker(t, first)
		r := wait()
		held.goesOn(t, "the speaker of "+first+" was killed")
		second := owner(t, target.Addr())
		t.Logf("%s took over from %s; %d of %d new connections failed meanwhile, longest gap %.0f ms: %v", second, first, r.Failed, r.Attempts, r.LongestGap, r.Errors)
		if first == second {
			t.Errorf("%s is killed and still has the address: what went on proves nothing", first)
		}
		var d view.Datapath
		told(t, second, view.DatapathPath, &d)
		if len(d.Onward) == 0 || move == 0 && d.HandedOn == 0 { // the second one may take them back to where they were opened
			t.Errorf("%s says that it has handed %d packets on to %q", second, d.HandedOn, d.Onward)
		}
	}
}

// replaceSpeakers replaces one speaker after the other and waits until all are new.
func replaceSpeakers(t *testing.T) {
	t.Helper()
	_, err := lab.Fairlab(t.Context(), "kubectl", "-n", "fairlead-system", "rollout", "restart", "daemonset/fairlead-speaker")
	must(t, err)
	speakersRolledOut(t)
}

// restart deletes the pods of a component all at once and waits until as many are ready again.
func restart(t *testing.T, component string) {
	t.Helper()
	labels := client.MatchingLabels{"app.kubernetes.io/name": "fairlead", "app.kubernetes.io/component": component}
	var pods corev1.PodList
	must(t, lab.Client.List(t.Context(), &pods, client.InNamespace("fairlead-system"), labels))
	if len(pods.Items) == 0 {
		t.Fatalf("no pods of component %s", component)
	}
	old := map[types.UID]bool{}
	for _, p := range pods.Items {
		old[p.UID] = true
		must(t, lab.Client.Delete(t.Context(), &p))
	}
	eventually(t, 90*time.Second, func() error {
		var now corev1.PodList
		if err := lab.Client.List(t.Context(), &now, client.InNamespace("fairlead-system"), labels); err != nil {
			return err
		}
		ready := 0
		for _, p := range now.Items {
			if !old[p.UID] && podReady(p) {
				ready++
			}
		}
		if ready != len(old) || len(now.Items) != len(old) {
			return fmt.Errorf("%d of %d new pods of %s are ready, %d exist", ready, len(old), component, len(now.Items))
		}
		return nil
	})
}

// speakers are all pods of the speakers, also those that are ending.
func speakers(t *testing.T) []corev1.Pod {
	t.Helper()
	var pods corev1.PodList
	must(t, lab.Client.List(t.Context(), &pods, client.InNamespace("fairlead-system"), client.MatchingLabels{"app.kubernetes.io/component": "speaker"}))
	return pods.Items
}

func podReady(p corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func TestPowerOffMovesTheAddress(t *testing.T) {
	ns := namespace(t, "192.0.2.160/32")
	deployment(t, ns, "web", int32(len(nodes)), onePerNode)
	s := service(t, ns, "web", func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal })
	target := address(t, s)
	answers(t, target)
	first := owner(t, target.Addr())
	wait := meanwhile(t, target, 10*time.Millisecond, 0)
	time.Sleep(time.Second)
	powerOff(t, first)
	second := owner(t, target.Addr())
	r := wait()
	if second == first {
		t.Errorf("%s lost power and still answers", first)
	}
	answers(t, target)
	t.Logf("power off %s: %s took over, longest gap %.0f ms, %d of %d connections failed", first, second, r.LongestGap, r.Failed, r.Attempts)
	if limit := float64((5 * time.Second * cluster.Slow()).Milliseconds()); r.LongestGap > limit {
		t.Errorf("the gap of %.0f ms is over the generous bound of %.0f ms", r.LongestGap, limit)
	}
}

// powerOff takes a node's power until the test ends.
func powerOff(t *testing.T, node string) {
	t.Helper()
	_, err := lab.Fairlab(t.Context(), "node", "poweroff", node)
	must(t, err)
	t.Cleanup(func() { powerOn(t, node) })
}

// powerOn brings a node back and waits until its speaker is ready, so that the next test finds a whole cluster.
func powerOn(t *testing.T, node string) {
	ctx := cleanupContext(t)
	if _, err := lab.Fairlab(ctx, "node", "poweron", node); err != nil {
		t.Error(err)
	}
	err := cluster.Until(ctx, 90*time.Second, func() error {
		_, err := lab.Exec(ctx, node, "curl", "-fsS", "http://127.0.0.1:9381/readyz")
		return err
	})
	if err != nil {
		t.Errorf("%s does not come back: %v", node, err)
	}
}

// The others give the address of a node that is cut off to one of them, and new connections to endpoints elsewhere; its own endpoint gets some
// again when it is back.
func TestLinkCutMovesTheAddress(t *testing.T) {
	ns := namespace(t, "192.0.2.161/32")
	pods := servers(t, ns, "web", nodes)
	target := address(t, service(t, ns, "web"))
	answers(t, target)
	first := owner(t, target.Addr())
	_, err := lab.Fairlab(t.Context(), "link", "cut", first)
	must(t, err)
	cut := time.Now()
	heal := func(ctx context.Context) error {
		_, err := lab.Fairlab(ctx, "link", "heal", first)
		return err
	}
	t.Cleanup(func() {
		if err := heal(cleanupContext(t)); err != nil {
			t.Error(err)
		}
	})
	second := ""
	eventually(t, 20*time.Second, func() error {
		second, _, err = lab.OwnerOf(t.Context(), target.Addr(), nodes)
		if err == nil && second == first {
			err = fmt.Errorf("%s still answers without a link", first)
		}
		return err
	})
	its := pods[slices.Index(nodes, first)].Status.PodIP
	awaitWeight(t, second, its, 0)
	t.Logf("no new connections to the pod on %s %s after it was cut off, at the latest", first, time.Since(cut).Round(time.Millisecond))
	must(t, heal(t.Context()))
	healed := time.Now()
	awaitWeight(t, second, its, 1)
	t.Logf("and some again %s after it was back", time.Since(healed).Round(time.Millisecond))
}

// awaitWeight waits until a node's kernel gives a pod of web new connections, or none.
func awaitWeight(t *testing.T, node, podIP string, want int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second * cluster.Slow()); ; {
		var d view.Datapath
		told(t, node, view.DatapathPath, &d)
		got := -1
		for _, s := range d.Servers {
			for _, dest := range s.Destinations {
				if dest.Addr.Addr().String() == podIP {
					got = dest.Weight
				}
			}
		}
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has weight %d on %s, want %d", podIP, got, node, want)
		}
	}
}

// TestPowerOffOfAnEndpoint: a node loses power that has an endpoint and not the address. A second later no new connection meets that endpoint
// any more; kube-proxy, at the node port of the same node in the same seconds, sends it its share until the API server gives the node up.
func TestPowerOffOfAnEndpoint(t *testing.T) {
	ns := namespace(t, "192.0.2.168/32")
	servers(t, ns, "web", nodes)
	s := service(t, ns, "web")
	target := address(t, s)
	answers(t, target)
	first := owner(t, target.Addr())
	victim := nodes[(slices.Index(nodes, first)+1)%len(nodes)]
	atNode := http(nodeAddr(first), portOf(s, "http").NodePort).AddrPort
	answers(t, atNode)

	wait := meanwhile(t, target, 5*time.Millisecond, 0)
	time.Sleep(time.Second * cluster.Slow()) // connections to every pod, which show what is lost then
	powerOff(t, victim)
	time.Sleep(time.Second * cluster.Slow()) // the second within which they may fail
	ours, theirs := meanwhile(t, target, 5*time.Millisecond, 4*time.Second), meanwhile(t, atNode, 20*time.Millisecond, 4*time.Second)
	r, k := ours(), theirs()
	before := wait()
	t.Logf("power off %s: new connections failed for %.0f ms; of %d that began a second later lost %.1f %%; of %d through kube-proxy lost %.1f %%",
		victim, before.FailedFor, r.Attempts, share(r), k.Attempts, share(k))
	if now := owner(t, target.Addr()); now != first {
		t.Fatalf("%s took over from %s: what happened was another test", now, first)
	}
	if r.Failed > 0 || len(r.Answers) != len(nodes)-1 || len(before.Answers) != len(nodes) {
		t.Errorf("want answers of all pods at first, and of all but one a second later, when none fails: %+v, then %+v", before, r)
	}
}

// share is the percentage of attempts that failed.
func share(r probe.Report) float64 { return 100 * float64(r.Failed) / float64(max(1, r.Attempts)) }

// The API server really enforces RBAC, and the chart asks for little.
func TestRolesAreNarrow(t *testing.T) {
	for _, tc := range []struct {
		account, verb, group, resource, subresource string
		want                                        bool
	}{
		{"speaker", "list", "", "services", "", true},
		{"speaker", "patch", "", "services", "status", false},
		{"speaker", "delete", "", "services", "", false},
		{"speaker", "list", "", "secrets", "", false},
		{"controller", "patch", "", "services", "status", true},
		{"controller", "delete", "", "services", "", false},
		{"controller", "list", "", "secrets", "", false},
		{"controller", "update", "", "secrets", "", false}, // any but the gossip keys
		{"speaker", "get", "", "secrets", "", false},
		{"controller", "update", "", "nodes", "", false},
	} {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: "system:serviceaccount:fairlead-system:fairlead-" + tc.account,
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: "default", Verb: tc.verb, Group: tc.group, Resource: tc.resource, Subresource: tc.subresource},
		}}
		must(t, lab.Client.Create(t.Context(), review))
		if review.Status.Allowed != tc.want {
			t.Errorf("%s may %s %s/%s = %v, want %v (%s)", tc.account, tc.verb, tc.resource, tc.subresource, review.Status.Allowed, tc.want, review.Status.Reason)
		}
	}
}
