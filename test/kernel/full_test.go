//go:build kernel

package kernel

import (
	"context"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/datapath/engine"
	"github.com/fairlead-lb/fairlead/datapath/link"
)

// few asks are enough to hear of a second endpoint where there should be one: that 15 random choices among 3 agree has a chance of 2e-7.
const few = 15

// sees asks until all of the pods have answered, a few times more, and checks who answered and, unless wantClients is nil, whom they saw.
func sees(t *testing.T, ns, network, addr string, wantPods, wantClients []string) {
	t.Helper()
	p, c := map[string]bool{}, map[string]bool{}
	for more, left := 5, 2*many; more > 0 && left > 0; left-- {
		a := mustAsk(t, ns, network, addr)
		p[a.pod], c[a.client] = true, true
		if len(p) >= len(wantPods) {
			more--
		}
	}
	got, want := [][]string{slices.Sorted(maps.Keys(p)), slices.Sorted(maps.Keys(c))}, [][]string{wantPods, wantClients}
	if wantClients == nil {
		got, want = got[:1], want[:1]
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s from %s to %s: pods that answered, clients they saw (-want +got):\n%s", network, ns, addr, d)
	}
}

func TestS20PodsOfThisNodeAreNotMasqueraded(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		outsiders := masquerade(datapath.Outside | datapath.Host)
		for name, detector := range map[string]datapath.Detector{
			"by address": {Sources: []netip.Prefix{netip.MustParsePrefix(f.podRange)}}, "by interface": {Interfaces: []string{"lo", "pod-*"}}, "by name": {Interfaces: []string{"pod-a"}},
		} {
			s := f.state(f.server(f.vip, "80", outsiders, "pod-b"), f.server(f.vip, "80", both(outsiders, udp), "pod-b"))
			s.Pods = detector
			b.hold(t, s)
			for _, network := range []string{"tcp", "udp"} {
				t.Log(name, network)
				sees(t, "pod-a", network, to(f.vip, "80"), []string{"pod-b"}, []string{f.pods["pod-a"]})
				sees(t, "client", network, to(f.vip, "80"), []string{"pod-b"}, []string{f.bridge})
			}
		}
	})
}

func TestS28APodReachesItself(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		for _, c := range []datapath.Clients{datapath.Nobody, datapath.Outside | datapath.Host, datapath.Everybody} {
			b.hold(t, f.state(f.server(f.vip, "80", masquerade(c), "pod-a"), f.server(f.vip, "80", both(masquerade(c), udp), "pod-a")))
			for _, network := range []string{"tcp", "udp"} {
				sees(t, "pod-a", network, to(f.vip, "80"), []string{"pod-a"}, []string{f.bridge})
			}
		}
	})
}

func TestS54TheInsideHasAListOfItsOwn(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		for _, port := range []string{"80", "30080"} {
			addr, dial := f.vip, f.vip
			if port == "30080" {
				addr, dial = f.anywhere(), f.node
			}
			hosts := both(forInside, masquerade(datapath.Host))
			// Outside: nothing local (S57). Inside: all endpoints (S23, S24). The far one cannot answer a pod, so pods are given the near one.
			b.hold(t, f.state(f.server(addr, port, silentVerdict, "far"), f.server(addr, port, hosts, "pod-b")))
			if _, err := ask("client", "tcp", "", to(dial, port), short); !silent(err) {
				t.Errorf("port %s from outside: %v, want silence", port, err)
			}
			sees(t, "pod-a", "tcp", to(dial, port), []string{"pod-b"}, []string{f.pods["pod-a"]})
			if p, c := collect(t, "node", "tcp", to(dial, port), many); !slices.Equal(p, []string{"pod-b"}) || slices.Contains(c, f.vip) {
				t.Errorf("port %s from the node: %v answered and saw %v", port, p, c)
			}
			// With local endpoints the outside keeps to them and shows its address, the inside reaches all.
			everybody := both(forInside, masquerade(datapath.Host|datapath.Pods))
			b.hold(t, f.state(f.server(addr, port, nil, "pod-a"), f.server(addr, port, everybody, "pod-a", "far")))
			sees(t, "client", "tcp", to(dial, port), []string{"pod-a"}, []string{f.client})
			for _, ns := range []string{"pod-b", "node"} {
				sees(t, ns, "tcp", to(dial, port), []string{"far", "pod-a"}, nil)
			}
			// Without endpoints the inside is refused, the outside not concerned.
			b.hold(t, f.state(f.server(addr, port, nil, "pod-a"), f.server(addr, port, both(forInside, func(v *datapath.VirtualServer) { v.Verdict = datapath.Reject }))))
			for _, ns := range []string{"pod-b", "node"} {
				if _, err := ask(ns, "tcp", "", to(dial, port), patience); !refused(err) {
					t.Errorf("port %s from %s: %v, want connection refused", port, ns, err)
				}
			}
			mustAsk(t, "client", "tcp", to(dial, port))
		}
	})
}

