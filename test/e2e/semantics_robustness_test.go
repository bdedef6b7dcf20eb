//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/test/cluster"
)

// What others do to a node while it serves. These disturb other tests, so they run before them, one after another.
var disruptions = []semantic{
	{"R1 rules are flushed", 2, rulesAreFlushed},
	{"R2 the speaker is killed", 2, speakerIsKilled},
	{"R3 an address moves with open connections", 2, addressMoves},
}

// What happens beside the API: others change the kernel, addresses are shared.
var robustnessSemantics = []semantic{
	{"R5 others mark packets", 2, othersMarkPackets},
	{"R6 two services share an address", 2, sharedAddress},
	{"R7 forwarding is dropped by default", 2, forwardingIsDropped},
	{"R8 a smaller path to the pod", 1, smallerPath},
}

// dualStackSemantics need IPv6 (R4).
var dualStackSemantics = []semantic{
	{"R4 both families", 2, bothFamilies},
	{"R4 policy Local in both families", 2, localInBothFamilies},
}

// R1. Somebody deletes everything that the engine of the announcing node has written, while clients connect.
func rulesAreFlushed(t *testing.T, ns string) {
	pods := servers(t, ns, "web", nodes[:2])
	at := address(t, service(t, ns, "web"))
	served(t, outside(), http(at.Addr().String(), 80), pods...)
	node := owner(t, at.Addr())
	wait := meanwhile(t, at, 20*time.Millisecond, 5*time.Second)
	flush := "nft delete table inet fairlead"
	if engine() == "ipvs" {
		flush = "ipvsadm -C"
	}
	_, err := lab.Exec(t.Context(), node, "sh", "-c", flush)
	must(t, err)
	r := wait()
	served(t, outside(), http(at.Addr().String(), 80), pods...)
	if limit := 5000 * float64(cluster.Slow()); r.LongestGap > limit {
		t.Errorf("nothing was served for %.0f ms, want the rules back within two seconds and some", r.LongestGap)
	}
	t.Logf("%s on %s: %d of %d connections failed, longest gap %.0f ms", flush, node, r.Failed, r.Attempts, r.LongestGap)
}

// R6. What becomes of one of the Services is nothing to the other.
func sharedAddress(t *testing.T, ns string) {
	first, second := servers(t, ns, "first", nodes[:2]), servers(t, ns, "second", nodes[:2])
	shared := annotate("fairlead.dev/allow-shared-ip", "together")
	a := service(t, ns, "first", shared, only("http"))
	vip := address(t, a).Addr()
	b := service(t, ns, "second", shared, only("udp"), annotate("fairlead.dev/loadBalancerIPs", vip.String()))
	if got := address(t, b).Addr(); got != vip {
		t.Fatalf("the second Service has %s, want %s too", got, vip)
	}
	served(t, outside(), http(vip.String(), 80), first...)
	served(t, outside(), udp(vip.String(), 81), second...)
	must(t, lab.Client.Delete(t.Context(), a))
	unserved(t, outside(), http(vip.String(), 80))
	served(t, outside(), udp(vip.String(), 81), second...)
	must(t, lab.Client.Delete(t.Context(), b))
	unannounced(t, vip)
	for node, out := range onEveryNode(t, "sh", "-c", "nft list ruleset; ip route show table local") {
		if strings.Contains(out, vip.String()) {
			t.Errorf("%s still has something with %s", node, vip)
		}
	}
}

// R2. The rules that a killed speaker leaves serve on, and the next process takes them up as they are.
func speakerIsKilled(t *testing.T, ns string) {
	pods := servers(t, ns, "web", nodes[:2])
	at := address(t, service(t, ns, "web"))
	served(t, outside(), http(at.Addr().String(), 80), pods...)
	node := owner(t, at.Addr())
	before := tableOf(t, node)
	wait := meanwhile(t, at, 20*time.Millisecond, 5*time.Second)
	_, err := lab.Exec(t.Context(), node, "pkill", "-KILL", "-x", "speaker")
	must(t, err)
	r := wait()
	if r.OK*100 < r.Attempts*90 { // another node takes the address over, or this one has it back
		t.Errorf("%d of %d connections failed: %v", r.Failed, r.Attempts, r.Errors)
	}
	served(t, outside(), http(at.Addr().String(), 80), pods...)
	if engine() == "nft" && tableOf(t, node) != before {
		t.Errorf("the table on %s was made anew", node)
	}
	t.Logf("speaker on %s killed: %d of %d connections failed, longest gap %.0f ms", node, r.Failed, r.Attempts, r.LongestGap)
}

