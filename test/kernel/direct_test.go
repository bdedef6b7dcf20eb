//go:build kernel

package kernel

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/datapath/datapathtest"
	"github.com/fairlead-lb/fairlead/datapath/engine"
	"github.com/fairlead-lb/fairlead/lb"
)

// TestDirect is direct server return, in both families, where the kernel has what it needs. Engine nft has no tunnel, and the decider refuses.
func TestDirect(t *testing.T) {
	if *engineFlag == engine.NFT || *engineFlag == "" && len(engines()) == 1 {
		return
	}
	for _, f := range tierFamilies {
		t.Run(f.name, func(t *testing.T) {
			tr := newTier(t, f, engine.IPVS)
			for name, body := range map[string]func(*testing.T, *tier){"moves": outlivesMoves, "more than nat": isMoreThanNAT, "inside": insideIsPlain,
				"long packets": takesLongPackets, "forged packets": isNoWayIn, "removal": outlivesRemoval, "affinity and ranges": keepsAffinityAndRanges,
				"choices": choosesAsTheModel, "one comes": outlivesOneMore} {
				t.Run(name, func(t *testing.T) { body(t, tr) })
			}
		})
	}
}

// outlivesMoves: over three nodes one after the other, new speakers, and the loss of one of two that share the address.
func outlivesMoves(t *testing.T, tr *tier) {
	tr.sync(t, tr.service(nil), tr.everywhere())
	tr.receive(t, 0)
	tcp, byTCP := tr.open(t, "tcp", "80", 24, tr.family.client)
	udp, byUDP := tr.open(t, "udp", "80", 8, tr.family.client)
	for _, node := range []int{1, 2, 0} {
		tr.receive(t, node)
		if n, of := broken(tcp, byTCP, patience, every); n > 0 {
			t.Errorf("%d of %d TCP connections broke on the move to t%d", n, of, node+1)
		}
		if n, of := broken(udp, byUDP, patience, every); n > 0 {
			t.Errorf("%d of %d UDP flows broke on the move to t%d", n, of, node+1)
		}
	}
	tr.start(t, engine.IPVS) // all speakers are replaced
	tr.sync(t, tr.service(nil), tr.everywhere())
	if n, of := broken(tcp, byTCP, patience, every); n > 0 {
		t.Errorf("%d of %d TCP connections broke when the speakers were replaced", n, of)
	}
	tr.receive(t, 0, 1)
	more, byMore := tr.open(t, "tcp", "80", 12, tr.family.client)
	tcp, byTCP = append(tcp, more...), append(byTCP, byMore...)
	shell(t, "ip -n tlan link set p-t2 down")
	defer shell(t, "ip -n tlan link set p-t2 up")
	tr.receive(t, 0)
	n, of := broken(tcp, byTCP, patience, func(pod string) bool { return !strings.HasPrefix(pod, "q2") })
	if n > 0 || of == 0 {
		t.Errorf("%d of %d TCP connections to pods that live broke with the node t2", n, of)
	}
	t.Logf("%d of %d connections to pods that live go on", of-n, of)
}

// outlivesOneMore: an endpoint comes whose place is before all others, which the kernel has to get anew for that.
func outlivesOneMore(t *testing.T, tr *tier) {
	svc := tr.service(on(97, nil))
	tr.sync(t, svc, tr.everywhere()[1:])
	tr.receive(t, 0)
	conns, by := tr.open(t, "tcp", "97", 20, "")
	tr.sync(t, svc, tr.everywhere())
	if n, of := broken(conns, by, patience, every); n > 0 {
		t.Errorf("%d of %d connections broke when an endpoint came", n, of)
	}
	if _, by := tr.open(t, "tcp", "97", 40, ""); !slices.Contains(by, "q11") {
		t.Errorf("the new one has none of 40 connections: %v", by)
	}
}

// isMoreThanNAT: the same move with method nat.
func isMoreThanNAT(t *testing.T, tr *tier) {
	tr.sync(t, tr.service(on(83, func(s *lb.Service) { s.Forwarding = lb.NAT })), tr.everywhere())
	tr.receive(t, 0)
	conns, by := tr.open(t, "tcp", "83", 6, "")
	tr.receive(t, 1)
	if n, of := broken(conns, by, short, every); n != of {
		t.Errorf("with nat, %d of %d connections broke: is this the move that the others survive?", n, of)
	}
}

