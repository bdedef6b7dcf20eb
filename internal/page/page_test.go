package page

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/html"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/internal/explain"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/view"
	"github.com/fairlead-lb/fairlead/lb"
)

const system = "fairlead-system"

func named(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

// web is a Service with the i-th address.
func web(name string, i int) *corev1.Service {
	return &corev1.Service{ObjectMeta: named("shop", name), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{"app": name},
		IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: addr(i).String()}}},
			Conditions: []metav1.Condition{{Type: kube.ConditionAllocated, Status: "True", Reason: "Allocated"}}}}
}

func addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}) }

func pod(component, node string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: named(system, component+"-"+node), Spec: corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{PodIP: "192.0.2.11",
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	p.Labels = map[string]string{kube.SpeakerLabel: component}
	return p
}

// cluster is two nodes, of which n1 announces the address of every Service; change alters what n1 says.
func cluster(t *testing.T, objects kube.Objects, change func(*view.Decisions)) explain.Facts {
	t.Helper()
	days := int32(3)
	all := kube.Objects{&corev1.Node{ObjectMeta: named("", "n1")}, &corev1.Node{ObjectMeta: named("", "n2")}, pod("controller", "n1"), pod("speaker", "n1"), pod("speaker", "n2"),
		&v1beta1.IPAddressPool{ObjectMeta: named(system, "default"), Spec: v1beta1.IPAddressPoolSpec{Addresses: []string{"198.18.0.0/15"}},
			Status: v1beta1.IPAddressPoolStatus{AssignedIPv4: 31, AvailableIPv4: 69, DaysLeftIPv4: &days}},
		&v1beta1.SpeakerStatus{ObjectMeta: named(system, "n1"), Status: v1beta1.SpeakerStatusStatus{BGP: &v1beta1.SpeakerBGP{Summary: "0/1", Sessions: []v1beta1.BGPSession{
			{Peer: "tor", Address: "192.0.2.1", State: "Active", Reason: string(lb.BGPRefused), Message: "192.0.2.1 refuses", LastError: "connection refused"}}}}}}
	f, err := explain.Read(t.Context(), append(all, objects...), kube.Options{Namespace: system})
	if err != nil {
		t.Fatal(err)
	}
	for node, s := range f.Speakers {
		s.Error = ""
		s.Decisions = view.Decisions{Node: node, Ready: true, Members: []view.Member{{Node: "n1"}, {Node: "n2"}}}
		s.Datapath = view.Datapath{Engine: "nft", Ready: true}
		for _, svc := range f.Kube.Services {
			if len(svc.Addrs()) == 0 {
				continue
			}
			s.Datapath.Programmed = append(s.Datapath.Programmed, svc.Addrs()...)
			d := view.Decision{VIP: svc.Addrs()[0], Via: "L2", Services: []string{svc.Key.String()}, Owner: "n1", Announce: node == "n1", Interfaces: []string{"eth0"}}
			if !d.Announce {
				d.Reason, d.Message = lb.NotOwner, "n1 was elected"
			}
			s.Decisions.Decisions = append(s.Decisions.Decisions, d)
		}
		if node == "n1" && change != nil {
			change(&s.Decisions)
		}
		f.Speakers[node] = s
	}
	return f
}

// serve returns a page of these facts, and how often they were asked for.
func serve(t *testing.T, f explain.Facts) (p *Page, asked func() []string) {
	t.Helper()
	var mu sync.Mutex
	var keys []string
	p, err := New(Options{Version: "v1", Log: slog.New(slog.DiscardHandler), Source: func(_ context.Context, of lb.ServiceKey) (explain.Facts, error) {
		mu.Lock()
		defer mu.Unlock()
		keys = append(keys, of.String())
		return f, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return p, func() []string { mu.Lock(); defer mu.Unlock(); return keys }
}

// get returns the answer to a request and the text of the page, each run of spaces as one.
func get(t *testing.T, h http.Handler, target string) (*http.Response, string, *html.Node) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	document, err := html.Parse(strings.NewReader(w.Body.String()))
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for n := range document.Descendants() {
		switch {
		case n.Type == html.TextNode && n.Parent.Data != "style":
			text.WriteString(n.Data)
		case n.Type == html.ElementNode && slices.Contains([]string{"dt", "dd", "th", "td", "p", "li", "br"}, n.Data):
			text.WriteString(" ")
		}
	}
	return w.Result(), strings.Join(strings.Fields(text.String()), " "), document
}

func TestPages(t *testing.T) {
	happened := func(d *view.Decisions) {
		d.Changes = []view.Change{{At: time.Now().Add(-3 * time.Minute), VIP: addr(0), Via: "L2", Services: []string{"shop/web"}, Announce: true},
			{At: time.Now().Add(-2 * time.Hour), VIP: addr(9), Via: "BGP", Services: []string{"shop/old"}, Reason: lb.NoEndpoints, Message: "no pod is ready"}}
	}
	silent := func(d *view.Decisions) {
		d.Decisions[0].Announce, d.Decisions[0].Owner, d.Decisions[0].Reason, d.Decisions[0].Message = false, "", lb.NoInterface, "no link of `n1` fits"
	}
	slice := &discoveryv1.EndpointSlice{ObjectMeta: named("shop", "web-1"), AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, NodeName: new("n1")}}}
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: "web"}
	for name, c := range map[string]struct {
		change func(*view.Decisions)
		target string
		want   []string
		not    string
	}{
		"overview": {happened, "/", []string{"Controllers ready 1 of 1", "Speakers ready 2 of 2", "Services waiting 0 of 1", "Addresses announced 1 of 1",
			"default 31 (31 %) 69 3 days 1", "n1 ready 1 0/1 up nft 2", "n2 ready 0 none nft 2", "tor 192.0.2.1 Active BGPRefused: 192.0.2.1 refuses last error: connection refused",
			"198.18.0.0 shop/web n1 layer 2 default", "3 min ago", "n1 announces 198.18.0.0 shop/web", "2 h ago", "n1 ended BGP: no pod is ready 198.18.0.9 shop/old"}, "problem"},
		"nobody announces": {silent, "/", []string{"1 problem", "Service shop/web: nobody announces 198.18.0.0: NoInterface: no link of n1 fits", "Addresses announced 0 of 1", "198.18.0.0 shop/web NoInterface: no link of n1 fits"}, "All is well"},
		"found":            {nil, "/?find=shop/w", []string{"1 of 1 addresses match"}, "None matches"},
		"not found":        {nil, "/?find=bank", []string{"None matches."}, "198.18.0.0"},
		"loads itself":     {nil, "/?every=10", []string{"every 10 seconds. Stop that"}, "Load this page again"},
		"service":          {nil, "/explain?q=shop/web", []string{"198.18.0.0 of Service shop/web", "No step says no.", "yes allocation 198.18.0.0 of pool default", "yes election n1 was elected", "skipped wire nobody was asked", "1 of 1 endpoints are ready"}, "Cause"},
		"service by name":  {nil, "/explain?q=web", []string{"Service shop/web"}, "no such Service"},
		"address":          {nil, "/explain?q=198.18.0.0", []string{"198.18.0.0 of Service shop/web"}, "Cause"},
		"cause": {silent, "/explain?q=shop%2Fweb", []string{"Cause NoInterface: no link of n1 fits", "Do look at the links, and interfaces of the advertisements",
			"no announcement NoInterface"}, "No step says no"},
		"free address": {nil, "/explain?q=198.18.0.7", []string{"it is free in pool default", "Do annotate a Service with fairlead.dev/loadBalancerIPs=198.18.0.7"}, "of Service"},
		"no service":   {nil, "/explain?q=bank%2Fweb", []string{"Service bank/web", "Cause there is no such Service"}, "198.18.0.0"},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := serve(t, cluster(t, kube.Objects{web("web", 0), slice}, c.change))
			answer, text, _ := get(t, p, c.target)
			if answer.StatusCode != http.StatusOK {
				t.Fatalf("%s: %s", answer.Status, text)
			}
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("%q is missing", want)
				}
			}
			if c.not != "" && strings.Contains(text, c.not) {
				t.Errorf("%q is there", c.not)
			}
			if t.Failed() {
				t.Log(text)
			}
		})
	}
}

