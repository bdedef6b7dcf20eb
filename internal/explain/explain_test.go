package explain

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/docs"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/view"
	"github.com/fairlead-lb/fairlead/lb"
)

const system = "fairlead-system"

func vip() netip.Addr { return netip.MustParseAddr("192.0.2.200") }

func named(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func web() *corev1.Service {
	proxy := corev1.LoadBalancerIPModeProxy
	return &corev1.Service{
		ObjectMeta: named("shop", "web"),
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{"app": "web"},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.200", IPMode: &proxy}}},
			Conditions: []metav1.Condition{{Type: kube.ConditionAllocated, Status: "True", Reason: "Allocated"}}},
	}
}

func slice(ready bool, nodes ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: named("shop", "web-1"), AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}}}
	s.Labels = map[string]string{discoveryv1.LabelServiceName: "web"}
	for i, n := range nodes {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{"10.244.0." + string(rune('1'+i))}, NodeName: new(n), Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
	}
	return s
}

func fairleadPod(component, node string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: named(system, component+"-"+node), Spec: corev1.PodSpec{NodeName: node},
		Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	p.Labels = map[string]string{kube.SpeakerLabel: component}
	return p
}

// objects is a cluster in which all is well: three nodes, node n2 announces the one address.
func objects() kube.Objects {
	out := kube.Objects{web(), slice(true, "n1", "n2"), fairleadPod("controller", "n1"),
		&v1beta1.IPAddressPool{ObjectMeta: named(system, "p"), Spec: v1beta1.IPAddressPoolSpec{Addresses: []string{"192.0.2.200/30"}}, Status: v1beta1.IPAddressPoolStatus{AssignedIPv4: 1, AvailableIPv4: 3}},
		&v1beta1.L2Advertisement{ObjectMeta: named(system, "l")}}
	for _, n := range []string{"n1", "n2", "n3"} {
		out = append(out, &corev1.Node{ObjectMeta: named("", n)}, fairleadPod("speaker", n))
	}
	return out
}

// facts asks the speakers, too: node n2 announces, everybody forwards.
func facts(t *testing.T, o kube.Objects) *Facts {
	t.Helper()
	f, err := Read(t.Context(), o, kube.Options{Namespace: system})
	if err != nil {
		t.Fatal(err)
	}
	subnet := netip.MustParsePrefix("192.0.2.0/24")
	var members []view.Member
	for _, n := range []lb.NodeName{"n1", "n2", "n3"} {
		members = append(members, view.Member{Node: n, Ready: true, Links: []view.Link{{Name: "eth0", MAC: "02:00:00:00:00:0" + string(n[1]), Up: true, Prefixes: []netip.Prefix{subnet}}}})
	}
	for node, s := range f.Speakers {
		s.Error = ""
		d := view.Decision{VIP: vip(), Via: "L2", Services: []string{"shop/web"}, Owner: "n2", Reason: lb.NotOwner, Message: "n2 was elected"}
		if node == "n2" {
			d.Announce, d.Interfaces, d.Epoch, d.Reason, d.Message = true, []string{"eth0"}, 1, "", ""
		}
		s.Decisions = view.Decisions{Node: node, Ready: true, Members: members, Decisions: []view.Decision{d}}
		s.Datapath = view.Datapath{Engine: "ipvs", Ready: true, Programmed: []netip.Addr{vip()}, Servers: []view.Server{{Listener: "192.0.2.200:80/TCP", Service: "shop/web",
			Destinations: []view.Destination{{Addr: netip.MustParseAddrPort("10.244.0.1:8080"), Weight: 1, Conns: 3}, {Addr: netip.MustParseAddrPort("10.244.0.2:8080"), Weight: 1, Conns: 4}}}}}
		f.Speakers[node] = s
	}
	return &f
}

// everywhere changes the decisions of all speakers about the address.
func everywhere(f *Facts, change func(lb.NodeName, *view.Decision)) {
	for node, s := range f.Speakers {
		change(node, &s.Decisions.Decisions[0])
	}
}