func TestS40NodePorts(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		l, err := net.Listen("tcp", ":2222")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		all := masquerade(datapath.Everybody)
		s := f.state(f.server(f.anywhere(), "30080", all, "pod-a", "pod-b", "far"), f.server(f.anywhere(), "30080", both(all, udp), "pod-a", "pod-b", "far"))
		b.hold(t, s)
		for _, network := range []string{"tcp", "udp"} { // S3: one number, two protocols
			for _, ns := range []string{"client", "pod-a", "node"} {
				sees(t, ns, network, to(f.node, "30080"), []string{"far", "pod-a", "pod-b"}, nil)
			}
		}
		if c, err := dial("client", "tcp", "", to(f.node, "2222"), patience); err != nil {
			t.Errorf("a daemon of the node: %v", err)
		} else {
			c.Close()
		}
		if _, err := ask("client", "tcp", "", to(f.node, "30081"), patience); !refused(err) {
			t.Errorf("a port that nobody has: %v, want connection refused", err)
		}
		s.NodeAddrs = append(s.NodeAddrs, netip.MustParseAddr(f.bridge)) // an address of the node comes later
		slices.SortFunc(s.NodeAddrs, netip.Addr.Compare)
		b.hold(t, s)
		mustAsk(t, "pod-a", "tcp", to(f.bridge, "30080"))
		b.hold(t, f.state())
		if _, err := ask("client", "tcp", "", to(f.node, "30080"), patience); !refused(err) {
			t.Errorf("after the node port is gone: %v, want connection refused", err)
		}
	})
}

// TestS43AnExternalIPOfTheNodeTakesNothingElse: a server at an address of the node that is no VIP leaves its other ports alone.
func TestS43AnExternalIPOfTheNodeTakesNothingElse(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		l, err := net.Listen("tcp", ":2222")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		b.hold(t, f.state(f.server(f.node, "8080", masquerade(datapath.Everybody), "far")))
		mustAsk(t, "client", "tcp", to(f.node, "8080"))
		c, err := dial("client", "tcp", "", to(f.node, "2222"), patience)
		if err != nil {
			t.Fatalf("a daemon of the node: %v", err)
		}
		c.Close()
	})
}

func TestS49SourceRanges(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		only := func(addrs ...string) func(*datapath.VirtualServer) {
			return func(v *datapath.VirtualServer) {
				for _, a := range addrs {
					p := netip.MustParseAddr(a)
					v.SourceRanges = append(v.SourceRanges, netip.PrefixFrom(p, p.BitLen()))
				}
				slices.SortFunc(v.SourceRanges, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
				v.Masquerade = datapath.Everybody
			}
		}
		attempt := func(ns, from string) error {
			_, err := ask(ns, "tcp", from, to(f.vip, "80"), short)
			return err
		}
		b.hold(t, f.state(f.server(f.vip, "80", only(f.client, f.pods["pod-a"]), "pod-b", "far")))
		for _, c := range []struct {
			ns, from string
			allowed  bool
		}{{"client", f.client, true}, {"client", f.stray, false}, {"pod-a", "", true}, {"pod-b", "", false}} { // S51: pods too
			if err := attempt(c.ns, c.from); c.allowed && err != nil || !c.allowed && !silent(err) {
				t.Errorf("from %s %s: %v, allowed: %v", c.ns, c.from, err, c.allowed)
			}
		}
		b.hold(t, f.state(f.server(f.vip, "80", only(f.pods["pod-b"]), "far")))
		if err := attempt("pod-a", ""); !silent(err) {
			t.Errorf("pod-a after the ranges changed: %v, want silence", err)
		}
		if err := attempt("pod-b", ""); err != nil {
			t.Errorf("pod-b after the ranges changed: %v", err)
		}
	})
}