// Whatever stands in the cluster's objects or in a request is text: it adds no element and no attribute, and no script may run.
func TestNothingIsInjected(t *testing.T) {
	const evil = `"'><script>alert(1)</script><img src=x onerror=alert(1)>{{.}}</style></title>`
	pending := web("web", 0)
	pending.Status.LoadBalancer.Ingress = nil
	pending.Status.Conditions = []metav1.Condition{{Type: kube.ConditionAllocated, Status: "False", Reason: "UnknownPool", Message: evil}}
	spoilt := func(d *view.Decisions) {
		d.Decisions[0].Announce, d.Decisions[0].Owner, d.Decisions[0].Reason, d.Decisions[0].Message = false, "", lb.Reason(evil), evil
		d.Changes = []view.Change{{VIP: addr(1), Via: evil, Services: []string{evil}, Reason: lb.Reason(evil), Message: evil}}
	}
	f := cluster(t, kube.Objects{web("other", 1)}, spoilt)
	more := cluster(t, kube.Objects{pending, web("other", 1)}, nil)
	f.Services, f.Kube.Services = more.Services, more.Kube.Services
	status := f.Statuses["n1"]
	status.Status.BGP.Summary = evil
	status.Status.BGP.Sessions = []v1beta1.BGPSession{{Peer: evil, Address: evil, State: evil, Reason: evil, Message: evil, LastError: evil, BFD: evil}}
	f.Statuses["n1"] = status
	p, _ := serve(t, f)
	harmless, _ := serve(t, cluster(t, nil, nil))
	for _, target := range []string{"/", "/?find=" + url.QueryEscape(evil), "/explain?q=" + url.QueryEscape(evil), "/explain?q=shop%2Fweb", "/explain?q=shop%2Fother"} {
		_, text, document := get(t, p, target)
		if !strings.Contains(text, "<script>alert(1)") {
			t.Errorf("%s does not show the text at all:\n%s", target, text)
		}
		for n := range document.Descendants() {
			if n.Type == html.ElementNode && (n.Data == "script" || n.Data == "img") {
				t.Errorf("%s has an element %s", target, n.Data)
			}
			for _, a := range n.Attr {
				if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "href" && strings.Contains(strings.SplitN(a.Val, "?", 2)[0], ":") {
					t.Errorf("%s has the attribute %s=%q", target, a.Key, a.Val)
				}
			}
		}
	}
	if _, text, _ := get(t, harmless, "/"); !strings.Contains(text, "No Service has one.") {
		t.Errorf("an empty cluster shows %s", text)
	}
}