func verdicts(c Chain) string {
	var out []string
	for _, s := range c.Steps {
		text := s.Name + " " + string(s.Verdict)
		if s.Reason != "" {
			text += " " + string(s.Reason)
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

const well = "allocation yes; election yes; announcement yes; wire -; datapath yes; endpoints yes; health -"

func TestService(t *testing.T) {
	pending := func(reason lb.Reason) func(*corev1.Service) {
		return func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = nil
			s.Status.Conditions[0].Status, s.Status.Conditions[0].Reason, s.Status.Conditions[0].Message = "False", string(reason), "that is why"
		}
	}
	with := func(change func(*corev1.Service)) kube.Objects {
		s := web()
		change(s)
		return objects().With(s)
	}
	vipMode := func(s *corev1.Service) { s.Status.LoadBalancer.Ingress[0].IPMode = nil }
	local := func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, 30000
	}
	for name, c := range map[string]struct {
		objects kube.Objects
		facts   func(*Facts)
		want    string
		says    string // part of messages and evidence
	}{
		"all is well": {want: well, says: "192.0.2.200:80/TCP to 2 pods, 7 connections"},
		"no pool":     {objects: with(pending(lb.NoPools)), want: "allocation no NoPools; election -; endpoints yes", says: "that is why"},
		"wrong pool":  {objects: with(pending(lb.UnknownPool)), want: "allocation no UnknownPool; election -; endpoints yes"},
		"controller is silent": {objects: with(func(s *corev1.Service) { s.Status = corev1.ServiceStatus{} }),
			want: "allocation unknown; election -; endpoints yes", says: "pod controller-n1, ready: true"},
		"pool edited": {objects: with(func(s *corev1.Service) { s.Status.Conditions[0].Reason = string(lb.AddressOutsidePools) }),
			want: strings.Replace(well, "allocation yes", "allocation yes AddressOutsidePools", 1)},
		"unreadable":    {objects: with(func(s *corev1.Service) { s.Annotations = map[string]string{"fairlead.dev/release": "x"} }), want: strings.Replace(well, "allocation yes", "allocation no BadRequest", 1)},
		"ClusterIP":     {objects: with(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }), want: "allocation no", says: "only Services of type LoadBalancer"},
		"another class": {objects: with(func(s *corev1.Service) { s.Spec.LoadBalancerClass = new("a/b") }), want: "allocation no", says: `"a/b"`},
		"no endpoints": {objects: objects().With(slice(false, "n1")), facts: func(f *Facts) {
			everywhere(f, func(_ lb.NodeName, d *view.Decision) {
				*d = view.Decision{VIP: d.VIP, Via: "L2", Reason: lb.NoEndpoints, Message: "no endpoint could take a connection"}
			})
		}, want: "allocation yes; election no NoEndpoints; announcement -; wire -; datapath yes; endpoints no NoEndpoints; health -", says: "0 of 1 endpoints are ready"},
		"no pod": {objects: objects().With(slice(true)), want: strings.Replace(well, "endpoints yes", "endpoints no NoEndpoints", 1), says: "no pod matches the selector app=web"},
		"wrong interface": {objects: objects().With(&v1beta1.L2Advertisement{ObjectMeta: named(system, "l"), Spec: v1beta1.L2AdvertisementSpec{Interfaces: []string{"eth9"}}}), facts: func(f *Facts) {
			everywhere(f, func(n lb.NodeName, d *view.Decision) {
				*d = view.Decision{VIP: d.VIP, Via: "L2", Reason: lb.NoInterface, Message: string(n) + " has no interface"}
			})
		}, want: "allocation yes; election no NoInterface; announcement -; wire -; datapath yes; endpoints yes; health -", says: "allows the interfaces eth9 only"},
		"a stranger": {facts: func(f *Facts) {
			everywhere(f, func(n lb.NodeName, d *view.Decision) {
				if n == "n2" {
					d.Announce, d.Reason, d.Message = false, lb.AddressConflict, "02:ff:ff:ff:ff:ff answers"
				}
			})
		}, want: strings.Replace(well, "announcement yes", "announcement no AddressConflict", 1)},
		"not programmed": {facts: func(f *Facts) {
			s := f.Speakers["n2"]
			s.Datapath.Programmed = nil
			f.Speakers["n2"] = s
		}, want: strings.Replace(well, "datapath yes", "datapath no NotProgrammed", 1)},
		"not programmed elsewhere": {facts: func(f *Facts) {
			s := f.Speakers["n1"]
			s.Datapath.Programmed = nil
			f.Speakers["n1"] = s
		}, want: well, says: "n1 (ipvs): not programmed"},
		"engine broken": {facts: func(f *Facts) {
			s := f.Speakers["n2"]
			s.Datapath = view.Datapath{Engine: "ipvs", Error: "no module"}
			f.Speakers["n2"] = s
		}, want: strings.Replace(well, "datapath yes", "datapath no DatapathNotReady", 1), says: "no module"},
		"announce only": {objects: with(vipMode), facts: func(f *Facts) {
			for n, s := range f.Speakers {
				s.Datapath = view.Datapath{Engine: "none", Ready: true}
				f.Speakers[n] = s
			}
		}, want: strings.Replace(well, "datapath yes", "datapath -", 1)},
		"beside kube-proxy": {objects: with(vipMode), want: well},
		"local":             {objects: with(local), want: strings.Replace(well, "health -", "health yes", 1), says: "healthy on n1, n2; not on n3"},
		"local, moved":      {objects: with(local).With(slice(true, "n3")), want: strings.Replace(strings.Replace(well, "health -", "health no NoLocalEndpoint", 1), "endpoints yes", "endpoints no NoLocalEndpoint", 1)},
		"nobody asked": {facts: func(f *Facts) {
			for n := range f.Speakers {
				f.Speakers[n] = Speaker{Pod: "x", Error: "timeout"}
			}
		}, want: "allocation yes; election unknown; announcement -; wire -; datapath unknown; endpoints yes; health -", says: "n1: the speaker did not answer: timeout"},
		"owner is silent": {facts: func(f *Facts) { f.Speakers["n2"] = Speaker{Error: "timeout"} },
			want: strings.Replace(strings.Replace(well, "announcement yes", "announcement unknown", 1), "datapath yes", "datapath yes", 1)},
		"no speaker": {facts: func(f *Facts) { f.Speakers = nil }, want: "allocation yes; election no; announcement -; wire -; datapath unknown; endpoints yes; health -"},
		"two owners": {facts: func(f *Facts) {
			everywhere(f, func(n lb.NodeName, d *view.Decision) { d.Owner = n })
		}, want: "allocation yes; election unknown; announcement -; wire -; datapath yes; endpoints yes; health -"},
		"asked":          {facts: func(f *Facts) { f.Answers = map[netip.Addr][]string{vip(): {"02:00:00:00:00:02"}} }, want: strings.Replace(well, "wire -", "wire yes", 1)},
		"nobody answers": {facts: func(f *Facts) { f.Answers = map[netip.Addr][]string{vip(): nil} }, want: strings.Replace(well, "wire -", "wire no", 1)},
		"somebody else answers": {facts: func(f *Facts) { f.Answers = map[netip.Addr][]string{vip(): {"02:00:00:00:00:02", "02:ff:ff:ff:ff:ff"}} },
			want: strings.Replace(well, "wire -", "wire no AddressConflict", 1), says: "02:ff:ff:ff:ff:ff answers"},
	} {
		t.Run(name, func(t *testing.T) {
			o := c.objects
			if o == nil {
				o = objects()
			}
			f := facts(t, o)
			if c.facts != nil {
				c.facts(f)
			}
			chains := f.Service(lb.ServiceKey{Namespace: "shop", Name: "web"})
			if len(chains) != 1 {
				t.Fatalf("%d chains, want one", len(chains))
			}
			if d := cmp.Diff(c.want, verdicts(chains[0])); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			var all strings.Builder
			for _, s := range chains[0].Steps {
				all.WriteString(s.Message + "\n" + strings.Join(s.Evidence, "\n") + "\n")
			}
			if !strings.Contains(all.String(), c.says) {
				t.Errorf("%q is not in\n%s", c.says, all.String())
			}
			if cause := chains[0].Cause(); cause != nil && cause.Next == "" {
				t.Errorf("step %s says no, and not what to do", cause.Name)
			}
		})
	}
}

