//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/test/cluster"
	"github.com/fairlead-lb/fairlead/test/probe"
)

// semantic is one promise of the Service API, put to the test as Kubernetes' own e2e tests do it (test/e2e/network), in a
// namespace of its own.
type semantic struct {
	name  string
	nodes int // how many it needs
	run   func(t *testing.T, ns string)
}

func semantics() []semantic {
	all := slices.Concat(loadBalancerSemantics, serviceSemantics, endpointSemantics, flowSemantics, robustnessSemantics)
	if dualStack {
		all = append(all, dualStackSemantics...)
	}
	return all
}

// TestSemanticsExternal has Fairlead serve the addresses of LoadBalancer Services and the real kube-proxy everything else, beside
// each other on every node.
func TestSemanticsExternal(t *testing.T) {
	t.Parallel()
	if os.Getenv("FAIRLEAD_E2E_KUBE_PROXY") == "none" {
		t.Fatal("mode external needs a kube-proxy: unset FAIRLEAD_E2E_KUBE_PROXY")
	}
	runSemantics(t)
}

// TestDisruptionsExternal is the part that others would feel.
func TestDisruptionsExternal(t *testing.T) { runDisruptions(t) }

func runSemantics(t *testing.T) {
	semanticsPool(t, "semantics", 200, 239)
	for _, s := range semantics() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.in(t)
		})
	}
}

func runDisruptions(t *testing.T) {
	semanticsPool(t, "disruptions", 196, 199)
	for _, s := range disruptions {
		t.Run(s.name, s.in)
	}
}

func (s semantic) in(t *testing.T) {
	if len(nodes) < s.nodes {
		t.Fatalf("needs %d nodes; leave it out with -test.skip, or set FAIRLEAD_E2E_NODES", s.nodes)
	}
	s.run(t, namespaceOf(t, "s-"+strings.ToLower(strings.NewReplacer(" ", "-", ",", "").Replace(s.name))))
}

// semanticsPool gives addresses to all the namespaces of namespaceOf: 192.0.2.first to .last, and where there is IPv6 the same number.
func semanticsPool(t *testing.T, name string, first, last int) {
	t.Helper()
	ranges := []string{fmt.Sprintf("192.0.2.%d-192.0.2.%d", first, last)}
	if dualStack {
		ranges = append(ranges, fmt.Sprintf("2001:db8:0:1::%d-2001:db8:0:1::%d", first, last))
	}
	meta := metav1.ObjectMeta{Namespace: fairleadNamespace, Name: name}
	create(t, &v1beta1.IPAddressPool{ObjectMeta: meta, Spec: v1beta1.IPAddressPoolSpec{Addresses: ranges,
		ServiceAllocation: &v1beta1.ServiceAllocation{NamespaceSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"semantics": "true"}}}}}})
	create(t, &v1beta1.L2Advertisement{ObjectMeta: meta, Spec: v1beta1.L2AdvertisementSpec{IPAddressPools: []string{name}}})
}

// dualStack says whether the lab has IPv6.
var dualStack bool

// inLab runs body in a lab of its own, in which Fairlead is installed with the values. No other test may run meanwhile: lab and
// nodes are what every helper uses.
func inLab(t *testing.T, name string, count int, flags []string, values []string, body func(t *testing.T)) {
	t.Helper()
	bareLab(t, name, count, flags, func(t *testing.T) {
		must(t, install(t.Context(), values...))
		body(t)
	})
}

// bareLab is inLab without Fairlead.
func bareLab(t *testing.T, name string, count int, flags []string, body func(t *testing.T)) {
	t.Helper()
	mainLab, mainNodes := lab, nodes
	other := &cluster.Lab{Name: "e2e-" + name, Bin: mainLab.Bin}
	must(t, other.Down(t.Context()))
	t.Cleanup(func() { // after the subtests, which may be parallel, and after what they clean up
		lab, nodes, dualStack = mainLab, mainNodes, false
		must(t, other.Down(cleanupContext(t)))
	})
	start := time.Now()
	var err error
	other, err = cluster.Start(t.Context(), mainLab.Bin, other.Name, append([]string{"--nodes", strconv.Itoa(count)}, flags...)...)
	must(t, err)
	lab, nodes, dualStack = other, nil, slices.Contains(flags, "--dual-stack")
	for i := range count {
		nodes = append(nodes, fmt.Sprintf("node-%d", i+1))
	}
	t.Logf("lab %s after %.0f s", other.Name, time.Since(start).Seconds())
	body(t)
}

// place is where a client is.
type place struct {
	name string
	addr string // that servers see if nobody masquerades
	bin  string // where it has the programs of lab.Bin
	run  func(ctx context.Context, command ...string) (string, error)
}