func TestVerdicts(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		reject := func(v *datapath.VirtualServer) { v.Verdict = datapath.Reject }
		b.hold(t, f.state(f.server(f.vip, "80", reject), f.server(f.vip, "80", both(reject, udp)), f.server(f.vip, "81", silentVerdict), f.server(f.vip, "81", both(silentVerdict, udp))))
		for _, network := range []string{"tcp", "udp"} {
			for _, ns := range []string{"client", "pod-a", "node"} {
				if _, err := ask(ns, network, "", to(f.vip, "80"), patience); !refused(err) { // S52
					t.Errorf("%s from %s: %v, want connection refused", network, ns, err)
				}
				if _, err := ask(ns, network, "", to(f.vip, "82"), patience); !refused(err) { // S46
					t.Errorf("%s from %s to a port without a server: %v, want connection refused", network, ns, err)
				}
			}
			if _, err := ask("client", network, "", to(f.vip, "81"), short); !silent(err) { // S53
				t.Errorf("%s: %v, want silence", network, err)
			}
		}
	})
}

// TestS34Affinity: it is of the client, lasts as long as it says since the last connection, and yields to a changed list.
func TestS34Affinity(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		last := func(d time.Duration) func(*datapath.VirtualServer) {
			return both(masquerade(datapath.Everybody), func(v *datapath.VirtualServer) { v.Affinity = d })
		}
		b.hold(t, f.state(f.server(f.vip, "80", last(time.Hour), "pod-a", "pod-b", "far"), f.server(f.vip2, "80", last(time.Hour), "pod-a", "pod-b", "far")))
		p, _ := collect(t, "client", "tcp", to(f.vip, "80"), few)
		if len(p) != 1 {
			t.Fatalf("a client with affinity was served by %v", p)
		}
		if q, _ := collect(t, "client", "tcp", to(f.vip2, "80"), few); b.Name() == "nft" && !slices.Equal(p, q) { // S35
			t.Errorf("%s at one address of the Service, %s at the other", p, q)
		}
		rest := slices.DeleteFunc([]string{"pod-a", "pod-b", "far"}, func(s string) bool { return s == p[0] })
		b.hold(t, f.state(f.server(f.vip, "80", last(time.Hour), rest...)))
		if q, _ := collect(t, "client", "tcp", to(f.vip, "80"), few); len(q) != 1 || q[0] == p[0] { // S36
			t.Errorf("after %s went, the client was served by %v", p[0], q)
		}
		if b.Name() == "ipvs" {
			return // its memory lasts at least as long as connections in TIME_WAIT, two minutes (S37)
		}
		b.hold(t, f.state(f.server(f.vip, "80", last(time.Second), "pod-a", "pod-b", "far")))
		seen, until := map[string]bool{}, time.Now().Add(20*time.Second)
		for len(seen) < 2 && time.Now().Before(until) {
			seen[mustAsk(t, "pod-b", "tcp", to(f.vip, "80")).pod] = true
			<-time.After(1500 * time.Millisecond)
		}
		if len(seen) < 2 {
			t.Errorf("affinity of a second lasted longer than that: only %v", seen)
		}
	})
}

// TestR5MarksOfOthersDoNotMatter: a CNI sets bits of the packet mark before us. They arrive, and nothing else changes.
func TestR5MarksOfOthersDoNotMatter(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		foreign(t, `nft -f - <<-'END'
			table inet cni {
				chain early { type filter hook prerouting priority -300; meta mark set meta mark or 0x00030000; }
				chain local { type route hook output priority -300; meta mark set meta mark or 0x00030000; }
			}
			END`, "nft delete table inet cni")
		b.hold(t, f.state(f.server(f.vip, "80", masquerade(datapath.Everybody), "pod-a", "far"),
			f.server(f.vip, "81", nil, "pod-a"), f.server(f.vip, "81", both(forInside, masquerade(datapath.Host|datapath.Pods)), "pod-a", "far")))
		for _, ns := range []string{"client", "pod-b", "node"} {
			sees(t, ns, "tcp", to(f.vip, "80"), []string{"far", "pod-a"}, nil)
		}
		sees(t, "client", "tcp", to(f.vip, "81"), []string{"pod-a"}, []string{f.client})
		sees(t, "pod-b", "tcp", to(f.vip, "81"), []string{"far", "pod-a"}, nil)
	})
}

