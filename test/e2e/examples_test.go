//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/test/probe"
)

// examples are the directories of examples/, with what becomes of each in the lab of all tests. Those without have another lab.
var examples = map[string]func(t *testing.T){
	"bgp":               exampleBGP,
	"canary":            exampleCanary,
	"dual-stack":        nil, // TestModeFull
	"external-database": exampleExternalDatabase,
	"ingress":           exampleIngress,
	"quickstart":        nil, // TestExplain
	"shared-address":    exampleSharedAddress,
}

// TestExamples applies the manifests of examples/ as they are.
func TestExamples(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(examplesDir)
	must(t, err)
	for _, e := range entries {
		run, known := examples[e.Name()]
		if e.IsDir() && !known {
			t.Errorf("examples/%s has no test", e.Name())
		}
		if run == nil {
			continue
		}
		t.Run(e.Name(), func(t *testing.T) {
			t.Parallel()
			apply(t, e.Name())
			run(t)
		})
	}
}

var examplesDir = filepath.Join("..", "..", "examples")

// apply applies an example, and takes it away when the test ends.
func apply(t *testing.T, name string) {
	t.Helper()
	dir := filepath.Join(examplesDir, name)
	t.Cleanup(func() {
		_, _ = lab.Fairlab(cleanupContext(t), "kubectl", "delete", "--ignore-not-found", "--wait=false", "-f", dir)
	})
	must(t, lab.Apply(t.Context(), dir))
}

// existing is a Service of an example.
func existing(ns, name string) *corev1.Service {
	return &corev1.Service{ObjectMeta: objectMeta(client.ObjectKey{Namespace: ns, Name: name})}
}

// ready waits until the pods of Deployments of an example are ready.
func ready(t *testing.T, ns string, names ...string) {
	t.Helper()
	for _, name := range names {
		rolledOut(t, &appsv1.Deployment{ObjectMeta: objectMeta(client.ObjectKey{Namespace: ns, Name: name})})
	}
}

func exampleCanary(t *testing.T) {
	at := address(t, existing("canary", "web"))
	ready(t, "canary", "stable", "canary")
	answers(t, at)
	share := func() (canary int, r probe.Report) {
		r, err := lab.HTTP(t.Context(), at, "/hostname", 5*time.Millisecond, 2*time.Second)
		must(t, err)
		for name, n := range r.Answers {
			if strings.HasPrefix(name, "canary-") {
				canary += n
			}
		}
		return canary, r
	}
	canary, r := share()
	if r.Failed > 0 || len(r.Answers) != 4 || canary*10 < r.OK || canary*10 > r.OK*4 {
		t.Errorf("%d of %d connections for one canary beside three others: %+v", canary, r.OK, r)
	}
	t.Logf("%d of %d connections to the canary", canary, r.OK)
	patch(t, &appsv1.Deployment{ObjectMeta: objectMeta(client.ObjectKey{Namespace: "canary", Name: "canary"})}, `{"spec":{"replicas":0}}`)
	eventually(t, 30*time.Second, func() error {
		if canary, r := share(); canary > 0 || r.Failed > 0 {
			return fmt.Errorf("%d connections to the canary, which was taken back: %+v", canary, r)
		}
		return nil
	})
}

