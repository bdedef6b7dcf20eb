//go:build kernel

package kernel

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"

	"github.com/fairlead-lb/fairlead/lb"
)

// ep makes an endpoint of a pod for a port of the Service; state is spelled in letters: r ready, s serving, t terminating.
func ep(pod, state string, port lb.Port, number uint16) lb.Endpoint {
	node := lb.NodeName("near")
	if pod == "far" {
		node = "far"
	}
	e := lb.Endpoint{PortName: port.Name, Protocol: port.Protocol, Node: node, Addr: netip.AddrPortFrom(netip.MustParseAddr(pods[pod]), number)}
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
	return e
}

// svc is a Service on the VIP with ports 80/TCP and 80/UDP, and its endpoints on 8080: name them, with their state if it is not "rs".
type svc struct {
	lb.Service
	endpoints []lb.Endpoint
}

func service(edit func(*lb.Service), endpoints ...string) svc {
	s := svc{Service: lb.Service{
		Key:     lb.ServiceKey{Namespace: "shop", Name: "web"},
		Ports:   []lb.Port{{Name: "http", Protocol: lb.TCP, Port: 80}, {Name: "quic", Protocol: lb.UDP, Port: 80}},
		Ingress: []lb.Ingress{{Addr: netip.MustParseAddr(vip), Mode: lb.ModeProxy}},
	}}
	if edit != nil {
		edit(&s.Service)
	}
	for i := 0; i < len(endpoints); i++ {
		pod, state := endpoints[i], "rs"
		if i+1 < len(endpoints) && pods[endpoints[i+1]] == "" {
			state, i = endpoints[i+1], i+1
		}
		for _, p := range s.Ports {
			s.endpoints = append(s.endpoints, ep(pod, state, p, 8080))
		}
	}
	return s
}

func snapshot(services ...svc) lb.Snapshot {
	out := lb.Snapshot{Self: "near", Forwards: true}
	for _, s := range services {
		out.Services = append(out.Services, s.Service)
		out.Endpoints.Set(s.Key, s.endpoints)
	}
	return out
}

func local(s *lb.Service) { s.ExternalTrafficPolicy = lb.Local }

func sticky(s *lb.Service) { s.SessionAffinity = time.Hour }

// collect asks n times and returns who answered and whom they saw.
func collect(t *testing.T, ns, network, to string, n int) (podsSeen, clientsSeen []string) {
	t.Helper()
	p, c := map[string]bool{}, map[string]bool{}
	for range n {
		a := mustAsk(t, ns, network, to)
		p[a.pod], c[a.client] = true, true
	}
	return slices.Sorted(maps.Keys(p)), slices.Sorted(maps.Keys(c))
}

// Many asks are enough to hear of every endpoint: that 40 random choices among 3 miss one has a chance of 3e-7.
const many = 40

func TestClusterReachesEveryEndpointAndMasquerades(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		b.sync(t, snapshot(service(nil, "pod-a", "pod-b", "far")))
		for _, network := range []string{"tcp", "udp"} {
			p, c := collect(t, "client", network, vip+":80", many)
			if d := cmp.Diff([]string{"far", "pod-a", "pod-b"}, p); d != "" {
				t.Errorf("%s: pods that answered (-want +got):\n%s", network, d)
			}
			if slices.Contains(c, clientAddr) {
				t.Errorf("%s: the pods see the client's address: %v", network, c)
			}
		}
	})
}

func TestLocalStaysHereAndKeepsTheClientsAddress(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		b.sync(t, snapshot(service(local, "pod-a", "pod-b", "far")))
		for _, network := range []string{"tcp", "udp"} {
			p, c := collect(t, "client", network, vip+":80", many)
			if d := cmp.Diff([][]string{{"pod-a", "pod-b"}, {clientAddr}}, [][]string{p, c}); d != "" {
				t.Errorf("%s: pods, clients (-want +got):\n%s", network, d)
			}
		}
	})
}

func TestNoEndpointAnywhereRefuses(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		for name, s := range map[string]svc{"Cluster": service(nil), "Local": service(local), "not ready": service(nil, "pod-a", "")} {
			b.sync(t, snapshot(s))
			for _, network := range []string{"tcp", "udp"} {
				for _, ns := range []string{"client", "node", "pod-b"} {
					if _, err := ask(ns, network, "", vip+":80", patience); !refused(err) {
						t.Errorf("%s, %s from %s: %v, want connection refused", name, network, ns, err)
					}
				}
			}
		}
		b.sync(t, snapshot(service(nil, "pod-a"))) // S60: the first endpoint is reached at once
		for _, network := range []string{"tcp", "udp"} {
			mustAsk(t, "client", network, vip+":80")
		}
	})
}

