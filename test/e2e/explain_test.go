//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/internal/explain"
	"github.com/fairlead-lb/fairlead/test/cluster"
)

// plugin runs `kubectl fairlead` against the lab, from the machine outside of it.
func plugin(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	path, err := lab.Fairlab(t.Context(), "kubeconfig")
	must(t, err)
	cmd := exec.CommandContext(t.Context(), filepath.Join(lab.Bin, "kubectl-fairlead"), append(args, "--kubeconfig", strings.TrimSpace(path))...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	text, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if code = cmd.ProcessState.ExitCode(); code > 1 {
		t.Fatalf("kubectl fairlead %v could not answer: %s", args, errs.String())
	}
	return code, string(text)
}

// cause asks until explain names the reason as the cause for the Service, at the step, and returns what it says to do.
func cause(t *testing.T, service, step, reason string) string {
	t.Helper()
	var found *explain.Step
	eventually(t, 30*time.Second, func() error {
		code, out := plugin(t, "explain", "svc", service, "-o", "json")
		var chains []explain.Chain
		if err := json.Unmarshal([]byte(out), &chains); err != nil {
			return err
		}
		for _, c := range chains {
			if found = c.Cause(); found != nil && found.Name == step && string(found.Reason) == reason && code == 1 {
				return nil
			}
		}
		return fmt.Errorf("want the cause %s at %s and exit code 1, have %d and %s", reason, step, code, out)
	})
	if found.Next == "" {
		t.Errorf("the step %+v does not say what to do", found)
	}
	t.Logf("%s: %s: %s; do: %s", found.Name, found.Reason, found.Message, found.Next)
	return found.Next
}

// healthy asks until no step of the Service's chains says no.
func healthy(t *testing.T, service string) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		if code, out := plugin(t, "explain", "svc", service); code != 0 {
			return fmt.Errorf("something is wrong with %s:\n%s", service, out)
		}
		return nil
	})
}

// TestExplain is a new user with the quickstart, who breaks it in one way after the other. It has a lab of its own: it is about the
// only pool of a cluster.
func TestExplain(t *testing.T) {
	inLab(t, "explain", 3, []string{"--kube-proxy", "nftables"}, nil, breakTheQuickstart)
}