// exampleExternalDatabase has a real Redis on the router, at the address of the slice.
func exampleExternalDatabase(t *testing.T) {
	const addr = "192.0.2.30"
	_, err := lab.Exec(t.Context(), "router", "sh", "-ec", "ip address add "+addr+"/24 dev eth0\n"+
		"redis-server --bind "+addr+" --protected-mode no --save '' --daemonize yes --logfile /run/redis.log --dir /run")
	must(t, err)
	t.Cleanup(func() {
		_, _ = lab.Exec(cleanupContext(t), "router", "sh", "-c", "redis-cli -h "+addr+" shutdown nosave; ip address del "+addr+"/24 dev eth0")
	})
	at := address(t, existing("external-database", "redis")).Addr().String()
	redis := func(from string, args ...string) (string, error) {
		return lab.Exec(t.Context(), from, append([]string{"timeout", "5", "redis-cli", "-h", at}, args...)...)
	}
	eventually(t, 30*time.Second, func() error {
		out, err := redis("client", "set", "greeting", "hello")
		if err == nil && strings.TrimSpace(out) != "OK" {
			err = fmt.Errorf("redis says %q", out)
		}
		return err
	})
	for _, from := range []string{"client", nodes[0]} {
		if out, err := redis(from, "get", "greeting"); err != nil || strings.TrimSpace(out) != "hello" {
			t.Errorf("from %s redis says %q, error %v", from, out, err)
		}
	}
}

func exampleSharedAddress(t *testing.T) {
	web, talk := address(t, existing("shared-address", "web")), address(t, existing("shared-address", "talk"))
	if web != talk {
		t.Errorf("web is at %s, talk at %s", web.Addr(), talk.Addr())
	}
	ready(t, "shared-address", "web", "talk")
	answers(t, web)
	eventually(t, 30*time.Second, func() error {
		r, err := lab.UDP(t.Context(), netip.AddrPortFrom(talk.Addr(), 81), "hostname", 20*time.Millisecond, 400*time.Millisecond)
		if err == nil && (r.Failed > 0 || r.OK == 0 || !onlyFrom(r, "talk-")) {
			err = fmt.Errorf("81/UDP of %s: %+v", talk.Addr(), r)
		}
		return err
	})
	if r := burst(t, web, "/hostname"); r.Failed > 0 || !onlyFrom(r, "web-") {
		t.Errorf("80/TCP of %s: %+v", web.Addr(), r)
	}
}

// onlyFrom says whether all answers came from pods whose names begin so.
func onlyFrom(r probe.Report, prefix string) bool {
	for name := range r.Answers {
		if !strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return true
}

func exampleIngress(t *testing.T) {
	at := address(t, existing("shop", "ingress"))
	ready(t, "shop", "ingress", "catalogue")
	answers(t, at)
	for path, prefix := range map[string]string{"/hostname": "catalogue-", "/cart/hostname": "cart-"} {
		eventually(t, 30*time.Second, func() error {
			r, err := lab.HTTP(t.Context(), at, path, 20*time.Millisecond, 600*time.Millisecond)
			if err == nil && (r.Failed > 0 || len(r.Answers) != 2 || !onlyFrom(r, prefix)) {
				err = fmt.Errorf("%s: want both pods of %s, got %+v", path, prefix, r)
			}
			return err
		})
	}
	for _, path := range []string{"/header?key=X-Forwarded-For", "/cart/header?key=X-Forwarded-For"} {
		if r := burst(t, at, path); r.Failed > 0 || len(r.Answers) != 1 || r.Answers[clientAddr] == 0 {
			t.Errorf("%s: the pods behind nginx were told of clients %+v, want %s", path, r, clientAddr)
		}
	}
	// The address is only where an nginx is, and follows it.
	d := &appsv1.Deployment{ObjectMeta: objectMeta(client.ObjectKey{Namespace: "shop", Name: "ingress"})}
	must(t, lab.Client.Get(t.Context(), client.ObjectKeyFromObject(d), d))
	first := owner(t, at.Addr())
	pods := podsOf(t, d)
	if !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.Spec.NodeName == first }) {
		t.Errorf("%s announces, but has no nginx", first)
	}
}