// insideIsPlain: pods and the nodes are served too, whichever node they are on, by all endpoints in turn.
func insideIsPlain(t *testing.T, tr *tier) {
	tr.sync(t, tr.service(nil), tr.everywhere())
	tr.receive(t, 0)
	for _, ns := range []string{"q11", "q22", "t1", "t3"} {
		seen := map[string]bool{}
		for range 6 {
			a, err := ask(ns, "tcp", "", tr.at("80"), patience)
			if err != nil {
				t.Fatalf("from %s: %v", ns, err)
			}
			seen[a.pod] = true
		}
		if len(seen) != 6 {
			t.Errorf("%s reached %v only", ns, seen)
		}
		if _, err := ask(ns, "udp", "", tr.at("80"), patience); err != nil {
			t.Errorf("UDP from %s: %v", ns, err)
		}
	}
}

// takesLongPackets: through the tunnel both ways, with a client that hears no ICMP; and what routers say of long datagrams is heard.
func takesLongPackets(t *testing.T, tr *tier) {
	tr.sync(t, tr.service(on(85, nil)), tr.everywhere()[len(tr.everywhere())/3:]) // none at t1, which receives
	tr.receive(t, 0)
	learns(t, tr)
	hears(t, tr)
	shell(t, "ip -n tc route flush cache; ip -n tc -6 route flush cache; ip netns exec tc nft 'add table inet deaf; "+
		"add chain inet deaf in { type filter hook input priority 0; }; add rule inet deaf in icmp type destination-unreachable drop; "+
		"add rule inet deaf in icmpv6 type packet-too-big drop'")
	defer shell(t, "ip netns exec tc nft delete table inet deaf")
	carries(t, tr, 2<<20)
}

// learns sends a datagram of 1500 bytes that may not be cut until the client knows better.
func learns(t *testing.T, tr *tier) {
	t.Helper()
	header, want, level, discover, do, mtu := 28, 1480, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO, unix.IP_MTU
	if tr.family.name == "IPv6" {
		header, want, level, discover, do, mtu = 48, 1460, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO, unix.IPV6_MTU
	}
	c, err := dial("tc", "udp", tr.family.client, tr.at("85"), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	now := 1500
	_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, discover, do) })
	for deadline := time.Now().Add(patience); err == nil && now == 1500 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		_, _ = c.Write(make([]byte, 1500-header)) // refused once the client knows
		_ = raw.Control(func(fd uintptr) { now, err = unix.GetsockoptInt(int(fd), level, mtu) })
	}
	if err != nil || now != want {
		t.Errorf("packets may be %d bytes long, %v; want %d", now, err, want)
	}
}

// hears tells the pod of a flow, by way of the address, that a router on its way to the client takes 1300 bytes at most.
func hears(t *testing.T, tr *tier) {
	t.Helper()
	c, err := dial("tc", "udp", tr.family.client, tr.at("85"), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a, err := say(c, patience)
	if err != nil {
		t.Fatal(err)
	}
	from, vip, client := c.LocalAddr().(*net.UDPAddr).AddrPort(), netip.MustParseAddrPort(tr.at("85")), netip.MustParseAddr(tr.family.client)
	message := tooLong(client, vip.Addr(), datagram(vip, netip.AddrPortFrom(client, from.Port()), []byte("long")), 1300)
	if err := within("tc", func() error { return sendRaw(vip.Addr(), message) }); err != nil {
		t.Fatal(err)
	}
	route := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if route = shell(t, "ip -n "+a.pod+" route get "+tr.family.client); strings.Contains(route, "mtu 1300") {
			shell(t, "ip -n "+a.pod+" route flush cache; ip -n "+a.pod+" -6 route flush cache")
			return
		}
	}
	t.Errorf("%s has not heard how long its packets may be: %s", a.pod, route)
}

// carries sends so many bytes and fetches so many.
func carries(t testing.TB, tr *tier, size int64) {
	t.Helper()
	for _, way := range []string{"up", "down"} {
		c, err := dial("tc", "tcp", tr.family.client, tr.at("86"), patience)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := move(c, way, size); err != nil || n != size {
			t.Errorf("%s: %d of %d bytes arrived as they were sent, %v", way, n, size, err)
		}
	}
}