func TestBGP(t *testing.T) {
	const dead, alive = "Active", "Established"
	for name, c := range map[string]struct {
		announce bool
		session  v1beta1.BGPSession
		layer2   bool
		want     string
	}{
		"alive":          {true, v1beta1.BGPSession{Peer: "r", State: alive, PrefixesSent: 1}, false, "allocation yes; election -; announcement -; bgp yes; wire -; datapath yes; endpoints yes; health -"},
		"dead peer":      {true, v1beta1.BGPSession{Peer: "r", State: dead, Reason: "SessionDown", Message: "nobody answers", LastError: "connection refused"}, false, "allocation yes; election -; announcement -; bgp no SessionDown; wire -; datapath yes; endpoints yes; health -"},
		"nobody is told": {false, v1beta1.BGPSession{Peer: "r", State: dead, Reason: "SessionDown"}, false, "allocation yes; election -; announcement -; bgp no NoEndpoints; wire -; datapath yes; endpoints yes; health -"},
		"no session":     {false, v1beta1.BGPSession{Peer: "r", State: dead, Reason: "PeerRefused"}, false, "allocation yes; election -; announcement -; bgp no PeerRefused; wire -; datapath yes; endpoints yes; health -"},
		"both ways":      {true, v1beta1.BGPSession{Peer: "r", State: alive}, true, "allocation yes; election yes; announcement yes; bgp yes; wire -; datapath yes; endpoints yes; health -"},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts(t, objects().With(&v1beta1.SpeakerStatus{ObjectMeta: named(system, "n1"), Status: v1beta1.SpeakerStatusStatus{BGP: &v1beta1.SpeakerBGP{Sessions: []v1beta1.BGPSession{c.session}}}}))
			for n, s := range f.Speakers {
				if !c.layer2 {
					s.Decisions.Decisions = nil
				}
				d := view.Decision{VIP: vip(), Via: "BGP", Announce: c.announce && n == "n1", Reason: lb.NoEndpoints}
				if name == "no session" {
					d.Reason = lb.NoSession
				}
				if d.Announce {
					d.Peers, d.Reason = []string{"r"}, ""
				}
				s.Decisions.Decisions = append(s.Decisions.Decisions, d)
				f.Speakers[n] = s
			}
			if d := cmp.Diff(c.want, verdicts(f.Service(lb.ServiceKey{Namespace: "shop", Name: "web"})[0])); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestAddress(t *testing.T) {
	for name, c := range map[string]struct {
		addr, says string
		chains     int
	}{
		"of a Service": {"192.0.2.200", "n2 was elected", 1},
		"free":         {"192.0.2.201", "free in pool p", 1},
		"of no pool":   {"198.51.100.1", "in no IPAddressPool", 1},
	} {
		t.Run(name, func(t *testing.T) {
			chains := facts(t, objects()).Address(netip.MustParseAddr(c.addr))
			var all strings.Builder
			for _, chain := range chains {
				for _, s := range chain.Steps {
					all.WriteString(strings.Join(s.Evidence, "\n") + "\n")
				}
			}
			if len(chains) != c.chains || !strings.Contains(all.String(), c.says) {
				t.Errorf("%d chains, want %d; %q is not in\n%s", len(chains), c.chains, c.says, all.String())
			}
		})
	}
}

func TestDrain(t *testing.T) {
	f := facts(t, objects())
	got, err := f.Drain("n2")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Moves) != 1 || got.Moves[0].Connections != 7 || got.Moves[0].To == "" || got.Moves[0].To == "n2" {
		t.Errorf("moves %+v, want 192.0.2.200 with 7 connections to n1 or n3", got.Moves)
	}
	if d := cmp.Diff([]Loss{{"shop/web", 1, 2}}, got.Losses); d != "" {
		t.Errorf("losses (-want +got):\n%s", d)
	}
	if got, err := f.Drain("n3"); err != nil || len(got.Moves)+len(got.Losses) > 0 {
		t.Errorf("n3 has nothing to lose, but %+v, %v", got, err)
	}
	if _, err := f.Drain("n9"); err == nil {
		t.Error("a node that is not there can be drained")
	}
	alone := facts(t, objects().With(slice(true, "n2")))
	if got, err := alone.Drain("n2"); err != nil || len(got.Moves) != 1 || got.Moves[0].To != "" || got.Moves[0].Reason != lb.NoEndpoints {
		t.Errorf("with all pods on n2 %+v, %v; want nobody, for NoEndpoints", got.Moves, err)
	}
}

func TestOverview(t *testing.T) {
	v := facts(t, objects()).Overview()
	if len(v.Problems) > 0 || v.Services != 1 || v.Pending != 0 || len(v.Nodes) != 3 || v.Nodes[1].Announced != 1 || v.Pools[0].Services != 1 {
		t.Errorf("%+v", v)
	}
	waiting := web()
	waiting.Name, waiting.Status.LoadBalancer.Ingress = "waiting", nil
	waiting.Status.Conditions[0] = metav1.Condition{Type: kube.ConditionAllocated, Status: "False", Reason: "PoolExhausted", Message: "full"}
	full := &v1beta1.IPAddressPool{ObjectMeta: named(system, "p"), Status: v1beta1.IPAddressPoolStatus{Conditions: []metav1.Condition{{Type: "Exhausted", Status: "True", Reason: "PoolExhausted", Message: "4 of 4"}}}}
	f := facts(t, objects().With(waiting, full, &corev1.Node{ObjectMeta: named("", "n4")}))
	f.Controller = nil
	f.Speakers["n1"] = Speaker{Pod: "speaker-n1", Error: "timeout"}
	everywhere(&Facts{Speakers: map[lb.NodeName]Speaker{"n2": f.Speakers["n2"], "n3": f.Speakers["n3"]}}, func(_ lb.NodeName, d *view.Decision) {
		d.Announce, d.Reason, d.Message = false, lb.NoEndpoints, "none"
	})
	all := strings.Join(f.Overview().Problems, "\n")
	for _, want := range []string{"no pod of the controller", "n1: the speaker did not answer: timeout", "n4: no speaker runs", "IPAddressPool p: PoolExhausted", "Service shop/waiting has no address: PoolExhausted: full", "nobody announces 192.0.2.200: NoEndpoints"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not among the problems:\n%s", want, all)
		}
	}
}