// exampleBGP has the lab's FRR as the first router and a BIRD in a network namespace of the router's as the second.
func exampleBGP(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	conf := filepath.Join(dir, "bird.conf")
	must(t, os.WriteFile(conf, []byte(`router id 192.0.2.2;
protocol device {}
protocol bfd { interface "eth0" { min rx interval 50 ms; min tx interval 50 ms; multiplier 3; }; }
protocol kernel { ipv4 { export all; }; merge paths yes limit 16; }
protocol bgp nodes {
  local 192.0.2.2 as 64513;
  neighbor range 192.0.2.0/24 as 64512; dynamic name "node";
  hold time 9; bfd yes; password "change-me"; graceful restart aware;
  error wait time 1, 5; connect retry time 1;
  ipv4 { import all; export none; };
}
`), 0o644))
	const second = "ip netns exec second "
	_, err := lab.Exec(t.Context(), "router", "sh", "-ec", `ip netns add second
ip link add eth0 link eth0 netns second type macvlan mode bridge
ip -n second address add 192.0.2.2/24 dev eth0
ip -n second link set lo up
ip -n second link set eth0 up
`+second+"sysctl -qw net.ipv4.ip_forward=1\n"+second+"/usr/sbin/bird -c "+conf+" -s /run/second.ctl -P /run/second.pid")
	must(t, err)
	t.Cleanup(func() {
		_, _ = lab.Exec(cleanupContext(t), "router", "sh", "-c", "kill $(cat /run/second.pid); ip netns del second")
	})
	frr(t, "configure terminal", "router bgp 64513", "neighbor nodes password change-me", "neighbor nodes bfd 3 50 50")
	t.Cleanup(func() {
		_, _ = lab.Exec(cleanupContext(t), "router", "vtysh", "-c", "configure terminal", "-c", "router bgp 64513", "-c", "no neighbor nodes password", "-c", "no neighbor nodes bfd")
	})
	at := address(t, existing("rack", "web"))
	ready(t, "rack", "web")
	eventually(t, time.Minute, func() error {
		if got := hops(t)[at.Addr().String()+"/32"]; got != len(nodes) {
			return fmt.Errorf("the first router has %d paths to %s, want %d", got, at.Addr(), len(nodes))
		}
		out, err := lab.Exec(t.Context(), "router", "birdc", "-r", "-s", "/run/second.ctl", "show", "route", "for", at.Addr().String(), "all")
		if err == nil && strings.Count(out, "BGP.as_path: 64512 64512 64512") != len(nodes) {
			err = fmt.Errorf("the second router has not %d paths with the AS twice prepended:\n%s", len(nodes), out)
		}
		return err
	})
	if got := frr(t, "show bgp ipv4 unicast "+at.Addr().String()+"/32 json"); !strings.Contains(got, "no-export") || strings.Contains(got, "64512 64512") {
		t.Errorf("the first router wants a short path that is not exported:\n%s", got)
	}
	eventually(t, time.Minute, func() error { // it comes up by itself, a second or more after BGP
		var bfd []struct{ Status string }
		must(t, json.Unmarshal([]byte(frr(t, "show bfd peers json")), &bfd))
		if n := len(slices.DeleteFunc(bfd, func(p struct{ Status string }) bool { return p.Status != "up" })); n != len(nodes) {
			return fmt.Errorf("BFD is up with %d of %d nodes", n, len(nodes))
		}
		return nil
	})
	for _, router := range []string{routerAddr, "192.0.2.2"} {
		_, err := lab.Exec(t.Context(), "client", "ip", "route", "replace", at.Addr().String()+"/32", "via", router)
		must(t, err)
		answers(t, at)
	}
	t.Cleanup(func() { _, _ = lab.Exec(cleanupContext(t), "client", "ip", "route", "del", at.Addr().String()+"/32") })
}

// exampleDualStack needs a lab with both families.
func exampleDualStack(t *testing.T) {
	apply(t, "dual-stack")
	s := existing("dual-stack", "web")
	address(t, s)
	ready(t, "dual-stack", "web")
	if n := len(s.Status.LoadBalancer.Ingress); n != 2 {
		t.Fatalf("%d addresses, want one of each family: %v", n, s.Status.LoadBalancer.Ingress)
	}
	for _, in := range s.Status.LoadBalancer.Ingress {
		answers(t, at(in.IP))
	}
}