// outside is the client that is not in the cluster.
func outside() place { return inNetworkOf("client", clientAddr) }

// host is a client in a node's own network, as a pod with hostNetwork is.
func host(node string) place { return inNetworkOf(node, nodeAddr(node)) }

func inNetworkOf(member, addr string) place {
	return place{member, addr, lab.Bin, func(ctx context.Context, command ...string) (string, error) { return lab.Exec(ctx, member, command...) }}
}

// programs is where the pods of servers have what is in lab.Bin: a checkout may be in a directory that pods do not see.
const programs = "/opt/e2e"

// pod is a client in a pod, one that servers made.
func pod(p *corev1.Pod) place {
	return place{p.Name + " on " + p.Spec.NodeName, p.Status.PodIP, programs, func(ctx context.Context, command ...string) (string, error) {
		return lab.Fairlab(ctx, append([]string{"kubectl", "exec", "-n", p.Namespace, p.Name, "--"}, command...)...)
	}}
}

// nodeAddr is the address of a node on the segment.
func nodeAddr(node string) string {
	n, err := strconv.Atoi(strings.TrimPrefix(node, "node-"))
	if err != nil {
		panic("e2e: " + err.Error())
	}
	return fmt.Sprintf("192.0.2.%d", 10+n)
}

// target is what a client connects to.
type target struct {
	netip.AddrPort
	protocol string // http or udp
}

func (x target) String() string { return x.protocol + " " + x.AddrPort.String() }

func http(addr string, port int32) target { return target{addrPort(addr, port), "http"} }
func udp(addr string, port int32) target  { return target{addrPort(addr, port), "udp"} }

func addrPort(addr string, port int32) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(port))
}

// ask makes some connections from a place, with the question that agnhost netexec answers over both protocols: hostname or clientip.
func ask(t *testing.T, from place, to target, question string) (r probe.Report, err error) {
	t.Helper()
	flag, text := "-path", "/"+question
	if to.protocol == "udp" {
		flag, text = "-message", question
	}
	out, err := from.run(t.Context(), filepath.Join(from.bin, "probe"), to.protocol, to.AddrPort.String(), flag, text,
		"-interval", "20ms", "-for", "290ms", "-timeout", (time.Second * cluster.Slow()).String())
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return r, fmt.Errorf("reading the probe's report: %w", err)
	}
	return r, nil
}

// whenSettled is how long a change may take until it is seen.
const whenSettled = 30 * time.Second

// served waits until every connection is answered by one of the pods, and each of them answers.
func served(t *testing.T, from place, to target, by ...*corev1.Pod) {
	t.Helper()
	eventually(t, whenSettled, func() error {
		r, err := ask(t, from, to, "hostname")
		if err != nil {
			return err
		}
		for _, p := range by {
			if r.Answers[hostname(p)] == 0 {
				err = fmt.Errorf("%s to %s: nothing from %s", from.name, to, hostname(p))
			}
		}
		if err != nil || r.Failed > 0 || len(r.Answers) != len(by) {
			return fmt.Errorf("%s to %s: want answers from %d pods and no failure, got %+v", from.name, to, len(by), r)
		}
		return nil
	})
}

func hostname(p *corev1.Pod) string {
	if p.Spec.HostNetwork {
		return p.Spec.NodeName
	}
	return p.Name
}

// refused waits until connections are refused: nobody waits for an answer that cannot come (S55). The kernel sends one ICMP error a second
// to a client, so those that come faster see nothing; one that is dropped never sees any. A datagram of the node's own that is rejected
// on its way out is not permitted.
func refused(t *testing.T, from place, to target) {
	t.Helper()
	eventually(t, whenSettled, func() error {
		r, err := ask(t, from, to, "hostname")
		if err == nil && (r.Refused+r.Errors["operation not permitted"] == 0 || r.OK > 0) {
			err = fmt.Errorf("%s to %s: want them refused, got %+v", from.name, to, r)
		}
		return err
	})
}

// dropped waits until no connection is answered in any way.
func dropped(t *testing.T, from place, to target) {
	t.Helper()
	eventually(t, whenSettled, func() error {
		r, err := ask(t, from, to, "hostname")
		if err == nil && r.TimedOut < r.Attempts {
			err = fmt.Errorf("%s to %s: want silence, got %+v", from.name, to, r)
		}
		return err
	})
}

// unserved waits until no connection is served, however it fails.
func unserved(t *testing.T, from place, to target) {
	t.Helper()
	eventually(t, whenSettled, func() error {
		r, err := ask(t, from, to, "hostname")
		if err == nil && r.OK > 0 {
			err = fmt.Errorf("%s to %s: still served, %+v", from.name, to, r)
		}
		return err
	})
}