// talk asks on one HTTP connection for the hostname again and again, for half a minute, and says how it ended.
const talk = `trap '' PIPE
	exec 3<>/dev/tcp/"$0"/80 || exit 1
	for i in $(seq 300); do
		printf 'GET /hostname HTTP/1.1\r\nHost: x\r\n\r\n' >&3 || { echo reset; exit; }
		size=0 line=x
		while [ "$line" != $'\r' ]; do
			IFS= read -r -t 20 line <&3; status=$?
			[ $status -gt 128 ] && { echo silent; exit; }
			[ $status -gt 0 ] && { echo reset; exit; }
			case $line in Content-Length:*) size=${line//[^0-9]/};; esac
		done
		read -r -N "$size" -t 20 line <&3
		sleep 0.1
	done
	echo unharmed`

// R3. An address moves to another node while a connection is open. The translation of it, with NAT, is known where it was: its packets are
// handed on to there.
func addressMoves(t *testing.T, ns string) {
	pods := servers(t, ns, "web", nodes[:2])
	at := address(t, service(t, ns, "web"))
	served(t, outside(), http(at.Addr().String(), 80), pods...)
	first := owner(t, at.Addr())
	type end struct {
		how string
		err error
	}
	ended := make(chan end, 1)
	go func() {
		how, err := lab.Exec(t.Context(), "client", "bash", "-c", talk, at.Addr().String())
		ended <- end{strings.TrimSpace(how), err}
	}()
	open := func() error {
		out, err := lab.Exec(t.Context(), "client", "ss", "-Htn", "state", "established", "dst", at.Addr().String())
		if err == nil && strings.TrimSpace(out) == "" {
			err = fmt.Errorf("no connection to %s is open", at.Addr())
		}
		return err
	}
	eventually(t, whenSettled, open)
	_, err := lab.Exec(t.Context(), first, "pkill", "-TERM", "-x", "speaker")
	must(t, err)
	eventually(t, whenSettled, func() error {
		if now := owner(t, at.Addr()); now == first {
			return fmt.Errorf("%s still announces %s", now, at.Addr())
		}
		return nil
	})
	must(t, open()) // still: it has met the move
	served(t, outside(), http(at.Addr().String(), 80), pods...)
	if e := <-ended; e.err != nil || e.how != "unharmed" {
		t.Errorf("the open connection: %q, %v; want it unharmed", e.how, e.err)
	}
}

// tableOf returns the handle of our table, which a table that is made again has not.
func tableOf(t *testing.T, node string) string {
	t.Helper()
	out, err := lab.Exec(t.Context(), node, "sh", "-c", "nft -a list tables | grep -w fairlead; true")
	must(t, err)
	return out
}

// onNodes loads an nftables table of somebody else into every node until the test ends.
func onNodes(t *testing.T, name, chains string) {
	t.Helper()
	for _, node := range nodes {
		_, err := lab.Exec(t.Context(), node, "nft", fmt.Sprintf("table ip %s {\n%s\n}", name, chains))
		must(t, err)
		t.Cleanup(func() { _, _ = lab.Exec(cleanupContext(t), node, "nft", "delete table ip "+name) })
	}
}

// R5. A CNI puts bits of its own into the marks of packets before and after us.
func othersMarkPackets(t *testing.T, ns string) {
	pods := servers(t, ns, "web", nodes[:2])
	s := service(t, ns, "web")
	vip := address(t, s).Addr().String()
	mark := fmt.Sprintf("ip daddr { %s, %s } meta mark set meta mark | 0x00050000;", vip, s.Spec.ClusterIP)
	onNodes(t, "cni_marks", `
		chain early { type filter hook prerouting priority -150; `+mark+` }
		chain out { type route hook output priority -150; `+mark+` }`)
	for _, from := range []place{outside(), pod(pods[0]), host(nodes[1])} {
		served(t, from, http(vip, 80), pods...)
		served(t, from, udp(vip, 81), pods...)
	}
	served(t, pod(pods[0]), http(s.Spec.ClusterIP, 80), pods...) // hairpin too
}

// R7. Docker drops what is forwarded, and the CNI lets its pods pass.
func forwardingIsDropped(t *testing.T, ns string) {
	pods := servers(t, ns, "web", nodes[:2])
	s := service(t, ns, "web")
	vip := address(t, s).Addr().String()
	onNodes(t, "docker_like", `chain forward { type filter hook forward priority 0; policy drop; ip saddr 10.244.0.0/16 accept; ip daddr 10.244.0.0/16 accept; }`)
	for _, from := range []place{outside(), pod(pods[0]), host(nodes[1])} {
		served(t, from, http(vip, 80), pods...)
		served(t, from, udp(vip, 81), pods...)
	}
	everywhere(t, s, pods...)
}

// R8. The way to a pod takes smaller packets than the client's network, as an overlay's does. The error that says so is for the client, who
// knows nothing of the pod.
func smallerPath(t *testing.T, ns string) {
	p := servers(t, ns, "web", nodes[:1])[0]
	vip := address(t, service(t, ns, "web")).Addr().String()
	_, err := lab.Exec(t.Context(), nodes[0], "sh", "-c", "ip link set dev $(ip -o route get "+p.Status.PodIP+" | sed 's/.* dev \\([^ ]*\\).*/\\1/') mtu 1400")
	must(t, err)
	eventually(t, whenSettled, func() error {
		r, err := ask(t, outside(), http(vip, 80), "hostname?"+strings.Repeat("x", 20000))
		if err == nil && (r.Failed > 0 || r.Answers[p.Name] == 0) {
			err = fmt.Errorf("requests of 20 kB: %+v", r)
		}
		return err
	})
}

// in6 is the place under its IPv6 address.
func in6(p place, addr string) place {
	p.addr = addr
	return p
}

func address6(p *corev1.Pod) string {
	for _, ip := range p.Status.PodIPs {
		if strings.Contains(ip.IP, ":") {
			return ip.IP
		}
	}
	return ""
}

func dual(s *corev1.Service) { s.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack) }

func bothFamilies(t *testing.T, ns string) {
	pods := servers(t, ns, "web", nodes[:2])
	from := servers(t, ns, "client", nodes[:1])[0]
	s := service(t, ns, "web", dual)
	address(t, s)
	for i, in := range s.Status.LoadBalancer.Ingress {
		served(t, outside(), http(in.IP, 80), pods...)
		served(t, outside(), udp(in.IP, 81), pods...)
		for _, at := range []place{pod(from), host(nodes[0]), pod(pods[0])} { // from the server itself as well
			served(t, at, http(s.Spec.ClusterIPs[i], 80), pods...)
			served(t, at, http(in.IP, 80), pods...)
		}
	}
	if len(s.Status.LoadBalancer.Ingress) != 2 {
		t.Errorf("addresses %v, want one of each family", s.Status.LoadBalancer.Ingress)
	}
	everywhere(t, s, pods...)
	served(t, outside(), http(nodeAddr6(nodes[0]), portOf(s, "http").NodePort), pods...)
	seenAs(t, in6(pod(from), address6(from)), http(s.Spec.ClusterIPs[1], 80), address6(from))
	remove(t, pods...)
	refused(t, pod(from), http(s.Spec.ClusterIPs[1], 80))
	refused(t, pod(from), udp(s.Spec.ClusterIPs[1], 81))
}

func localInBothFamilies(t *testing.T, ns string) {
	pods := servers(t, ns, "web", nodes[:1])
	s := service(t, ns, "web", dual, externalLocal)
	address(t, s)
	for _, in := range s.Status.LoadBalancer.Ingress {
		served(t, outside(), http(in.IP, 80), pods...)
		seenAs(t, outside(), http(in.IP, 80), clientAddrOf(in.IP))
	}
	for i, want := range []int{200, 503} {
		healthPort(t, nodes[i], s.Spec.HealthCheckNodePort, want)
	}
	r, err := ask(t, outside(), http(nodeAddr6(nodes[0]), s.Spec.HealthCheckNodePort), "healthz")
	if err != nil || r.OK < r.Attempts {
		t.Errorf("the health check node port over IPv6: %+v, %v", r, err)
	}
}

func nodeAddr6(node string) string {
	return strings.Replace(nodeAddr(node), "192.0.2.", "2001:db8:0:1::", 1)
}

// clientAddrOf is the client's address in the family of another.
func clientAddrOf(addr string) string {
	if strings.Contains(addr, ":") {
		return "2001:db8:0:1::100"
	}
	return clientAddr
}
