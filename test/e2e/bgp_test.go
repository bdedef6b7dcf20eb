//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/test/cluster"
)

// The routers: FRR has the lab's own address and listens on all, the other two have further ones on the same member, and other ports.
const (
	routerAddr = "192.0.2.1"
	birdAddr   = "192.0.2.2"
	gobgpAddr  = "192.0.2.3"
	bgpRange   = "203.0.113.0/28"
)

// frr configures the lab's FRR.
func frr(t *testing.T, lines ...string) string {
	t.Helper()
	args := []string{"vtysh"}
	for _, l := range lines {
		args = append(args, "-c", l)
	}
	out, err := lab.Exec(t.Context(), "router", args...)
	must(t, err)
	return out
}

// hops returns the next hops that FRR has for the prefixes of the range, of each the number of nodes.
func hops(t *testing.T) map[string]int {
	t.Helper()
	var table struct {
		Routes map[string][]struct {
			Valid bool `json:"valid"`
			Multi bool `json:"multipath"`
			Best  bool `json:"bestpath"`
		} `json:"routes"`
	}
	must(t, json.Unmarshal([]byte(frr(t, "show bgp ipv4 unicast json")), &table))
	out := map[string]int{}
	for prefix, paths := range table.Routes {
		for _, p := range paths {
			if p.Valid && (p.Multi || p.Best) {
				out[prefix]++
			}
		}
	}
	return out
}

// paths waits until the router has so many paths to an address, each through another node.
func paths(t *testing.T, to netip.Addr, want int) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		if got := hops(t)[to.String()+"/32"]; got != want {
			return fmt.Errorf("the router has %d paths to %s, want %d", got, to, want)
		}
		return nil
	})
}

// bgpPeer makes a BGPPeer.
func bgpPeer(t *testing.T, name, addr string, change ...func(*v1beta1.BGPPeerSpec)) {
	t.Helper()
	p := &v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: name}, Spec: v1beta1.BGPPeerSpec{
		MyASN: 64512, PeerASN: 64513, PeerAddress: addr, EnableGracefulRestart: true,
		HoldTime: &metav1.Duration{Duration: 9 * time.Second}, ConnectTime: &metav1.Duration{Duration: 2 * time.Second},
	}}
	for _, c := range change {
		c(&p.Spec)
	}
	create(t, p)
}

// bgpServices counts the Services of bgpService.
var bgpServices atomic.Uint32

// bgpService makes a pool that is announced by BGP alone, a Service in it with a pod on every node, and the client's way to it, and
// waits until the router has a path through every node. No test uses another's address within two minutes: where the client's ports come
// round again, nodes still remember connections that have ended, and lose what moves to them (docs/datapath.md).
func bgpService(t *testing.T, change ...func(*corev1.Service)) *corev1.Service {
	t.Helper()
	ns := namespace(t)
	create(t, &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: ns},
		Spec: v1beta1.IPAddressPoolSpec{Addresses: []string{fmt.Sprintf("203.0.113.%d/32", bgpServices.Add(1)%16)}, ServiceAllocation: &v1beta1.ServiceAllocation{Namespaces: []string{ns}}}})
	create(t, &v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: ns},
		Spec: v1beta1.BGPAdvertisementSpec{IPAddressPools: []string{ns}}})
	_, err := lab.Exec(t.Context(), "client", "ip", "route", "replace", bgpRange, "via", routerAddr)
	must(t, err)
	t.Cleanup(func() { _, _ = lab.Exec(cleanupContext(t), "client", "ip", "route", "del", bgpRange) })
	_, err = lab.Exec(t.Context(), "router", "sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=1")
	must(t, err)
	deployment(t, ns, "web", int32(len(nodes)), onePerNode)
	s := service(t, ns, "web", change...)
	target := address(t, s)
	paths(t, target.Addr(), len(nodes))
	answers(t, target)
	return s
}

// withBFD has FRR and the nodes watch each other, and take each other for dead after three intervals, which are stretched on slow machines.
func withBFD(t *testing.T, every time.Duration) {
	t.Helper()
	interval := uint32((every * cluster.Slow()).Milliseconds())
	create(t, &v1beta1.BFDProfile{ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: "watched"},
		Spec: v1beta1.BFDProfileSpec{ReceiveInterval: &interval, TransmitInterval: &interval, DetectMultiplier: new(uint32(3))}})
	frr(t, "configure terminal", "router bgp 64513", fmt.Sprintf("neighbor nodes bfd 3 %d %[1]d", interval))
	t.Cleanup(func() {
		_, _ = lab.Exec(cleanupContext(t), "router", "vtysh", "-c", "configure terminal", "-c", "router bgp 64513", "-c", "no neighbor nodes bfd")
	})
}

// TestBGPWithThreeRouters: FRR, BIRD and GoBGP hear of a Service from every node, and of its end.
func TestBGPWithThreeRouters(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	bird, gobgp := filepath.Join(dir, "bird.conf"), filepath.Join(dir, "gobgp.toml")
	must(t, os.WriteFile(bird, []byte(`router id 192.0.2.2;
protocol device {}
protocol bgp { local 192.0.2.2 port 1790 as 64513; strict bind yes; neighbor range 192.0.2.0/24 as 64512; dynamic name "node"; ipv4 { import all; export none; }; }
`), 0o644))
	must(t, os.WriteFile(gobgp, []byte(`[global.config]
  as = 64513
  router-id = "192.0.2.3"
  port = 1791
  local-address-list = ["192.0.2.3"]
[[peer-groups]]
  [peer-groups.config]
    peer-group-name = "nodes"
    peer-as = 64512
[[dynamic-neighbors]]
  [dynamic-neighbors.config]
    prefix = "192.0.2.0/24"
    peer-group = "nodes"
`), 0o644))
	for _, script := range []string{
		"ip addr add " + birdAddr + "/24 dev eth0; ip addr add " + gobgpAddr + "/24 dev eth0",
		"mkdir -p /run/bird; /usr/sbin/bird -c " + bird + " -s /run/bird/bird.ctl -P /run/bird/bird.pid",
		"(setsid /usr/bin/gobgpd -f " + gobgp + " --api-hosts 127.0.0.1:50051 --pprof-disable >/run/gobgpd.log 2>&1 & echo $! >/run/gobgpd.pid)",
	} {
		_, err := lab.Exec(t.Context(), "router", "sh", "-c", script)
		must(t, err)
	}
	t.Cleanup(func() {
		_, _ = lab.Exec(cleanupContext(t), "router", "sh", "-c", "kill $(cat /run/bird/bird.pid) $(cat /run/gobgpd.pid); ip addr del "+birdAddr+"/24 dev eth0; ip addr del "+gobgpAddr+"/24 dev eth0")
	})
	bgpPeer(t, "frr", routerAddr)
	bgpPeer(t, "bird", birdAddr, func(s *v1beta1.BGPPeerSpec) { s.PeerPort = 1790 })
	bgpPeer(t, "gobgp", gobgpAddr, func(s *v1beta1.BGPPeerSpec) { s.PeerPort = 1791 })
	s := bgpService(t)
	vip := address(t, s).Addr().String()
	seen := func(want int) {
		t.Helper()
		for name, command := range map[string][]string{
			"BIRD":  {"birdc", "-r", "-s", "/run/bird/bird.ctl", "show", "route", "for", vip, "all"},
			"GoBGP": {"gobgp", "global", "rib", vip + "/32"},
		} {
			eventually(t, time.Minute, func() error {
				out, err := lab.Exec(t.Context(), "router", command...)
				for i := range nodes {
					hop := fmt.Sprintf("192.0.2.%d", 11+i)
					if strings.Contains(out, hop) != (want > 0) {
						return fmt.Errorf("%s: path through %s: %t; %v\n%s", name, hop, want > 0, err, out)
					}
				}
				return nil
			})
		}
	}
	seen(len(nodes))
	out, err := lab.Fairlab(t.Context(), "kubectl", "-n", "fairlead-system", "get", "bgppeers")
	must(t, err)
	t.Logf("kubectl get bgppeers:\n%s", out)
	must(t, lab.Client.Delete(t.Context(), s))
	seen(0)
	eventually(t, 20*time.Second, func() error {
		if got := hops(t); len(got) > 0 {
			return fmt.Errorf("FRR still has %v", got)
		}
		return nil
	})
}