// move sends or fetches the pattern and returns how much of it arrived.
func move(c net.Conn, way string, size int64) (n int64, err error) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Minute))
	fmt.Fprintf(c, "%-16s", fmt.Sprintf("%s %d", way, size))
	if way == "down" {
		return io.CopyN(&pattern{}, c, size)
	}
	if _, err = io.CopyN(c, &pattern{}, size); err == nil {
		err = c.(*net.TCPConn).CloseWrite()
	}
	if err == nil {
		_, err = fmt.Fscan(c, &n)
	}
	return n, err
}

// isNoWayIn: of what is not from a node nothing is unwrapped, and of what is, nothing that no Service exposes. What the speakers ask each other
// is heard.
func isNoWayIn(t *testing.T, tr *tier) {
	f := tr.family
	tr.sync(t, tr.service(nil), tr.everywhere())
	tr.receive(t, 0)
	pod, node := fmt.Sprintf(f.pod, 2, 1), fmt.Sprintf(f.node, 2)
	device := datapath.TunnelDevice(netip.MustParseAddr(f.vip)).Addr.String()
	via := "ip -n tc "
	if f.name == "IPv6" {
		via += "-6 "
	}
	shell(t, via+"route replace "+pod+" via "+node+"; "+via+"route replace "+device+" via "+node)
	defer shell(t, via+"route del "+pod+"; "+via+"route del "+device)
	var wg sync.WaitGroup
	for _, c := range []struct {
		what, outerFrom, outerTo, to string
		answered                     bool
	}{
		{"as another node sends it", fmt.Sprintf(f.node, 3), pod, tr.at("80"), true},
		{"from the client", f.client, pod, tr.at("80"), false},
		{"from another pod", fmt.Sprintf(f.pod, 3, 1), pod, tr.at("80"), false},
		{"to the node", f.client, node, tr.at("80"), false},
		{"to the node, from a node", fmt.Sprintf(f.node, 3), node, tr.at("80"), false},
		{"to the device", f.client, device, tr.at("80"), false},
		{"to the device, from a node", fmt.Sprintf(f.node, 3), device, tr.at("80"), false},
		{"for a port that is not exposed", fmt.Sprintf(f.node, 3), pod, tr.at("8080"), false},
		{"for the pod itself", fmt.Sprintf(f.node, 3), pod, net.JoinHostPort(pod, "8080"), false},
		{"for another pod", fmt.Sprintf(f.node, 3), pod, net.JoinHostPort(fmt.Sprintf(f.pod, 2, 2), "8080"), false},
	} {
		wg.Go(func() {
			got, err := injected(f, c.outerFrom, c.outerTo, c.to, map[bool]time.Duration{true: patience, false: short}[c.answered])
			if err != nil || got != c.answered {
				t.Errorf("a datagram %s is answered: %v, %v", c.what, got, err)
			}
		})
	}
	wg.Wait()
	tr.probed(t)
}

// injected sends a datagram of the client for to, wrapped, and reports whether anybody answers.
func injected(f tierFamily, outerFrom, outerTo, to string, wait time.Duration) (answered bool, err error) {
	var c net.PacketConn
	err = within("tc", func() (err error) {
		c, err = net.ListenPacket("udp", net.JoinHostPort(f.client, "0"))
		return err
	})
	if err != nil {
		return false, err
	}
	defer c.Close()
	from := c.LocalAddr().(*net.UDPAddr).AddrPort()
	inner := datagram(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), netip.MustParseAddrPort(to), []byte("hello\n"))
	packet := wrap(netip.MustParseAddr(outerFrom), netip.MustParseAddr(outerTo), inner)
	if err := within("tc", func() error { return sendRaw(netip.MustParseAddr(outerTo), packet) }); err != nil {
		return false, err
	}
	_ = c.SetReadDeadline(time.Now().Add(wait))
	_, _, err = c.ReadFrom(make([]byte, 100))
	return err == nil, nil
}

// outlivesRemoval: while an endpoint drains nothing breaks, its own connections neither; when it has gone, only what was its, and on the next
// move what the model says.
func outlivesRemoval(t *testing.T, tr *tier) {
	svc := tr.service(on(87, nil))
	tr.sync(t, svc, tr.everywhere())
	tr.receive(t, 0)
	conns, by := tr.open(t, "tcp", "87", 120, tr.family.client)
	stays := func(pod string) bool { return pod != "q21" }
	var drained, gone []lb.Endpoint
	for i := range 6 {
		if node, pod := i/2+1, i%2+1; node != 2 || pod != 1 {
			drained, gone = append(drained, tr.endpoint(node, pod, "rs")...), append(gone, tr.endpoint(node, pod, "rs")...)
		} else {
			drained = append(drained, tr.endpoint(node, pod, "st")...)
		}
	}
	for range 3 {
		tr.sync(t, svc, drained)
	}
	if n, of := broken(conns, by, patience, every); n > 0 {
		t.Errorf("%d of %d connections broke while an endpoint drained", n, of)
	}
	for range 8 {
		if a, err := ask("tc", "tcp", tr.family.client, tr.at("87"), patience); err != nil || a.pod == "q21" {
			t.Errorf("a new connection while q21 drains: %v, %v", a, err)
		}
	}
	tr.receive(t, 1)
	if n, of := broken(conns, by, patience, stays); n > 0 {
		t.Errorf("%d of %d connections to other endpoints broke on a move while one drained", n, of)
	}
	tr.sync(t, svc, gone)
	tr.now = tr.now.Add(datapath.Grace)
	tr.sync(t, svc, gone)
	if n, of := broken(conns, by, patience, stays); n > 0 {
		t.Errorf("%d of %d connections to other endpoints broke when one had gone", n, of)
	}
	tr.receive(t, 2)
	want := tr.moved(conns, by, "q21", "q3")
	n, of := broken(conns, by, patience, stays)
	t.Logf("after a removal and a move %d of %d connections to other endpoints broke", n, of)
	if n != want {
		t.Errorf("after a removal and a move %d of %d connections to other endpoints broke, want %d as the model has it", n, of, want)
	}
}

// moved is how many of the connections to pods other than one come to another pod when that one is no longer there: those that now belong to
// pods of the node that receives, whose names begin with own, and did not before. The other nodes have received them once, and remember.
func (tr *tier) moved(conns []net.Conn, by []string, gone, own string) (n int) {
	var pods []string
	var addrs []netip.AddrPort
	for i := range 6 {
		if pod := fmt.Sprintf("q%d%d", i/2+1, i%2+1); pod != gone {
			pods, addrs = append(pods, pod), append(addrs, tr.endpoint(i/2+1, i%2+1, "")[0].Addr)
		}
	}
	model := datapathtest.NewMaglev(addrs)
	for i, c := range conns {
		from := c.LocalAddr().(*net.TCPAddr).AddrPort()
		client := netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		to := pods[model.Choose(client, func(int) bool { return true })]
		if by[i] != gone && !strings.HasPrefix(by[i], own) && strings.HasPrefix(to, own) {
			n++
		}
	}
	return n
}

// keepsAffinityAndRanges: of one client all connections to one pod, by any node; who is not in the ranges is not served by any.
func keepsAffinityAndRanges(t *testing.T, tr *tier) {
	tr.sync(t, tr.service(on(89, func(s *lb.Service) { s.SessionAffinity = time.Hour })), tr.everywhere())
	first := ""
	for i := range 6 {
		tr.receive(t, i%3)
		a, err := ask("tc", "tcp", tr.family.client, tr.at("89"), patience)
		if err != nil || first != "" && a.pod != first {
			t.Errorf("connection %d by t%d: %v, %v; want %s", i, i%3+1, a, err, first)
		}
		first = a.pod
	}
	other := netip.MustParsePrefix(map[string]string{"IPv4": "192.0.2.0/24", "IPv6": "2001:db8::/32"}[tr.family.name])
	tr.sync(t, tr.service(on(91, func(s *lb.Service) { s.SourceRanges = []netip.Prefix{other} })), tr.everywhere())
	if a, err := ask("tc", "tcp", tr.family.client, tr.at("91"), short); !silent(err) {
		t.Errorf("from outside the ranges: %v, %v", a, err)
	}
}
