package datapath_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/datapath/datapathtest"
	"github.com/fairlead-lb/fairlead/lb"
)

const (
	client   = "192.0.2.100"
	stranger = "203.0.113.9"
	vip      = "192.0.2.200"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// web is a Service with one port, 80/TCP, on the VIP; edit changes it.
func web(edit ...func(*lb.Service)) lb.Service {
	s := lb.Service{
		Key:                   lb.ServiceKey{Namespace: "shop", Name: "web"},
		Ports:                 []lb.Port{{Name: "http", Protocol: lb.TCP, Port: 80}},
		ExternalTrafficPolicy: lb.Cluster,
		Ingress:               []lb.Ingress{{Addr: netip.MustParseAddr(vip), Mode: lb.ModeProxy}},
	}
	for _, e := range edit {
		e(&s)
	}
	return s
}

// ep makes an endpoint of port http/TCP; state is spelled in letters: r ready, s serving, t terminating.
func ep(addr, node, state string, edit ...func(*lb.Endpoint)) lb.Endpoint {
	e := lb.Endpoint{PortName: "http", Protocol: lb.TCP, Addr: netip.MustParseAddrPort(addr), Node: lb.NodeName(node)}
	for _, c := range state {
		switch c {
		case 'r':
			e.Ready = true
		case 's':
			e.Serving = true
		case 't':
			e.Terminating = true
		}
	}
	for _, f := range edit {
		f(&e)
	}
	return e
}

func snapshot(svc lb.Service, eps ...lb.Endpoint) lb.Snapshot {
	return lb.Snapshot{Self: "n1", Forwards: true, Services: []lb.Service{svc}, Endpoints: lb.EndpointsOf(map[lb.ServiceKey][]lb.Endpoint{svc.Key: eps})}
}

func local(s *lb.Service) { s.ExternalTrafficPolicy = lb.Local }

// kernelWith returns a kernel that reached what s asks for.
func kernelWith(t *testing.T, s lb.Snapshot) *datapathtest.Kernel {
	t.Helper()
	var k datapathtest.Kernel
	if _, err := k.Sync(context.Background(), datapath.Desired(s), t0); err != nil {
		t.Fatal(err)
	}
	return &k
}

// TestTrace sends packets through the kernel that results from a snapshot. Each row names the statement it proves.
func TestTrace(t *testing.T) {
	type packet struct {
		from, to string
		protocol lb.Protocol
		want     string
	}
	two := []lb.Endpoint{ep("10.0.1.1:8080", "n1", "rs"), ep("10.0.2.1:8080", "n2", "rs")}
	for name, tc := range map[string]struct {
		snapshot lb.Snapshot
		packets  []packet
	}{
		"S11 S22 Cluster spreads over all nodes and masquerades": {snapshot(web(), two...), []packet{
			{client, vip + ":80", lb.TCP, "10.0.1.1:8080 masqueraded"}, {client, vip + ":80", lb.TCP, "10.0.2.1:8080 masqueraded"}}},
		"S12 S25 Local stays on this node and keeps the client's address": {snapshot(web(local), two...), []packet{
			{client, vip + ":80", lb.TCP, "10.0.1.1:8080"}, {client, vip + ":80", lb.TCP, "10.0.1.1:8080"}}},
		"S11 the last ones serve while they terminate": {snapshot(web(), ep("10.0.1.1:8080", "n1", "st"), ep("10.0.2.1:8080", "n2", "")), []packet{
			{client, vip + ":80", lb.TCP, "10.0.1.1:8080 masqueraded"}, {client, vip + ":80", lb.TCP, "10.0.1.1:8080 masqueraded"}}},
		"S12 S67 Local falls back to its terminating endpoint": {snapshot(web(local), ep("10.0.1.1:8080", "n1", "st"), two[1]), []packet{
			{client, vip + ":80", lb.TCP, "10.0.1.1:8080"}}},
		"S52 nobody serves anywhere": {snapshot(web(), ep("10.0.1.1:8080", "n1", "")), []packet{
			{client, vip + ":80", lb.TCP, "REJECT"}}},
		"S52 Local without endpoints anywhere": {snapshot(web(local)), []packet{
			{client, vip + ":80", lb.TCP, "REJECT"}}},
		"S57 Local, endpoints only elsewhere": {snapshot(web(local), two[1]), []packet{
			{client, vip + ":80", lb.TCP, "DROP"}}},
		"S57 Local, this node's endpoint is not ready": {snapshot(web(local), ep("10.0.1.1:8080", "n1", ""), two[1]), []packet{
			{client, vip + ":80", lb.TCP, "DROP"}}},
		"S46 other ports of the VIP": {snapshot(web(), two...), []packet{
			{client, vip + ":22", lb.TCP, "REJECT"}, {client, vip + ":80", lb.UDP, "REJECT"}}},
		"S48 S49 source ranges": {snapshot(web(func(s *lb.Service) {
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}
		}), two[0]), []packet{
			{client, vip + ":80", lb.TCP, "10.0.1.1:8080 masqueraded"}, {stranger, vip + ":80", lb.TCP, "DROP"}}},
		"S48 ranges of the other family only allow everybody": {snapshot(web(func(s *lb.Service) {
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}
		}), two[0]), []packet{{stranger, vip + ":80", lb.TCP, "10.0.1.1:8080 masqueraded"}}},
		"S48 a /0 allows everybody": {snapshot(web(func(s *lb.Service) {
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("0.0.0.0/0")}
		}), two[0]), []packet{{stranger, vip + ":80", lb.TCP, "10.0.1.1:8080 masqueraded"}}},
		"S34 affinity": {snapshot(web(func(s *lb.Service) { s.SessionAffinity = time.Hour }), two...), []packet{
			{client, vip + ":80", lb.TCP, "10.0.1.1:8080 masqueraded"}, {client, vip + ":80", lb.TCP, "10.0.1.1:8080 masqueraded"},
			{stranger, vip + ":80", lb.TCP, "10.0.2.1:8080 masqueraded"}}},
		"S45 while ipMode VIP leaves it to kube-proxy as well": {snapshot(web(func(s *lb.Service) { s.Ingress[0].Mode = lb.ModeVIP }), two[0]), []packet{
			{client, vip + ":80", lb.TCP, "10.0.1.1:8080 masqueraded"}}},
	} {
		t.Run(name, func(t *testing.T) {
			k := kernelWith(t, tc.snapshot)
			for _, p := range tc.packets {
				if got := k.Connect(p.from, p.to, p.protocol).String(); got != p.want {
					t.Errorf("%s -> %s/%s: %s, want %s; the kernel holds\n%s", p.from, p.to, p.protocol, got, p.want, k.State())
				}
			}
		})
	}
}