// TestBGPPowerOff: a node loses power; new connections fail until BFD has told the router.
func TestBGPPowerOff(t *testing.T) {
	withBFD(t, 50*time.Millisecond)
	bgpPeer(t, "frr", routerAddr, func(s *v1beta1.BGPPeerSpec) { s.BFDProfile = "watched" })
	s := bgpService(t)
	target := address(t, s)
	eventually(t, 30*time.Second, func() error {
		if out := frr(t, "show bfd peers"); strings.Count(out, "Status: up") != len(nodes) {
			return fmt.Errorf("not every node has BFD up:\n%s", out)
		}
		return nil
	})
	wait := meanwhile(t, target, 5*time.Millisecond, 0)
	time.Sleep(time.Second)
	victim := nodes[len(nodes)-1]
	powerOff(t, victim)
	paths(t, target.Addr(), len(nodes)-1)
	r := wait()
	t.Logf("%d connections, %d failed, longest gap %.0f ms", r.Attempts, r.Failed, r.LongestGap)
	if r.LongestGap > 5000 {
		t.Errorf("longest gap %.0f ms, hold time alone would be 9 s", r.LongestGap)
	}
}

// TestBGPDrain: a node is drained under 200 new connections per second, and each comes about; so do those that have been open all the time, whichever
// node has received them, when the node leaves and when it returns.
func TestBGPDrain(t *testing.T) {
	bgpPeer(t, "frr", routerAddr, func(s *v1beta1.BGPPeerSpec) { s.DrainWait = &metav1.Duration{Duration: 2 * time.Second} })
	must(t, install(t.Context(), "speaker.onCordon=leave"))
	t.Cleanup(func() { _ = install(cleanupContext(t)) })
	speakersRolledOut(t)
	s := bgpService(t)
	target := address(t, s)
	victim := nodes[len(nodes)-1]
	held := hold(t, target, openByRouters)
	wait := meanwhile(t, target, 5*time.Millisecond, 10*time.Second)
	gone := podsOn(t, s.Namespace, victim) // with the pods of the node go their connections
	_, err := lab.Fairlab(t.Context(), "node", "drain", victim)
	must(t, err)
	uncordon := func() { _, _ = lab.Fairlab(cleanupContext(t), "kubectl", "uncordon", victim) }
	t.Cleanup(uncordon)
	paths(t, target.Addr(), len(nodes)-1)
	held.goesOn(t, victim+" drained", gone...)
	uncordon()
	paths(t, target.Addr(), len(nodes))
	held.goesOn(t, victim+" back", gone...)
	outlived(t, wait())
}

// openByRouters is how many connections are held open through changes of the paths.
const openByRouters = 200

// TestBGPUpgrade: every speaker is replaced under 200 new connections per second with graceful restart and BFD, and each comes about, as does each
// that has been open all the time. A speaker is away for longer than BFD has patience; more of that than a busy machine pauses, because a router
// that takes all nodes for dead is another matter.
func TestBGPUpgrade(t *testing.T) {
	withBFD(t, 300*time.Millisecond)
	bgpPeer(t, "frr", routerAddr, func(s *v1beta1.BGPPeerSpec) { s.BFDProfile = "watched" })
	s := bgpService(t)
	target := address(t, s)
	held := hold(t, target, openByRouters)
	wait, start := meanwhile(t, target, 5*time.Millisecond, 15*time.Second), time.Now()
	must(t, install(t.Context(), "logLevel=debug"))
	t.Cleanup(func() { _ = install(cleanupContext(t)) })
	speakersRolledOut(t)
	t.Logf("every speaker was replaced after %.0f s", time.Since(start).Seconds())
	held.goesOn(t, "every speaker replaced")
	outlived(t, wait())
}

// speakersRolledOut waits until every speaker is of the newest kind.
func speakersRolledOut(t *testing.T) {
	t.Helper()
	_, err := lab.Fairlab(t.Context(), "kubectl", "-n", "fairlead-system", "rollout", "status", "--timeout="+(3*time.Minute*cluster.Slow()).String(), "daemonset/fairlead-speaker")
	must(t, err)
}