// breakTheQuickstart stops at the first way that is not explained or not mended: the others build on what it leaves.
func breakTheQuickstart(t *testing.T) {
	const name = "default/echo"
	examples := filepath.Join("..", "..", "examples", "quickstart")
	must(t, lab.Apply(t.Context(), filepath.Join(examples, "echo.yaml")))
	echo := &corev1.Service{ObjectMeta: objectMeta(client.ObjectKey{Namespace: "default", Name: "echo"})}
	pods := &appsv1.Deployment{ObjectMeta: echo.ObjectMeta}
	step := func(way string, run func(t *testing.T)) {
		if !t.Run(way, run) {
			t.FailNow()
		}
	}

	step("no pool", func(t *testing.T) {
		if do := cause(t, name, "allocation", "NoPools"); !strings.Contains(do, "create one in Fairlead's namespace") {
			t.Errorf("to do is %q", do)
		}
		must(t, lab.Apply(t.Context(), filepath.Join(examples, "pool.yaml")))
		at := address(t, echo)
		rolledOut(t, pods)
		healthy(t, name)
		answers(t, at)
	})
	step("wrong pool", func(t *testing.T) {
		s := service(t, "default", "typo", func(s *corev1.Service) {
			s.Annotations = map[string]string{"fairlead.dev/address-pool": "defualt"}
		})
		if do := cause(t, "default/typo", "allocation", "UnknownPool"); !strings.Contains(do, "correct the annotation") {
			t.Errorf("to do is %q", do)
		}
		patch(t, s, `{"metadata":{"annotations":{"fairlead.dev/address-pool":null}},"spec":{"selector":{"app":"echo"}}}`)
		healthy(t, "default/typo")
	})
	step("no endpoints", func(t *testing.T) {
		replicas := *pods.Spec.Replicas
		patch(t, pods, `{"spec":{"replicas":0}}`)
		if do := cause(t, name, "election", "NoEndpoints"); !strings.Contains(do, "look at the pods") {
			t.Errorf("to do is %q", do)
		}
		patch(t, pods, fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas))
		rolledOut(t, pods)
		healthy(t, name)
	})
	step("wrong interface", func(t *testing.T) {
		var ads v1beta1.L2AdvertisementList
		must(t, lab.Client.List(t.Context(), &ads))
		if len(ads.Items) != 1 {
			t.Fatalf("%d L2Advertisements, want that of the quickstart", len(ads.Items))
		}
		patch(t, &ads.Items[0], `{"spec":{"interfaces":["eth9"]}}`)
		if do := cause(t, name, "election", "NoInterface"); !strings.Contains(do, "`interfaces` of the advertisements") {
			t.Errorf("to do is %q", do)
		}
		if _, out := plugin(t, "explain", "svc", name); !strings.Contains(out, "allows the interfaces eth9 only") || !strings.Contains(out, "has eth0 (up)") {
			t.Errorf("the evidence lacks the interfaces:\n%s", out)
		}
		patch(t, &ads.Items[0], `{"spec":{"interfaces":null}}`)
		healthy(t, name)
	})
	step("dead peer", func(t *testing.T) {
		meta := objectMeta(client.ObjectKey{Namespace: "fairlead-system", Name: "nobody"})
		create(t, &v1beta1.BGPAdvertisement{ObjectMeta: meta})
		peer := &v1beta1.BGPPeer{ObjectMeta: meta, Spec: v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: 64513, PeerAddress: "192.0.2.99"}}
		create(t, peer)
		cause(t, name, "bgp", "BGPUnreachable")
		if code, out := plugin(t, "bgp"); code != 1 || !strings.Contains(out, "192.0.2.99") || !strings.Contains(out, "BGPUnreachable") {
			t.Errorf("bgp ends with %d:\n%s", code, out)
		}
		must(t, lab.Client.Delete(t.Context(), peer))
		must(t, lab.Client.Delete(t.Context(), &v1beta1.BGPAdvertisement{ObjectMeta: meta}))
		healthy(t, name)
	})
	step("direct server return", func(t *testing.T) { directReturn(t, echo) })
	step("overview", func(t *testing.T) { overview(t, echo) })
	step("web page", func(t *testing.T) { webPage(t, echo) })
}

// directReturn asks for what engine nft cannot do: connections go on by nat, and it is said why. With engine ipvs both tiers are shown.
func directReturn(t *testing.T, echo *corev1.Service) {
	const name = "default/echo"
	patch(t, echo, `{"metadata":{"annotations":{"fairlead.dev/forwarding":"dsr"}}}`)
	if engine() == "ipvs" {
		eventually(t, 30*time.Second, func() error {
			if code, out := plugin(t, "explain", "svc", name); code != 0 || !strings.Contains(out, "tier 1, ") || !strings.Contains(out, "tier 2, ") {
				return fmt.Errorf("explain ends with %d:\n%s", code, out)
			}
			return nil
		})
	} else {
		cause(t, name, "dsr", "DSRUnavailable")
		eventually(t, 30*time.Second, func() error {
			if code, out := plugin(t, "status"); code != 1 || !strings.Contains(out, "EngineWithoutTunnel") {
				return fmt.Errorf("status ends with %d:\n%s", code, out)
			}
			return nil
		})
	}
	answers(t, address(t, echo))
	patch(t, echo, `{"metadata":{"annotations":{"fairlead.dev/forwarding":null}}}`)
	healthy(t, name)
}