func TestLocalWithoutLocalEndpointIsSilent(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		b.sync(t, snapshot(service(local, "far")))
		for _, network := range []string{"tcp", "udp"} {
			if _, err := ask("client", network, "", vip+":80", short); !silent(err) {
				t.Errorf("%s: %v, want silence", network, err)
			}
		}
	})
}

func TestTerminatingEndpointsServeAsALastResort(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		b.sync(t, snapshot(service(local, "pod-a", "st", "far")))
		if a := mustAsk(t, "client", "tcp", vip+":80"); a != (answer{"pod-a", clientAddr}) {
			t.Errorf("answer %v, want pod-a", a)
		}
	})
}

func TestSourceRanges(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		only := func(s *lb.Service) {
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix(clientAddr + "/32"), netip.MustParsePrefix("198.51.100.0/24")}
		}
		b.sync(t, snapshot(service(only, "pod-a")))
		for _, network := range []string{"tcp", "udp"} {
			if _, err := ask("client", network, clientAddr, vip+":80", patience); err != nil {
				t.Errorf("%s from an allowed address: %v", network, err)
			}
			if _, err := ask("client", network, strayAddr, vip+":80", short); !silent(err) {
				t.Errorf("%s from another address: %v, want silence", network, err)
			}
		}
		b.sync(t, snapshot(service(nil, "pod-a")))
		if _, err := ask("client", "tcp", strayAddr, vip+":80", patience); err != nil {
			t.Errorf("after the ranges were removed: %v", err)
		}
	})
}

func TestAffinity(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		b.sync(t, snapshot(service(sticky, "pod-a", "pod-b", "far")))
		p, _ := collect(t, "client", "tcp", vip+":80", many)
		if len(p) != 1 {
			t.Fatalf("a client with affinity was served by %v", p)
		}
		// The endpoint goes; the client is served by another, and stays there.
		rest := slices.DeleteFunc([]string{"pod-a", "pod-b", "far"}, func(s string) bool { return s == p[0] })
		b.sync(t, snapshot(service(sticky, rest...)))
		q, _ := collect(t, "client", "tcp", vip+":80", many)
		if len(q) != 1 || q[0] == p[0] {
			t.Errorf("after %s went, the client was served by %v", p[0], q)
		}
		// S38: switched off and on again on the living Service.
		b.sync(t, snapshot(service(nil, rest...)))
		if p, _ := collect(t, "client", "tcp", vip+":80", many); len(p) != 2 {
			t.Errorf("without affinity the client was served by %v only", p)
		}
		b.sync(t, snapshot(service(sticky, rest...)))
		if p, _ := collect(t, "client", "tcp", vip+":80", many); len(p) != 1 {
			t.Errorf("with affinity again the client was served by %v", p)
		}
	})
}

// TestFullMemory: where the memory of who has affinity to whom is full, because somebody has come from a million addresses, new clients are
// served without one.
func TestFullMemory(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		b.sync(t, snapshot(service(sticky, "pod-a", "pod-b", "far")))
		known, _ := collect(t, "client", "tcp", vip+":80", few)
		if b.Name() == "ipvs" {
			return // its memory has no end
		}
		if n := strangers(t); n < 1e6 {
			t.Fatalf("the memory was full with %d", n)
		}
		if p, _ := collect(t, "pod-b", "tcp", vip+":80", many); len(p) < 2 {
			t.Errorf("a client who finds no room was served by %v only", p)
		}
		if p, _ := collect(t, "client", "tcp", vip+":80", few); !slices.Equal(p, known) {
			t.Errorf("a client who was known before had %v and now %v", known, p)
		}
	})
}