// TestS29MarksMeanNothingToOthers: any other bit of the mark may mean something to kube-proxy or a CNI. None of ours leaves with one.
func TestS29MarksMeanNothingToOthers(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		foreign(t, `nft -f - <<-'END'
			table inet others {
				chain kubelet { type filter hook output priority 0; meta mark and 0xffffe7ff != 0 drop; }
				chain proxy { type nat hook postrouting priority 100; meta mark and 0xffffe7ff != 0 masquerade; }
			}
			END`, "nft delete table inet others")
		b.hold(t, f.state(f.server(f.vip, "80", masquerade(datapath.Everybody), "pod-a", "far"),
			f.server(f.vip, "81", nil, "pod-a"), f.server(f.vip, "81", both(forInside, masquerade(datapath.Host)), "pod-a")))
		for _, ns := range []string{"client", "pod-b", "node"} {
			sees(t, ns, "tcp", to(f.vip, "80"), []string{"far", "pod-a"}, nil)
		}
		sees(t, "client", "tcp", to(f.vip, "81"), []string{"pod-a"}, []string{f.client})
		sees(t, "pod-b", "tcp", to(f.vip, "81"), []string{"pod-a"}, []string{f.pods["pod-b"]})
		sees(t, "node", "tcp", to(f.vip, "81"), []string{"pod-a"}, nil)
	})
}

// TestRestartTakesOverEverything: a new instance finds all that an old one wrote, also what its Services do not have any more.
func TestRestartTakesOverEverything(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		name, all := b.Name(), masquerade(datapath.Everybody)
		b.hold(t, f.state(f.server(f.anywhere(), "30080", all, "pod-a"), f.server(f.anywhere(), "30081", all, "pod-a"), f.server(f.vip, "80", nil, "pod-a"),
			f.server(f.vip, "80", both(forInside, all), "pod-a", "far"), f.server(f.vip2, "80", nil, "pod-a"), f.server(f.vip2, "80", both(forInside, all), "far"),
			f.server(f.node, "8090", all, "pod-a"), f.server(f.node, "8091", all, "pod-a")))
		c, d := connectTo(t, "pod-a", to(f.node, "30080")), connectTo(t, "pod-a", to(f.node, "8090"))
		b.restart(t, name)
		left := f.state(f.server(f.anywhere(), "30080", all, "pod-a"), f.server(f.vip, "80", nil, "pod-a"), f.server(f.vip, "80", both(forInside, all), "far"),
			f.server(f.node, "8090", all, "pod-a"))
		b.hold(t, left)
		for _, c := range []net.Conn{c, d} {
			if a, err := say(c, patience); err != nil || a.pod != "pod-a" {
				t.Errorf("the connection after the restart: %v, %v", a, err)
			}
		}
		sees(t, "node", "tcp", to(f.vip, "80"), []string{"far"}, nil)
		for _, port := range []string{"30081", "8091"} {
			if _, err := ask("client", "tcp", "", to(f.node, port), patience); !refused(err) {
				t.Errorf("port %s of before at the node's address: %v, want connection refused", port, err)
			}
		}
		before := b.Writes()
		b.hold(t, left)
		b.hold(t, left)
		if n := b.Writes() - before; n > 1 { // one to sweep up
			t.Errorf("%d writes for a state that was reached already", n)
		}
	})
}

// TestCleanupByAnotherProcess: what is to be removed is found in the kernel.
func TestCleanupByAnotherProcess(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		before := kernelDump(t)
		all := masquerade(datapath.Everybody)
		b.hold(t, f.state(f.server(f.anywhere(), "30080", all, "pod-a"), f.server(f.vip, "80", nil, "pod-a"), f.server(f.vip, "80", both(forInside, all), "far"),
			f.server(f.node, "8090", all, "pod-a")))
		if err := engine.Cleanup(context.Background(), link.ProcSys); err != nil {
			t.Fatal(err)
		}
		if after := kernelDump(t); after != before {
			t.Errorf("something is left. Before:\n%s\nafter:\n%s", before, after)
		}
	})
}