func TestHeaders(t *testing.T) {
	p, _ := serve(t, cluster(t, kube.Objects{web("web", 0)}, nil))
	answer, _, document := get(t, p, "/")
	policy := answer.Header.Get("Content-Security-Policy")
	for n := range document.Descendants() {
		if n.Type == html.ElementNode && n.Data == "style" {
			sum := sha256.Sum256([]byte(n.FirstChild.Data))
			if want := "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(policy, "style-src "+want) {
				t.Errorf("the policy is %q, the style's digest %s", policy, want)
			}
		}
	}
	for _, want := range []string{"default-src 'none'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) || strings.Contains(policy, "unsafe") || strings.Contains(policy, "script-src") {
			t.Errorf("the policy is %q, want %s in it and nothing that weakens it", policy, want)
		}
	}
	for target, c := range map[string]struct {
		method, location string
		status           int
	}{
		"/":              {method: http.MethodPost, status: http.StatusMethodNotAllowed},
		"/explain?q=a":   {method: http.MethodPut, status: http.StatusMethodNotAllowed},
		"/explain":       {method: http.MethodGet, status: http.StatusSeeOther, location: "./"},
		"/style.css":     {method: http.MethodGet, status: http.StatusNotFound},
		"/explain?q=1.1": {method: http.MethodHead, status: http.StatusOK},
	} {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest(c.method, target, nil))
		if w.Code != c.status || w.Header().Get("Location") != c.location || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: %d %v, want %d", c.method, target, w.Code, w.Header(), c.status)
		}
	}
}