// strangers fills the memory of affinity with clients, each time with half as many where no more find room.
func strangers(t *testing.T) (n int) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // before others list the table, which takes more than a minute
		if out, err := exec.Command("nft", "flush", "set", "inet", "fairlead", "affinity4").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	memory := &nftables.Set{Name: "affinity4", Table: &nftables.Table{Name: "fairlead", Family: nftables.TableFamilyINet}}
	for portion := 1 << 15; portion > 0; {
		var some []nftables.SetElement
		for i := n; i < n+portion; i++ { // number of a Service's port, client, endpoint
			key := []byte{7, 0, 0, 0, 10, byte(i >> 16), byte(i >> 8), byte(i), 10, 0, 0, 1, 0, 80, 0, 0}
			some = append(some, nftables.SetElement{Key: key, Timeout: time.Hour})
		}
		for message := range slices.Chunk(some, 512) { // more do not fit
			if err := c.SetAddElements(memory, message); err != nil {
				t.Fatal(err)
			}
		}
		if c.Flush() == nil {
			n += portion
		} else {
			portion /= 2
		}
	}
	return n
}

func TestPortsAndSharedVIP(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		web := service(func(s *lb.Service) {
			s.Ports = []lb.Port{{Name: "a", Protocol: lb.TCP, Port: 80}, {Name: "b", Protocol: lb.TCP, Port: 81}}
		})
		web.endpoints = []lb.Endpoint{ // S5: port "a" has another number on each pod
			ep("pod-a", "rs", web.Ports[0], 8080), ep("pod-b", "rs", web.Ports[0], 8081), ep("far", "rs", web.Ports[1], 8081)}
		dns := service(func(s *lb.Service) {
			s.Key.Name = "dns"
			s.Ports = []lb.Port{{Name: "dns", Protocol: lb.UDP, Port: 80}}
			s.ExternalTrafficPolicy = lb.Local
		}, "pod-b")
		b.sync(t, snapshot(dns, web))
		if p, _ := collect(t, "client", "tcp", vip+":80", many); !slices.Equal(p, []string{"pod-a", "pod-b"}) {
			t.Errorf("port 80/TCP is served by %v", p)
		}
		if a := mustAsk(t, "client", "tcp", vip+":81"); a.pod != "far" {
			t.Errorf("port 81/TCP is served by %v", a)
		}
		if a := mustAsk(t, "client", "udp", vip+":80"); a != (answer{"pod-b", clientAddr}) {
			t.Errorf("port 80/UDP of the other Service on the VIP is served by %v", a)
		}
		b.sync(t, snapshot(dns)) // S70: the other Service on the VIP goes
		if a := mustAsk(t, "client", "udp", vip+":80"); a.pod != "pod-b" {
			t.Errorf("after the neighbour was deleted: %v", a)
		}
		if _, err := ask("client", "tcp", "", vip+":80", patience); !refused(err) {
			t.Errorf("a port that no Service has any more: %v, want connection refused", err)
		}
	})
}

func TestOtherPortsOfTheVIPDoNotReachTheHost(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		l, err := net.Listen("tcp", ":2222")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		u, err := net.ListenPacket("udp", ":2222")
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		b.sync(t, snapshot(service(nil, "pod-a")))
		for _, ns := range []string{"client", "pod-a", "node"} {
			if c, err := dial(ns, "tcp", "", nodeAddr+":2222", patience); err != nil {
				t.Fatalf("from %s, the daemon's own address: %v", ns, err)
			} else {
				c.Close()
			}
			for _, network := range []string{"tcp", "udp"} {
				if _, err := ask(ns, network, "", vip+":2222", patience); !refused(err) {
					t.Errorf("%s from %s: %v, want connection refused", network, ns, err)
				}
			}
		}
	})
}

func TestTheNodeItselfAndItsPodsReachTheVIP(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		b.sync(t, snapshot(service(nil, "pod-a", "pod-b", "far")))
		for _, ns := range []string{"node", "pod-a"} {
			for _, network := range []string{"tcp", "udp"} {
				if p, _ := collect(t, ns, network, vip+":80", many); len(p) != 3 {
					t.Errorf("%s from %s: only %v answered", network, ns, p)
				}
			}
		}
	})
}

func TestTwoVIPs(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		b.sync(t, snapshot(service(func(s *lb.Service) {
			s.Ingress = append(s.Ingress, lb.Ingress{Addr: netip.MustParseAddr(vip2), Mode: lb.ModeProxy})
		}, "pod-a")))
		for _, a := range []string{vip, vip2} {
			mustAsk(t, "client", "tcp", fmt.Sprintf("%s:80", a))
		}
	})
}