// seenAs waits until the servers see clients of the place under no address but this.
func seenAs(t *testing.T, from place, to target, addr string) {
	t.Helper()
	eventually(t, whenSettled, func() error {
		r, err := ask(t, from, to, "clientip")
		if err == nil && (r.Failed > 0 || !slices.Equal(r.Clients(), []string{addr})) {
			err = fmt.Errorf("%s to %s: want to be seen as %s, got %+v", from.name, to, addr, r)
		}
		return err
	})
}

// healthPort waits until the health check node port of a node answers with the status; 0 = nobody listens.
func healthPort(t *testing.T, node string, port int32, want int) {
	t.Helper()
	eventually(t, whenSettled, func() error {
		r, err := ask(t, outside(), http(nodeAddr(node), port), "healthz")
		if err != nil {
			return err
		}
		got := -1
		switch {
		case r.OK == r.Attempts:
			got = 200
		case r.Refused == r.Attempts:
			got = 0
		case r.Errors["503 Service Unavailable"] == r.Attempts:
			got = 503
		}
		if got != want {
			return fmt.Errorf("health check node port %s:%d: want %d, got %+v", node, port, want, r)
		}
		return nil
	})
}

// servers runs one pod of agnhost netexec on each of the nodes, with the label app=name, and waits until they are ready.
func servers(t *testing.T, ns, name string, on []string, changes ...func(*corev1.Pod)) []*corev1.Pod {
	t.Helper()
	var out []*corev1.Pod
	for i, node := range on {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprintf("%s-%d", name, i), Labels: map[string]string{"app": name}},
			Spec: corev1.PodSpec{NodeName: node, TerminationGracePeriodSeconds: new(int64(0)), Containers: []corev1.Container{{
				Name: "netexec", Image: "agnhost:2.63", Args: []string{"netexec", "--http-port=8080", "--udp-port=8081"},
				VolumeMounts: []corev1.VolumeMount{{Name: "programs", MountPath: programs, ReadOnly: true}},
			}}, Volumes: []corev1.Volume{{Name: "programs", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: lab.Bin}}}}},
		}
		for _, c := range changes {
			c(p)
		}
		create(t, p)
		out = append(out, p)
	}
	for _, p := range out {
		awaitPod(t, p)
	}
	return out
}

// awaitPod waits until a pod runs, and is ready where nothing keeps it from that.
func awaitPod(t *testing.T, p *corev1.Pod) {
	t.Helper()
	eventually(t, 60*time.Second, func() error {
		if err := lab.Client.Get(t.Context(), client.ObjectKeyFromObject(p), p); err != nil {
			return err
		}
		if p.Status.PodIP == "" || p.Status.Phase != corev1.PodRunning || !podReady(*p) && !neverBecomesReady(p) {
			return fmt.Errorf("pod %s is %s, not ready", p.Name, p.Status.Phase)
		}
		return nil
	})
}

func neverBecomesReady(p *corev1.Pod) bool { return p.Spec.Containers[0].ReadinessProbe != nil }

// The following change a pod.

func neverReady(p *corev1.Pod) {
	p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"false"}}}, PeriodSeconds: 1}
}

// lingering has a pod go on serving for a minute after it was told to stop. It is not ready before its program listens: told to stop
// earlier, the program would know nothing of that and end at once.
func lingering(p *corev1.Pod) {
	p.Spec.Containers[0].StartupProbe = &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 60,
		ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}}
	p.Spec.TerminationGracePeriodSeconds = new(60 * int64(cluster.Slow()))
	p.Spec.Containers[0].Args = append(p.Spec.Containers[0].Args, fmt.Sprintf("--delay-shutdown=%d", 50*cluster.Slow()))
}

// listening moves the ports of a pod.
func listening(http, udp int) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Args = []string{"netexec", fmt.Sprintf("--http-port=%d", http), fmt.Sprintf("--udp-port=%d", udp)}
	}
}

func hostNetwork(http, udp int) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.HostNetwork = true
		listening(http, udp)(p)
	}
}

// remove deletes pods; those that linger go on for a while.
func remove(t *testing.T, pods ...*corev1.Pod) {
	t.Helper()
	for _, p := range pods {
		must(t, lab.Client.Delete(t.Context(), p))
	}
}

// The following change a Service.

func ofType(kind corev1.ServiceType) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Type = kind }
}

func selecting(app string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": app} }
}

func externalLocal(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

func internalLocal(s *corev1.Service) {
	s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
}

func affinity(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }
