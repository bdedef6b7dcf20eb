//go:build kernel

package kernel

import (
	"context"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/datapath/conntrack"
	"github.com/fairlead-lb/fairlead/lb"
)

// connectTo opens connections until one ends at pod, and returns it open.
func connectTo(t *testing.T, pod, to string) net.Conn {
	t.Helper()
	for range 200 {
		c, err := dial("client", "tcp", "", to, patience)
		if err != nil {
			t.Fatal(err)
		}
		a, err := say(c, patience)
		if err != nil {
			t.Fatal(err)
		}
		if a.pod == pod {
			t.Cleanup(func() { c.Close() })
			return c
		}
		c.Close()
	}
	t.Fatalf("no connection in 200 went to %s", pod)
	return nil
}

func TestEstablishedConnectionsOutliveTheirEndpoint(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		for name, after := range map[string]svc{
			"terminating": service(nil, "pod-a", "st", "pod-b"), "not ready": service(nil, "pod-a", "", "pod-b"), "removed": service(nil, "pod-b"),
			"the last one, not ready": service(nil, "pod-a", ""),
		} {
			b.sync(t, snapshot(service(nil, "pod-a", "pod-b")))
			c := connectTo(t, "pod-a", vip+":80")
			for range 3 {
				b.sync(t, snapshot(after))
				if a, err := say(c, patience); err != nil || a.pod != "pod-a" {
					t.Fatalf("%s: established connection: %v, %v", name, a, err)
				}
			}
			for range many {
				if a, err := ask("client", "tcp", "", vip+":80", patience); err == nil && a.pod == "pod-a" {
					t.Fatalf("%s: a new connection went to pod-a", name)
				}
			}
			c.Close()
		}
	})
}

func TestUDPFlowMovesWhenItsEndpointGoes(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		b.sync(t, snapshot(service(nil, "pod-a")))
		c, err := dial("client", "udp", "", vip+":80", patience)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for i, pod := range []string{"pod-a", "pod-b", "far", "pod-a"} {
			b.sync(t, snapshot(service(nil, pod)))
			a, err := say(c, patience)
			if err != nil || a.pod != pod {
				t.Fatalf("step %d: the flow is answered by %v, %v; want %s", i, a, err, pod)
			}
		}
	})
}

func TestServiceRemovalLeavesNothing(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		b.sync(t, lb.Snapshot{Forwards: true})
		empty := kernelDump(t)
		only := func(s *lb.Service) {
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
			s.SessionAffinity = time.Hour
		}
		b.sync(t, snapshot(service(only, "pod-a", "pod-b")))
		c := connectTo(t, mustAsk(t, "client", "tcp", vip+":80").pod, vip+":80")
		c.Close()
		deadline := time.Now().Add(10 * time.Second) // kernels before 6.2 let go of chains only after a while
		for {
			b.sync(t, lb.Snapshot{Forwards: true})
			exec.Command("nft", "flush", "set", "inet", "fairlead", "affinity4").Run() // who had affinity is forgotten in time, not at once
			now := kernelDump(t)
			if now == empty {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the Service left something behind. Before it:\n%s\nafter it:\n%s", empty, now)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if _, err := ask("client", "tcp", "", vip+":80", short); err == nil {
			t.Error("the VIP still answers")
		}
	})
}

func TestEqualStateWritesNothing(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		s := snapshot(service(nil, "pod-a", "pod-b", "far"))
		b.sync(t, s)
		before, ruleset := b.Writes(), kernelDump(t)
		for range 5 {
			b.sync(t, s)
		}
		if b.Writes() != before {
			t.Errorf("%d writes for a state that was reached already", b.Writes()-before)
		}
		if now := kernelDump(t); now != ruleset {
			t.Errorf("the kernel changed. Before:\n%s\nafter:\n%s", ruleset, now)
		}
	})
}