// TestTheNextEngineFindsWhatIsAtTheNodesAddress: nothing there is a VIP, and no route tells that an engine was here.
func TestTheNextEngineFindsWhatIsAtTheNodesAddress(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		name, at := b.Name(), to(f.node, "8090")
		for _, next := range engines() {
			b.hold(t, f.state(f.server(f.node, "8090", masquerade(datapath.Everybody), "pod-a")))
			mustAsk(t, "client", "tcp", at)
			b.restart(t, next)
			if next == name {
				mustAsk(t, "client", "tcp", at) // before it is told anything
			}
			b.hold(t, f.state())
			if a, err := ask("client", "tcp", "", at, patience); !refused(err) {
				t.Errorf("from %s to %s, the Service is gone: %v, %v; want connection refused", name, next, a, err)
			}
			b.restart(t, name)
		}
	})
}

func TestCounts(t *testing.T) {
	const asked = 3
	forEach(t, func(t *testing.T, b *bed, f family) {
		// Ports of no other test: a destination that was there before would have its counts from then.
		b.hold(t, f.state(f.server(f.vip, "8099", masquerade(datapath.Everybody), "pod-a"), f.server(f.anywhere(), "30099", masquerade(datapath.Everybody), "pod-b")))
		for range asked {
			mustAsk(t, "client", "tcp", to(f.vip, "8099"))
			mustAsk(t, "client", "tcp", to(f.node, "30099"))
		}
		counter := b.Engine.(interface {
			Counts(context.Context) ([]datapath.Count, error)
		})
		counts := map[string]datapath.Count{}
		complete := func() bool {
			return counts[f.pods["pod-a"]].Conns >= asked && counts[f.pods["pod-b"]].Conns >= asked
		}
		for deadline := time.Now().Add(patience); !complete() && time.Now().Before(deadline); { // IPVS adds up what its CPUs counted every two seconds
			all, err := counter.Counts(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range all {
				if port := c.Listener.Addr.Port(); port == 8099 || port == 30099 {
					counts[c.Destination.Addr().String()] = c
				}
			}
		}
		if len(counts) != 2 {
			t.Errorf("counts of %v, want them of two pods", counts)
		}
		for pod, c := range counts {
			if c.Conns != asked || c.Bytes < 500 || c.Bytes > 10000 {
				t.Errorf("%s at %s: %d connections, %d bytes; want %d and what six short packets have", pod, c.Listener, c.Conns, c.Bytes, asked)
			}
		}
	})
}

// TestCountsOfEndpointsThatComeAndGo: none of what an endpoint that stays or returns had before is counted again.
func TestCountsOfEndpointsThatComeAndGo(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		with := func(pods ...string) datapath.State { // UDP, whose destinations IPVS deletes at once
			return f.state(f.server(f.vip, "8098", both(udp, masquerade(datapath.Everybody)), pods...))
		}
		b.hold(t, with("pod-a", "pod-b"))
		const asked = 20
		for range asked {
			mustAsk(t, "client", "udp", to(f.vip, "8098"))
		}
		counter := b.Engine.(interface {
			Counts(context.Context) ([]datapath.Count, error)
		})
		var tally datapath.Tally
		read := func() (conns, bytes uint64) {
			all, err := counter.Counts(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			_, growth := tally.Add(all, time.Now())
			for _, c := range growth {
				if c.Listener.Addr.Port() == 8098 {
					conns, bytes = conns+c.Conns, bytes+c.Bytes
				}
			}
			return conns, bytes
		}
		at, _ := read()
		time.Sleep(2500 * time.Millisecond) // IPVS adds up what its CPUs counted every two seconds
		if late, _ := read(); at+late != asked {
			t.Fatalf("%d connections are counted, want %d", at+late, asked)
		}
		for _, pods := range [][]string{{"pod-b"}, {"pod-a"}, {"pod-a", "pod-b"}} {
			b.hold(t, with(pods...))
			if conns, bytes := read(); conns+bytes > 0 {
				t.Errorf("with %v: %d connections and %d bytes are new, though nobody has asked", pods, conns, bytes)
			}
		}
	})
}

