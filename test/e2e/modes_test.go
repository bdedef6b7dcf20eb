//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/internal/view"
	"github.com/fairlead-lb/fairlead/lb"
)

// decision returns what a node's speaker has decided about an address.
func decision(t *testing.T, node, addr string) view.Decision {
	t.Helper()
	var d view.Decisions
	told(t, node, view.DecisionsPath, &d)
	i := slices.IndexFunc(d.Decisions, func(x view.Decision) bool { return x.VIP.String() == addr })
	if i < 0 {
		return view.Decision{}
	}
	return d.Decisions[i]
}

// told reads what a node's speaker serves at a path of its debug endpoint.
func told(t *testing.T, node, path string, into any) {
	t.Helper()
	out, err := lab.Exec(t.Context(), node, "curl", "-fsS", "http://127.0.0.1:9381"+path)
	must(t, err)
	must(t, json.Unmarshal([]byte(out), into))
}

// TestModeNone has kube-proxy forward everything: Fairlead only announces, and believes kube-proxy when it says that it can serve.
func TestModeNone(t *testing.T) {
	inLab(t, "none", 2, []string{"--kube-proxy", "nftables"}, []string{"datapath.mode=none"}, func(t *testing.T) {
		semanticsPool(t, "semantics", 200, 239)
		ns := namespaceOf(t, "mode-none")
		pods := servers(t, ns, "web", nodes)
		s := service(t, ns, "web", externalLocal)
		vip := address(t, s).Addr()
		if mode := s.Status.LoadBalancer.Ingress[0].IPMode; mode == nil || *mode != corev1.LoadBalancerIPModeVIP {
			t.Errorf("ipMode %v, want VIP: kube-proxy forwards", mode)
		}
		first := owner(t, vip)
		byNode := map[string]*corev1.Pod{}
		for _, p := range pods {
			byNode[p.Spec.NodeName] = p
		}
		other := nodes[1-slices.Index(nodes, first)]
		served(t, outside(), http(vip.String(), 80), byNode[first])
		seenAs(t, outside(), http(vip.String(), 80), clientAddr)
		for node, left := range remains(t) {
			if left != "" {
				t.Errorf("%s: mode none writes nothing, but there is\n%s", node, left)
			}
		}

		// A forwarder that says nothing any more is left, and its rules with it.
		proxy := func(signal string) {
			_, err := lab.Exec(t.Context(), first, "pkill", "-"+signal, "-f", "fairlab-kube kube-proxy")
			must(t, err)
		}
		proxy("STOP")
		t.Cleanup(func() { _, _ = lab.Exec(cleanupContext(t), first, "pkill", "-CONT", "-f", "fairlab-kube kube-proxy") })
		eventually(t, whenSettled, func() error {
			if d := decision(t, first, vip.String()); d.Announce || d.Reason != lb.ForwarderNotReady {
				return fmt.Errorf("%s, whose kube-proxy hangs: %+v", first, d)
			}
			return nil
		})
		served(t, outside(), http(vip.String(), 80), byNode[other])
		if got := owner(t, vip); got != other {
			t.Errorf("%s announces, want %s", got, other)
		}
		// When it speaks again the node is good again, also as the only one.
		proxy("CONT")
		remove(t, byNode[other])
		served(t, outside(), http(vip.String(), 80), byNode[first])
		if got := owner(t, vip); got != first {
			t.Errorf("%s announces, want %s", got, first)
		}
		// With policy Cluster there is nobody to ask.
		patch(t, s, `{"spec":{"externalTrafficPolicy":"Cluster"}}`)
		served(t, outside(), http(vip.String(), 80), byNode[first])
		anotherModeAndBack(t, ns, http(vip.String(), 80), byNode[first])
	})
}

// anotherModeAndBack has Fairlead forward, and then kube-proxy again. What forwarded in between is gone then: it would go on in front of
// kube-proxy, to the endpoints of before. Another mode finds nothing in its way either.
func anotherModeAndBack(t *testing.T, ns string, at target, before *corev1.Pod) {
	t.Helper()
	change := func(forwards bool, values ...string) {
		t.Helper()
		must(t, install(t.Context(), values...))
		eventually(t, whenSettled, func() error { // helm does not wait for the last node
			for node, there := range remains(t) {
				if forwards != (there != "") {
					return fmt.Errorf("%v: in the kernel of %s there is %q", values, node, there)
				}
			}
			return nil
		})
	}
	change(true, "datapath.mode=external", "datapath.ipMode=VIP")
	served(t, outside(), at, before)
	change(false, "datapath.mode=none")
	served(t, outside(), at, before)
	after := servers(t, ns, "web-after", nodes[:1], func(p *corev1.Pod) { p.Labels["app"] = "web" })[0]
	served(t, outside(), at, before, after)
	remove(t, before)
	served(t, outside(), at, after)
	change(true, "datapath.mode=external")
	served(t, outside(), at, after)
}

// namespaceOf makes a namespace that may use the pool of semanticsPool.
func namespaceOf(t *testing.T, name string) string {
	t.Helper()
	create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"semantics": "true"}}})
	serviceAccount(t, name)
	return name
}

// TestModeFull has Fairlead do all that kube-proxy does, on nodes without one, for both families.
func TestModeFull(t *testing.T) {
	inLab(t, "full", len(nodes), []string{"--kube-proxy", "none", "--dual-stack"}, []string{"datapath.mode=full"}, func(t *testing.T) {
		t.Run("dual-stack", exampleDualStack)
		runDisruptions(t)
		runSemantics(t)
	})
}