// However many look, facts are gathered once while they are fresh, and for each Service apart.
func TestFactsAreGatheredOnce(t *testing.T) {
	f := cluster(t, kube.Objects{web("web", 0), web("other", 0)}, nil)
	synctest.Test(t, func(t *testing.T) {
		p, asked := serve(t, f)
		var crowd sync.WaitGroup
		for range 50 {
			crowd.Go(func() { p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)) })
		}
		crowd.Wait()
		p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/explain?q=198.18.0.0", nil))
		time.Sleep(fresh + time.Millisecond)
		p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
		if got, want := strings.Join(asked(), " "), "/ shop/other shop/web /"; got != want {
			t.Errorf("asked for %q, want %q", got, want)
		}
		before := len(asked())
		p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/explain?q=nobody", nil))
		if after := len(asked()); after != before {
			t.Errorf("a Service that there is not was asked about: %q", asked())
		}
		for i := range 3 * kept {
			if _, _, err := p.facts.get(t.Context(), lb.ServiceKey{Namespace: "shop", Name: fmt.Sprint(i)}); err != nil || len(p.facts.facts) > kept {
				t.Errorf("%d facts are kept, want %d at most; %v", len(p.facts.facts), kept, err)
			}
		}
	})
}

func TestNoFacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := New(Options{Log: slog.New(slog.DiscardHandler), Source: func(ctx context.Context, of lb.ServiceKey) (explain.Facts, error) {
			<-ctx.Done()
			return explain.Facts{}, errors.New("the password is hunter2")
		}})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var crowd sync.WaitGroup
		for range 3 {
			crowd.Go(func() {
				w := httptest.NewRecorder()
				p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
				if w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "hunter2") {
					t.Errorf("%d %s, want 503 without the cause", w.Code, w.Body)
				}
			})
		}
		crowd.Wait()
		if d := time.Since(start); d > 3*patience {
			t.Errorf("three waited for %s", d)
		}
	})
}

// A cluster with more addresses than fit on a page shows the first and says so; what nobody announces is among them.
func TestManyAddresses(t *testing.T) {
	const many = 2 * maxAddresses
	var objects kube.Objects
	for i := range many {
		objects = append(objects, web(fmt.Sprintf("s%04d", i), i))
	}
	p, _ := serve(t, cluster(t, objects, func(d *view.Decisions) {
		last := &d.Decisions[many-1]
		last.Announce, last.Owner, last.Reason, last.Message = false, "", lb.NoEndpoints, "no pod"
	}))
	_, text, document := get(t, p, "/")
	rows := 0
	for n := range document.Descendants() {
		for _, a := range n.Attr {
			if a.Key == "href" && strings.HasPrefix(a.Val, "explain?q=198") {
				rows++
			}
		}
	}
	if want := fmt.Sprintf("%d addresses, and which nodes announce them; the first %d are shown", many, maxAddresses); rows != maxAddresses || !strings.Contains(text, want) {
		t.Errorf("%d rows, and %q is there: %v", rows, want, strings.Contains(text, want))
	}
	if !strings.Contains(text, addr(many-1).String()+" shop/s0999 NoEndpoints") {
		t.Error("the one that nobody announces is not among them")
	}
}

func TestAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{-time.Second: "now", 0: "now", 59 * time.Second: "59 s ago", time.Minute: "1 min ago", 3 * time.Hour: "3 h ago", 72 * time.Hour: "3 days ago"} {
		if got := ago(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

func TestPercent(t *testing.T) {
	for want, p := range map[int]explain.PoolState{0: {Available: 5}, 1: {Assigned: 1, Available: 1 << 62}, 50: {Assigned: 2, Available: 2}, 99: {Assigned: 999999, Available: 1}, 100: {Assigned: 3}} {
		if got := percent(p); got != want {
			t.Errorf("%+v: %d, want %d", p, got, want)
		}
	}
	if few, many := count(999_999_999), count(1<<63-1); few != "999999999" || many != "over 10\u2079" {
		t.Errorf("counts are %q and %q", few, many)
	}
	if got := percent(explain.PoolState{}); got != 0 {
		t.Errorf("an empty pool: %d", got)
	}
}