// updates are TCP segments from the first node to the router that hold more than a KEEPALIVE, whose 19 bytes are the least.
const updates = "tcp port 179 and src host 192.0.2.11 and ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2) > 19"

// TestBGPEndpointLoss: the only local pod of a Service that wants local ones goes, and the router hears of it; five times. FRR itself
// gathers what it hears for 50 ms before it acts.
func TestBGPEndpointLoss(t *testing.T) {
	bgpPeer(t, "frr", routerAddr)
	s := bgpService(t, func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal })
	vip := address(t, s).Addr()
	file := filepath.Join(t.TempDir(), "routes")
	_, err := lab.Exec(t.Context(), "router", "sh", "-c", "setsid ip -ts -o monitor route >"+file+" 2>&1 & echo $! >"+file+".pid")
	must(t, err)
	t.Cleanup(func() { _, _ = lab.Exec(cleanupContext(t), "router", "sh", "-c", "kill $(cat "+file+".pid)") })
	heard := filepath.Join(t.TempDir(), "updates")
	_, err = lab.Exec(t.Context(), "router", "sh", "-c", "setsid tcpdump -ni any -l -tt '"+updates+"' >"+heard+" 2>&1 & echo $! >"+heard+".pid")
	must(t, err)
	t.Cleanup(func() { _, _ = lab.Exec(cleanupContext(t), "router", "sh", "-c", "kill $(cat "+heard+".pid)") })
	eventually(t, 10*time.Second, func() error {
		text, err := os.ReadFile(heard)
		if err == nil && !strings.Contains(string(text), "listening") {
			err = fmt.Errorf("tcpdump says %q", text)
		}
		return err
	})
	var told, took []time.Duration
	for range 5 {
		var pods corev1.PodList
		must(t, lab.Client.List(t.Context(), &pods, client.InNamespace(s.Namespace), client.MatchingLabels{"app": "web"}))
		i := slices.IndexFunc(pods.Items, func(p corev1.Pod) bool { return p.Spec.NodeName == nodes[0] && podReady(p) })
		if i < 0 {
			t.Fatalf("no ready pod on %s", nodes[0])
		}
		start := time.Now()
		patch(t, &pods.Items[i], `{"metadata":{"labels":{"app":"other"}}}`) // not deleted: it would stay ready for as long as it likes
		eventually(t, 20*time.Second, func() error {
			at, err := changed(file, vip.String(), start)
			if err == nil {
				took = append(took, at.Sub(start))
			}
			return err
		})
		eventually(t, 5*time.Second, func() error {
			at, err := captured(heard, start)
			if err == nil {
				told = append(told, at.Sub(start))
			}
			return err
		})
		paths(t, vip, len(nodes)) // another pod runs on the first node
	}
	slices.Sort(told)
	slices.Sort(took)
	t.Logf("from the write to the API server to the UPDATE at the router: median %d ms, all %v", told[len(told)/2].Milliseconds(), told)
	t.Logf("from the write to the API server to the router's kernel: median %d ms, all %v", took[len(took)/2].Milliseconds(), took)
}

// captured returns when tcpdump -tt saw the first packet after a time.
func captured(file string, after time.Time) (time.Time, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return time.Time{}, err
	}
	for line := range strings.Lines(string(text)) {
		seconds, fraction, ok := strings.Cut(strings.SplitN(line, " ", 2)[0], ".")
		s, err1 := strconv.ParseInt(seconds, 10, 64)
		us, err2 := strconv.ParseInt(fraction, 10, 64)
		if at := time.Unix(s, us*1000); ok && err1 == nil && err2 == nil && at.After(after) {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("no UPDATE from %s yet:\n%s", nodes[0], text)
}

// changed returns when the router changed its route to an address after a time, as `ip -ts monitor route` wrote it down.
func changed(file, vip string, after time.Time) (time.Time, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return time.Time{}, err
	}
	for line := range strings.Lines(string(text)) {
		stamp, _, ok := strings.Cut(strings.TrimPrefix(line, "["), "]")
		at, err := time.ParseInLocation("2006-01-02T15:04:05.000000", stamp, time.Local)
		if ok && err == nil && at.After(after) && strings.Contains(line, vip) {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("the router has not changed its route to %s:\n%s", vip, text)
}