// overview looks at what the other commands say of the quickstart.
func overview(t *testing.T, echo *corev1.Service) {
	at := address(t, echo)
	eventually(t, 30*time.Second, func() error {
		if code, out := plugin(t, "status"); code != 0 || !strings.Contains(out, "all is well") {
			return fmt.Errorf("status ends with %d:\n%s", code, out)
		}
		return nil
	})
	var holder string
	eventually(t, 10*time.Second, func() error {
		owner, _, err := lab.OwnerOf(t.Context(), at.Addr(), nodes)
		holder = owner
		return err
	})
	code, out := plugin(t, "drain", holder, "--dry-run", "-o", "json")
	var e explain.Evacuation
	must(t, json.Unmarshal([]byte(out), &e))
	moved := slices.ContainsFunc(e.Moves, func(m explain.Move) bool {
		return m.Address == at.Addr() && m.To != "" && string(m.To) != holder
	})
	if code != 0 || !moved {
		t.Errorf("draining %s moves %+v, exit code %d; want %s somewhere else", holder, e.Moves, code, at.Addr())
	}
	if _, out := plugin(t, "explain", "ip", at.Addr().String()); !strings.Contains(out, holder+" was elected") {
		t.Errorf("explain ip does not name %s:\n%s", holder, out)
	}
	if _, out := plugin(t, "explain", "ip", netip.MustParseAddr("203.0.113.9").String()); !strings.Contains(out, "in no IPAddressPool") {
		t.Errorf("explain ip of an address of nobody's:\n%s", out)
	}
	path, err := lab.Fairlab(t.Context(), "kubeconfig")
	must(t, err)
	other := slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return n == holder })[0] // the client does not reach the API server
	out, err = lab.Exec(t.Context(), other, filepath.Join(lab.Bin, "kubectl-fairlead"), "--kubeconfig", strings.TrimSpace(path), "--server", "https://10.96.0.1", "explain", "ip", at.Addr().String(), "--probe")
	if err != nil || !strings.Contains(out, "answers, and nobody else") {
		t.Errorf("explain --probe from %s: %v\n%s", other, err, out)
	}
	if _, out := plugin(t, "pools"); !strings.Contains(out, "ASSIGNED") {
		t.Errorf("pools:\n%s", out)
	}
	if _, out := plugin(t, "top"); !strings.Contains(out, "default/echo") {
		t.Errorf("top:\n%s", out)
	}
	rates(t, at)
	file := filepath.Join(t.TempDir(), "bundle.tar.gz")
	looker(t, "oncall")
	if code, out := plugin(t, "status", "--as", "somebody", "--as-group", "oncall"); code != 0 {
		t.Errorf("for those who may only look, status ends with %d:\n%s", code, out)
	}
	plugin(t, "support-bundle", "--file", file, "--as", "somebody", "--as-group", "oncall")
	list, err := exec.CommandContext(t.Context(), "tar", "-tzf", file).Output()
	must(t, err)
	for _, want := range []string{"fairlead-support/objects.yaml", "fairlead-support/speakers/" + holder + "/decisions.json", "/lbcontroller.log", "fairlead-support/explain.txt"} {
		if !strings.Contains(string(list), want) {
			t.Errorf("the bundle lacks %s:\n%s", want, list)
		}
	}
	if strings.Contains(string(list), ".error") {
		t.Errorf("the bundle has errors:\n%s", list)
	}
}

// rates has top tell of traffic while there is some.
func rates(t *testing.T, at netip.AddrPort) {
	path, err := lab.Fairlab(t.Context(), "kubeconfig")
	must(t, err)
	wait := meanwhile(t, at, 10*time.Millisecond, 0)
	out, err := exec.CommandContext(t.Context(), "timeout", "--preserve-status", "-s", "INT", fmt.Sprint(5*int(cluster.Slow())), filepath.Join(lab.Bin, "kubectl-fairlead"),
		"top", "--watch", "--interval", "1s", "-o", "json", "--kubeconfig", strings.TrimSpace(path)).Output()
	must(t, err)
	wait()
	fastest := 0.0
	for readings := json.NewDecoder(bytes.NewReader(out)); readings.More(); {
		var loads []explain.Load
		must(t, readings.Decode(&loads))
		for _, l := range loads {
			if l.Service == "default/echo" && l.BytesPerSecond > 0 {
				fastest = max(fastest, l.OpenedPerSecond)
			}
		}
	}
	if fastest == 0 {
		t.Errorf("top --watch saw no traffic at 100 connections per second:\n%s", out)
	}
}

// looker gives a group what the chart makes for those who may look but not touch.
func looker(t *testing.T, group string) {
	t.Helper()
	const role = "fairlead-diagnosis"
	who := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: group}}
	create(t, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "look"}, Subjects: who,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}})
	create(t, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: "look"}, Subjects: who,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role}})
}