func TestHoldersAndLoads(t *testing.T) {
	f := facts(t, objects())
	holders, err := f.Holders("p")
	if d := cmp.Diff([]string{"shop/web"}, holders[0].Services); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	if _, err := f.Holders("q"); err == nil {
		t.Error("a pool that is not there has holders")
	}
}

func TestLoads(t *testing.T) {
	count := func(opened, bytes uint64) *Facts {
		f := facts(t, objects())
		for _, s := range f.Speakers {
			s.Datapath.Servers[0].Destinations[1].Opened, s.Datapath.Servers[0].Destinations[1].Bytes = opened, bytes
		}
		return f
	}
	before, now := count(10, 1000), count(14, 9000)
	silent := count(10, 1000)
	silent.Speakers["n1"] = Speaker{Error: "no answer"}
	for name, tt := range map[string]struct {
		f, before *Facts
		want      Load
	}{
		"in total":                        {now, nil, Load{"shop/web", 42, 27000, 0, 0, 2, 3}},
		"since an earlier reading":        {now, before, Load{"shop/web", 42, 27000, 6, 12000, 2, 3}},
		"one speaker was silent then":     {now, silent, Load{"shop/web", 42, 27000, 4, 8000, 2, 3}},
		"the speakers have begun anew":    {count(2, 500), before, Load{"shop/web", 6, 1500, 3, 750, 2, 3}},
		"nobody has sent anything so far": {facts(t, objects()), nil, Load{"shop/web", 0, 0, 0, 0, 2, 0}},
	} {
		if d := cmp.Diff([]Load{tt.want}, tt.f.Loads(tt.before, 2*time.Second)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// Every Reason that a step can have is one that docs/reasons.md has a cure for; the page is checked against the code elsewhere.
func TestCuresAreFound(t *testing.T) {
	all := docs.Reasons()
	for _, r := range []lb.Reason{lb.NoPools, lb.NotAdvertised, lb.NoInterface, lb.AddressConflict, lb.DatapathNotReady} {
		if cure(r) == "" {
			t.Errorf("no cure for %s", r)
		}
	}
	if len(all) < 30 || slices.ContainsFunc([]docs.Advice{all["NoPools"], all["NotOwner"]}, func(a docs.Advice) bool { return a.Means == "" || a.Do == "" }) {
		t.Errorf("%d rows are read, among them %+v", len(all), all["NoPools"])
	}
}