func TestRestartTakesOver(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		name := b.Name()
		gone := service(func(s *lb.Service) {
			s.Key.Name = "gone"
			s.Ingress[0].Addr = netip.MustParseAddr(vip2)
		}, "pod-a")
		b.sync(t, snapshot(gone, service(sticky, "pod-a", "pod-b", "far")))
		first := mustAsk(t, "client", "tcp", vip+":80").pod
		c := connectTo(t, first, vip+":80")

		b.restart(t, name)
		if a, err := say(c, patience); err != nil || a.pod != first {
			t.Fatalf("before the first sync of the new instance: %v, %v", a, err)
		}
		b.sync(t, snapshot(service(sticky, "pod-a", "pod-b", "far")))
		if a, err := say(c, patience); err != nil || a.pod != first {
			t.Errorf("the connection after the restart: %v, %v", a, err)
		}
		if p, _ := collect(t, "client", "tcp", vip+":80", many); len(p) != 1 || p[0] != first {
			t.Errorf("the client's affinity to %s became %v", first, p)
		}
		if strings.Contains(kernelDump(t), vip2) {
			t.Errorf("what was deleted during the restart is still there:\n%s", kernelDump(t))
		}
	})
}

func TestRepairsWhatOthersFlush(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		s := snapshot(service(nil, "pod-a", "pod-b"))
		b.sync(t, s)
		damages := []string{"nft flush ruleset", "nft delete table inet fairlead", "nft flush table inet fairlead"}
		if b.Name() == "ipvs" {
			damages = append(damages, "ipvsadm -C", "ip route flush table local proto 76")
		}
		for _, damage := range damages {
			if out, err := exec.Command("sh", "-c", damage).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", damage, err, out)
			}
			b.sync(t, s)
			for range 10 {
				mustAsk(t, "client", "tcp", vip+":80")
			}
			if _, err := ask("client", "tcp", "", vip+":2222", patience); !refused(err) {
				t.Errorf("after %s, another port: %v, want connection refused", damage, err)
			}
		}
	})
}

// TestTheOtherEngineTakesOver goes through all pairs of engines that the kernel offers.
func TestTheOtherEngineTakesOver(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		name := b.Name()
		for _, other := range engines() {
			b.sync(t, snapshot(service(nil, "pod-a", "pod-b")))
			b.restart(t, other)
			b.sync(t, snapshot(service(nil, "pod-a", "far")))
			if p, _ := collect(t, "client", "tcp", vip+":80", many); len(p) != 2 {
				t.Errorf("from %s to %s: %v answered", name, other, p)
			}
			b.restart(t, name)
		}
		b.sync(t, lb.Snapshot{Forwards: true}) // and Cleanup of this engine must leave nothing of the other
	})
}

func TestForeignThingsAreNotTouched(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		foreign := `nft add table inet other; nft add chain inet other c '{ type filter hook input priority 0; }'; nft add rule inet other c tcp dport 9 drop
			ip route add local 198.51.100.7 dev lo table local; ip addr add 198.51.100.8/32 dev lo`
		undo := `nft delete table inet other; ip route del local 198.51.100.7 dev lo table local; ip addr del 198.51.100.8/32 dev lo`
		if b.Name() == "ipvs" {
			foreign += "; ipvsadm -A -t 198.51.100.7:80 -s wrr; ipvsadm -a -t 198.51.100.7:80 -r 10.244.1.2:8080 -m; ipvsadm -A -f 7"
			undo += "; ipvsadm -D -t 198.51.100.7:80; ipvsadm -D -f 7"
		}
		sh := func(script string) {
			if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		sh(foreign)
		t.Cleanup(func() { sh(undo) })
		before := kernelDump(t)
		// S47: one of the addresses becomes a VIP as well, and stays when the VIP goes.
		b.sync(t, snapshot(service(func(s *lb.Service) {
			s.Ingress = append(s.Ingress, lb.Ingress{Addr: netip.MustParseAddr("198.51.100.8"), Mode: lb.ModeProxy})
		}, "pod-a")))
		mustAsk(t, "client", "tcp", vip+":80")
		b.sync(t, lb.Snapshot{Forwards: true})
		if err := b.Cleanup(context.Background()); err != nil {
			t.Fatal(err)
		}
		if after := kernelDump(t); after != before {
			t.Errorf("foreign things changed. Before:\n%s\nafter:\n%s", before, after)
		}
	})
}

func TestTheKernelNeverAnswersARPForAVIP(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		b.sync(t, snapshot(service(nil, "pod-a")))
		out, err := exec.Command("ip", "netns", "exec", "client", "arping", "-c", "2", "-w", "1", "-I", "eth0", vip).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "Received 0 response") && !strings.Contains(string(out), "0 packets received") {
			t.Errorf("arping: %v\n%s", err, out)
		}
	})
}

func TestPing(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		b.sync(t, snapshot(service(nil, "pod-a")))
		if out, err := exec.Command("ip", "netns", "exec", "client", "busybox", "ping", "-c", "1", "-W", "5", vip).CombinedOutput(); err != nil {
			t.Errorf("ping: %v\n%s", err, out)
		}
	})
}

// TestNoConnectionIsLostWhileEndpointsChange: pod-a serves all the time, everything else about the Service changes.
func TestNoConnectionIsLostWhileEndpointsChange(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		states := []svc{service(nil, "pod-a"), service(nil, "pod-a", "pod-b"), service(nil, "pod-a", "pod-b", "st", "far"), service(sticky, "pod-a", "far"),
			service(func(s *lb.Service) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }, "pod-a", "far", ""), service(local, "pod-a", "pod-b")}
		b.sync(t, snapshot(states[0]))
		ctx, stop := context.WithTimeout(context.Background(), 3*time.Second)
		defer stop()
		var asked, lost int
		var wg sync.WaitGroup
		wg.Go(func() {
			for ctx.Err() == nil {
				asked++
				if _, err := ask("client", "tcp", "", vip+":80", patience); err != nil {
					lost++
					t.Logf("lost: %v", err)
				}
			}
		})
		syncs := 0
		for ; ctx.Err() == nil; syncs++ {
			b.now = b.now.Add(time.Second)
			if _, err := b.Sync(context.Background(), datapath.Desired(snapshot(states[syncs%len(states)])), b.now); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
		t.Logf("%d connections during %d changes", asked, syncs)
		if lost > 0 || asked == 0 {
			t.Errorf("%d of %d connections lost", lost, asked)
		}
	})
}

// TestTheTableCanBeListedWhileItChanges: an operator's `nft list ruleset` prints what is there at any time.
func TestTheTableCanBeListedWhileItChanges(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		all := masquerade(datapath.Everybody)
		last := func(v *datapath.VirtualServer) { v.Affinity = time.Hour }
		ranges := func(v *datapath.VirtualServer) { v.SourceRanges = []netip.Prefix{netip.MustParsePrefix(f.podRange)} }
		states := []datapath.State{
			f.state(f.server(f.vip, "80", both(all, last), "pod-a", "pod-b", "far"), f.server(f.vip2, "80", both(all, last, ranges), "pod-a")),
			f.state(f.server(f.vip, "80", both(all, ranges), "pod-a"), f.server(f.vip, "80", both(forInside, all), "pod-b", "far")),
			f.state(f.server(f.anywhere(), "30080", both(all, last), "pod-b", "far")),
			f.state(),
		}
		ctx, cancel := context.WithCancel(t.Context())
		lists := make(chan int)
		go func() {
			n := 0
			for ; ctx.Err() == nil; n++ {
				if out, err := exec.Command("nft", "list", "ruleset").CombinedOutput(); err != nil {
					t.Errorf("list %d: %v: %s", n, err, out[max(0, len(out)-300):])
					break
				}
			}
			lists <- n
		}()
		for i := range 20 * len(states) {
			b.hold(t, states[i%len(states)])
		}
		cancel()
		t.Logf("%d lists", <-lists)
	})
}

// TestOpenConnectionsAreCounted, at the endpoint that carries them and until they end.
func TestOpenConnectionsAreCounted(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		s := f.state(f.server(f.vip, "8098", masquerade(datapath.Everybody), "pod-a"))
		b.hold(t, s)
		open := func() (n int) {
			t.Helper()
			counts, err := conntrack.New().Open(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			for c, of := range counts {
				if c.Destination.Addr().String() != f.pods["pod-a"] || c.Listener.Addr.Port() != 8098 {
					t.Errorf("%d connections at %s of %s", of, c.Destination, c.Listener)
				}
				n += of
			}
			return n
		}
		c, err := dial("client", "tcp", "", to(f.vip, "8098"), short)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := say(c, short); err != nil {
			t.Fatal(err)
		}
		if n := open(); n != 1 {
			t.Errorf("%d connections are open, want 1", n)
		}
		c.Close()
		for deadline := time.Now().Add(patience); open() != 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the only connection was closed and still counts")
			}
		}
	})
}