func udp(e *lb.Endpoint) { e.Protocol = lb.UDP }

func port(name string) func(*lb.Endpoint) { return func(e *lb.Endpoint) { e.PortName = name } }

// TestDesired shows whole states.
func TestDesired(t *testing.T) {
	other := lb.Service{
		Key: lb.ServiceKey{Namespace: "shop", Name: "mail"}, Ports: []lb.Port{{Name: "smtp", Protocol: lb.TCP, Port: 25}},
		Ingress: []lb.Ingress{{Addr: netip.MustParseAddr(vip), Mode: lb.ModeProxy}},
	}
	shared := snapshot(web(), ep("10.0.1.1:8080", "n1", "rs"))
	shared.Services = append(shared.Services, other)
	silent := shared
	silent.Forwards = false
	for name, tc := range map[string]struct {
		snapshot lb.Snapshot
		want     string
	}{
		"S3 one number, TCP and UDP": {snapshot(web(func(s *lb.Service) {
			s.Ports = []lb.Port{{Name: "dns", Protocol: lb.UDP, Port: 53}, {Name: "dns", Protocol: lb.TCP, Port: 53}}
		}), ep("10.0.1.1:53", "n1", "rs", port("dns")), ep("10.0.1.1:53", "n1", "rs", port("dns"), udp)), `
vip 192.0.2.200
server 192.0.2.200:53/TCP shop/web rr forward masquerade
  10.0.1.1:53 weight=1 nat
server 192.0.2.200:53/UDP shop/web rr forward masquerade
  10.0.1.1:53 weight=1 nat
`},
		"S4 S5 several ports, a named target port with two numbers": {snapshot(web(func(s *lb.Service) {
			s.Ports = append(s.Ports, lb.Port{Name: "admin", Protocol: lb.TCP, Port: 9000})
		}), ep("10.0.1.1:8080", "n1", "rs"), ep("10.0.1.2:8081", "n1", "rs"), ep("10.0.1.1:9", "n1", "rs", port("admin"))), `
vip 192.0.2.200
server 192.0.2.200:80/TCP shop/web rr forward masquerade
  10.0.1.1:8080 weight=1 nat
  10.0.1.2:8081 weight=1 nat
server 192.0.2.200:9000/TCP shop/web rr forward masquerade
  10.0.1.1:9 weight=1 nat
`},
		"S7 the same endpoint in two slices, once terminating": {snapshot(web(),
			ep("10.0.1.1:8080", "n1", "st"), ep("10.0.1.1:8080", "n1", "rs")), `
vip 192.0.2.200
server 192.0.2.200:80/TCP shop/web rr forward masquerade
  10.0.1.1:8080 weight=1 nat
`},
		"S65 endpoints that must not get more stay with weight 0": {snapshot(web(local),
			ep("10.0.1.1:8080", "n1", "rs"), ep("10.0.1.2:8080", "n1", "st"), ep("10.0.2.1:8080", "n2", "st")), `
vip 192.0.2.200
server 192.0.2.200:80/TCP shop/web rr forward
  10.0.1.1:8080 weight=1 nat
  10.0.1.2:8080 weight=0 nat
  10.0.2.1:8080 weight=0 nat
server 192.0.2.200:80/TCP inside shop/web rr forward masquerade=host
  10.0.1.1:8080 weight=1 nat
  10.0.1.2:8080 weight=0 nat
  10.0.2.1:8080 weight=0 nat
`},
		"S70 two Services share a VIP": {shared, `
vip 192.0.2.200
server 192.0.2.200:25/TCP shop/mail rr reject masquerade
server 192.0.2.200:80/TCP shop/web rr forward masquerade
  10.0.1.1:8080 weight=1 nat
`},
		"S2 each family its own": {snapshot(web(func(s *lb.Service) {
			s.Ingress = append(s.Ingress, lb.Ingress{Addr: netip.MustParseAddr("2001:db8::200"), Mode: lb.ModeProxy})
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.7/24"), netip.MustParsePrefix("192.0.2.64/26")}
		}), ep("10.0.1.1:8080", "n1", "rs"), ep("[fd00::1]:8080", "n1", "rs")), `
vip 192.0.2.200
vip 2001:db8::200
server 192.0.2.200:80/TCP shop/web rr forward masquerade from=192.0.2.0/24
  10.0.1.1:8080 weight=1 nat
server [2001:db8::200]:80/TCP shop/web rr forward masquerade
  [fd00::1]:8080 weight=1 nat
`},
		"nothing where somebody else forwards": {silent, "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, "\n"+datapath.Desired(tc.snapshot).String()); d != "" {
				t.Errorf("desired state (-want +got):\n%s", d)
			}
		})
	}
}