// TestS77AMissingSchedulerIsReplaced, and S76: the scheduler of a living server is changed in place.
func TestS77AMissingSchedulerIsReplaced(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		by := func(name string) datapath.State {
			return f.state(f.server(f.vip, "80", both(masquerade(datapath.Everybody), func(v *datapath.VirtualServer) { v.Scheduler = name }), "pod-a", "far"))
		}
		b.hold(t, by("rr"))
		c := connectTo(t, "pod-a", to(f.vip, "80"))
		for _, name := range []string{"wrr", "lc", "wlc", "sh", "mh", "sed", "nq", "nosuch", "rr"} {
			b.hold(t, by(name))
			if slices.Contains([]string{"lc", "wlc", "sed", "nq"}, name) && b.Name() == "ipvs" {
				if a := mustAsk(t, "client", "tcp", to(f.vip, "80")); a.pod != "far" {
					t.Errorf("%s: %s answered, which has more connections than the other", name, a.pod)
				}
			} else {
				sees(t, "client", "tcp", to(f.vip, "80"), []string{"far", "pod-a"}, nil)
			}
			if a, err := say(c, patience); err != nil || a.pod != "pod-a" {
				t.Errorf("%s: the established connection: %v, %v", name, a, err)
			}
		}
	})
}

// TestShuffleOfStates plays states in random order on the real kernel; whatever came before, each behaves as it should.
func TestShuffleOfStates(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		all, local := masquerade(datapath.Everybody), masquerade(datapath.Nobody)
		cases := []struct {
			s    datapath.State
			from string
			at   string
			pods []string
		}{
			{f.state(f.server(f.vip, "80", all, "pod-a", "pod-b", "far")), "client", to(f.vip, "80"), []string{"far", "pod-a", "pod-b"}},
			{f.state(f.server(f.vip, "80", local, "pod-a")), "client", to(f.vip, "80"), []string{"pod-a"}},
			{f.state(f.server(f.vip, "80", silentVerdict), f.server(f.vip, "80", both(forInside, all), "pod-b", "far")), "node", to(f.vip, "80"), []string{"far", "pod-b"}},
			{f.state(f.server(f.vip2, "80", both(all, func(v *datapath.VirtualServer) { v.Affinity = time.Hour }), "pod-b")), "client", to(f.vip2, "80"), []string{"pod-b"}},
			{f.state(f.server(f.anywhere(), "30080", all, "pod-b", "far")), "client", to(f.node, "30080"), []string{"far", "pod-b"}},
			{f.state(f.server(f.vip, "80", both(all, func(v *datapath.VirtualServer) { v.Scheduler = "mh" }), "pod-a", "far")), "pod-b", to(f.vip, "80"), []string{"far", "pod-a"}},
			{f.state(), "", "", nil},
		}
		order := shuffled(t, len(cases), 2)
		for _, i := range order {
			c := cases[i]
			b.hold(t, c.s)
			if c.from == "" {
				continue
			}
			if sees(t, c.from, "tcp", c.at, c.pods, nil); t.Failed() {
				t.Fatalf("order %v, at %d", order, i)
			}
		}
	})
}

// shuffled returns each of n numbers so many times, in random order.
func shuffled(t *testing.T, n, times int) []int {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var out []int
	for i := range n * times {
		out = append(out, i%n)
	}
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func TestManyEndpoints(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		v := f.server(f.vip, "80", masquerade(datapath.Everybody), "pod-a")
		for i := range 250 { // as many as Kubernetes is tested with; all but one refuse weight
			a := netip.MustParseAddr(f.pods["far"]).AsSlice()
			a[len(a)-1] = byte(i + 3)
			addr, _ := netip.AddrFromSlice(a)
			v.Destinations = append(v.Destinations, datapath.Destination{Addr: netip.AddrPortFrom(addr, 8080), Weight: 1, Method: datapath.NAT})
		}
		slices.SortFunc(v.Destinations, func(a, b datapath.Destination) int { return a.Addr.Compare(b.Addr) })
		b.hold(t, f.state(v))
		v.Destinations = slices.Clone(v.Destinations)
		for i := range v.Destinations {
			if v.Destinations[i].Addr.String() != to(f.pods["pod-a"], "8080") {
				v.Destinations[i].Weight = 0
			}
		}
		b.hold(t, f.state(v))
		for range few {
			if a := mustAsk(t, "client", "tcp", to(f.vip, "80")); a.pod != "pod-a" {
				t.Fatalf("%s answered", a.pod)
			}
		}
	})
}
