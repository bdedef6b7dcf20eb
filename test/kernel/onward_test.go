//go:build kernel

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/lb"
)

// TestOnward is about connections by nat whose packets come to another node all of a sudden, in both families.
func TestOnward(t *testing.T) {
	for _, name := range tested() {
		for _, f := range tierFamilies {
			t.Run(name+"/"+f.name, func(t *testing.T) {
				tr := newTier(t, f, name)
				tr.meet(t, 1, 2, 3)
				noPodSeesBits(t)
				if name == "nft" { // with IPVS it is open
					t.Run("used ports", func(t *testing.T) { keepsThoseFromUsedPorts(t, tr) })
				}
				for _, c := range []struct {
					name string
					body func(*testing.T, *tier)
				}{{"moves", keepsMoved}, {"shared", keepsShared}, {"local", keepsLocal}, {"transfers", keepsTransfers}, {"new speakers", keepsWithNewSpeakers},
					{"ends", keepsEnds}, {"death", keepsThoseOfTheLiving}, {"flush", keepsAfterFlush}, {"one station", keepsBehindOneStation}, {"a stranger's bits", servesNoStranger}, {"nobody's", refusesNobodys}} {
					t.Run(c.name, func(t *testing.T) { c.body(t, tr) })
				}
				tr.start(t, name) // so that Cleanup is that of a process which knows nothing
			})
		}
	}
}

// meet has the nodes know each other, those of them that are named by their numbers.
func (tr *tier) meet(t testing.TB, nodes ...int) {
	t.Helper()
	tr.relays = nil
	for i := range tr.engines {
		inNode(t, i, func() error {
			eth0, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			tr.index[i] = eth0.Attrs().Index
			if slices.Contains(nodes, i+1) {
				tr.relays = append(tr.relays, lb.Relay{Node: lb.NodeName(fmt.Sprintf("t%d", i+1)), News: tr.engines[0].Name() == "nft"})
			}
			return nil
		})
	}
}

// noPodSeesBits has the pods drop packets with what nodes tell each other in the TCP header, and count them until the end of the test.
func noPodSeesBits(t *testing.T) {
	t.Helper()
	shell(t, inPods+"nft 'table inet watch { chain in { type filter hook input priority 0; meta l4proto tcp @th,100,3 != 0 counter drop; }; }'; done")
	t.Cleanup(func() {
		if seen := bitsInPods(t); seen != "" {
			t.Errorf("pods saw packets as nodes hand them on:\n%s", seen)
		}
		shell(t, inPods+"nft delete table inet watch; done")
	})
}

const inPods = "for q in q11 q12 q21 q22 q31 q32; do ip netns exec $q "

// bitsInPods returns what pods have counted since noPodSeesBits, "" if nothing.
func bitsInPods(t *testing.T) string {
	t.Helper()
	return shell(t, inPods+"nft list table inet watch; done | grep -o 'packets [1-9].*' || true")
}

func byNAT(port uint16, edit func(*lb.Service)) func(*lb.Service) {
	return on(port, func(s *lb.Service) {
		s.Forwarding = lb.NAT
		if edit != nil {
			edit(s)
		}
	})
}

// keepsMoved: from node to node and back, twice, with more connections opened everywhere.
func keepsMoved(t *testing.T, tr *tier) {
	tr.sync(t, tr.service(byNAT(180, nil)), tr.everywhere())
	var conns []net.Conn
	var by []string
	for _, node := range []int{0, 1, 2, 0, 2, 1} {
		tr.receive(t, node)
		if n, of := broken(conns, by, patience, every); n > 0 {
			t.Errorf("%d of %d connections broke on the move to t%d", n, of, node+1)
		}
		more, byMore := tr.open(t, "tcp", "180", 8, "")
		conns, by = append(conns, more...), append(by, byMore...)
	}
	for i, e := range tr.engines {
		inNode(t, i, func() error {
			n, err := e.(interface{ HandedOn() (uint64, error) }).HandedOn()
			if err == nil && n == 0 {
				err = fmt.Errorf("t%d says that it has handed on nothing", i+1)
			}
			return err
		})
	}
}

// keepsShared: a router spreads connections over three nodes, and anew when one leaves and returns.
func keepsShared(t *testing.T, tr *tier) {
	tr.sync(t, tr.service(byNAT(182, nil)), tr.everywhere())
	tr.receive(t, 0, 1, 2)
	conns, by := tr.open(t, "tcp", "182", 60, "")
	for _, nodes := range [][]int{{1, 2}, {0, 1, 2}, {0, 2}, {2, 1, 0}, {0, 1}} {
		tr.receive(t, nodes...)
		if n, of := broken(conns, by, patience, every); n > 0 {
			t.Errorf("%d of %d connections broke when the nodes were %v", n, of, nodes)
		}
	}
}

// keepsLocal: with the client's address kept, and no endpoint on the node where the packets come now.
func keepsLocal(t *testing.T, tr *tier) {
	local := byNAT(184, func(s *lb.Service) { s.ExternalTrafficPolicy = lb.Local })
	tr.sync(t, tr.service(local), slices.Concat(tr.endpoint(1, 1, "rs"), tr.endpoint(2, 1, "rs")))
	tr.receive(t, 0)
	conns, by := tr.open(t, "tcp", "184", 6, tr.family.client)
	for _, node := range []int{1, 2} {
		tr.receive(t, node)
		if n, of := broken(conns, by, patience, every); n > 0 {
			t.Errorf("%d of %d connections broke on the move to t%d", n, of, node+1)
		}
	}
}

// keepsTransfers: long segments in both directions, while the address moves all the time.
func keepsTransfers(t *testing.T, tr *tier) {
	const size = 64 << 20
	tr.sync(t, tr.service(byNAT(186, nil)), tr.everywhere())
	tr.receive(t, 0)
	var wg sync.WaitGroup
	for _, way := range []string{"up", "down", "up", "down"} {
		c, err := dial("tc", "tcp", tr.family.client, tr.at("187"), patience)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if n, err := move(c, way, size); err != nil || n != size {
				t.Errorf("%s: %d of %d bytes arrived as they were sent, %v", way, n, size, err)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	moves := 0
	for running := true; running; moves++ {
		tr.receive(t, (moves+1)%3)
		select {
		case <-done:
			running = false
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Logf("%d moves", moves)
}

// keepsEnds: what a client says with the packet that ends its half of the connection, or all of it, arrives.
func keepsEnds(t *testing.T, tr *tier) {
	tr.sync(t, tr.service(byNAT(196, nil)), tr.everywhere())
	tr.receive(t, 0)
	var conns []net.Conn
	for range 6 {
		c, err := dial("tc", "tcp", tr.family.client, tr.at("197"), patience)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "%-16s", "up 0")
		conns = append(conns, c)
	}
	for i, c := range conns {
		tr.receive(t, 1+i%2)
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		var n int
		if _, err := fmt.Fscan(c, &n); err != nil {
			t.Errorf("connection %d: %v after the end of what the client has to say", i, err)
		}
	}
}

// keepsThoseFromUsedPorts: the node where a connection's packets come remembers an earlier one, from the same port of the client.
func keepsThoseFromUsedPorts(t *testing.T, tr *tier) {
	tr.sync(t, tr.service(byNAT(176, nil)), tr.everywhere())
	ports := []uint16{21000, 21001, 21002, 21003, 21004, 21005}
	for _, node := range []int{0, 2} {
		tr.receive(t, node)
		for _, port := range ports {
			c := tr.dialFrom(t, port, "177")
			fmt.Fprintf(c, "%-16s", "down 0")
			if b, err := io.ReadAll(c); len(b) > 0 || err != nil { // the pod's end comes first, so that the client may use the port at once
				t.Fatalf("%q, %v", b, err)
			}
			c.Close()
		}
	}
	tr.receive(t, 1)
	tr.forgets(t, ports[0])
	var conns []*net.TCPConn
	for _, port := range ports[1:] {
		c := tr.dialFrom(t, port, "177")
		fmt.Fprintf(c, "%-16s", "up")
		conns = append(conns, c)
	}
	for i, c := range conns {
		p := &pattern{}
		for _, node := range []int{2 * (i % 2), 1, 2 - 2*(i%2)} {
			tr.receive(t, node)
			if _, err := io.CopyN(c, p, 1000); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		var n int
		if _, err := fmt.Fscan(c, &n); err != nil || n != 3000 {
			t.Errorf("from port %d: %d of 3000 bytes arrived, %v", ports[1+i], n, err)
		}
	}
}

// forgets: of a first packet with a checksum, as a network card hands them over, the second node tells the third, and that forgets the connection
// that it remembers. The first one has forgotten its own already, when the third got one from the same port.
func (tr *tier) forgets(t *testing.T, port uint16) {
	t.Helper()
	flows := func(node int) (n int) {
		inNode(t, node, func() error {
			list, err := netlink.ConntrackTableList(netlink.ConntrackTable, map[string]netlink.InetFamily{"IPv4": netlink.FAMILY_V4, "IPv6": netlink.FAMILY_V6}[tr.family.name])
			for _, f := range list {
				if f.Forward.SrcPort == port && f.Forward.DstPort == 177 {
					n++
				}
			}
			return err
		})
		return n
	}
	if n, m := flows(0), flows(2); n != 0 || m != 1 {
		t.Fatalf("t1 and t3 remember %d and %d connections from port %d, want none and one", n, m, port)
	}
	from, to := netip.AddrPortFrom(netip.MustParseAddr(tr.family.client), port), netip.MustParseAddrPort(tr.at("177"))
	err := within("tc", func() error {
		return sendRaw(to.Addr(), ip(from.Addr(), to.Addr(), unix.IPPROTO_TCP, syn(from, to)))
	})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); flows(2) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("t3 still remembers the connection from port %d", port)
		}
	}
}

// dialFrom opens a connection from a port of the client, which closes at the end of the test.
func (tr *tier) dialFrom(t *testing.T, from uint16, to string) *net.TCPConn {
	t.Helper()
	c, err := dial("tc", "tcp", net.JoinHostPort(tr.family.client, fmt.Sprint(from)), tr.at(to), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// keepsThoseOfTheLiving: of connections that three nodes share one node dies, and the router spreads the rest anew.
func keepsThoseOfTheLiving(t *testing.T, tr *tier) {
	svc, eps := tr.service(byNAT(198, nil)), tr.everywhere()[len(tr.everywhere())/3:] // none of them at t1
	tr.sync(t, svc, eps)
	tr.receive(t, 0, 1, 2)
	dead := fmt.Sprintf(tr.family.node, 1)
	var conns []net.Conn // through the others
	var by []string
	const all = 60
	for range all {
		c, err := dial("tc", "tcp", tr.family.client, tr.at("198"), patience)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		a, err := say(c, patience)
		if err != nil {
			t.Fatal(err)
		}
		if a.client != dead { // masqueraded: the node
			conns, by = append(conns, c), append(by, a.pod)
		}
	}
	shell(t, "ip -n tlan link set p-t1 down")
	met := tr.relays
	defer func() {
		tr.relays = met
		shell(t, "ip -n tlan link set p-t1 up")
	}()
	tr.relays = met[1:]
	tr.syncOne(t, 1, svc, eps)
	tr.syncOne(t, 2, svc, eps)
	tr.receive(t, 1, 2)
	if n, of := broken(conns, by, patience, every); n > 0 || of == 0 || of == all {
		t.Errorf("%d of %d connections through nodes that live broke, of %d in all", n, of, all)
	}
}

// keepsWithNewSpeakers: processes that have not met each other yet change nothing.
func keepsWithNewSpeakers(t *testing.T, tr *tier) {
	svc := tr.service(byNAT(188, nil))
	tr.sync(t, svc, tr.everywhere())
	tr.receive(t, 2)
	conns, by := tr.open(t, "tcp", "188", 6, "")
	tr.receive(t, 1)
	met := tr.relays
	tr.relays = nil
	tr.start(t, tr.engines[0].Name())
	tr.sync(t, svc, tr.everywhere())
	if n, of := broken(conns, by, patience, every); n > 0 {
		t.Errorf("%d of %d connections broke when the speakers were replaced", n, of)
	}
	tr.relays = met
	tr.sync(t, svc, tr.everywhere())
	if n, of := broken(conns, by, patience, every); n > 0 {
		t.Errorf("%d of %d connections broke when the new speakers had met", n, of)
	}
}

// keepsAfterFlush: somebody deletes the tables that hand packets on, or all tables.
func keepsAfterFlush(t *testing.T, tr *tier) {
	svc := tr.service(byNAT(190, nil))
	tr.sync(t, svc, tr.everywhere())
	family := map[string]string{"IPv4": "ip", "IPv6": "ip6"}[tr.family.name]
	for _, command := range []string{"delete table " + family + " fairlead", "flush ruleset"} {
		tr.receive(t, 0)
		conns, by := tr.open(t, "tcp", "190", 3, "")
		shell(t, "ip netns exec t2 nft "+command)
		tr.now = tr.now.Add(time.Second)
		tr.sync(t, svc, tr.everywhere())
		tr.receive(t, 1)
		if n, of := broken(conns, by, patience, every); n > 0 {
			t.Errorf("%d of %d connections broke after %q", n, of, command)
		}
	}
}

// keepsBehindOneStation: the network between the nodes gives all frames the same sender. What nobody knows comes to each node all the same, to
// none but the first one twice, and arrives there whole.
func keepsBehindOneStation(t *testing.T, tr *tier) {
	shell(t, `ip netns exec tlan nft 'table bridge rewrite {
		chain in { type filter hook prerouting priority 0; tcp sport 20999 counter; tcp dport 20999 tcp flags & rst == rst counter; }
		chain out { type filter hook postrouting priority 0; ether saddr set 02:00:00:00:00:99; }
	}'`)
	defer shell(t, "ip netns exec tlan nft delete table bridge rewrite")
	tr.sync(t, tr.service(byNAT(178, nil)), tr.everywhere())
	for _, nodes := range [][2]int{{2, 0}, {1, 0}, {0, 2}} {
		tr.receive(t, nodes[0])
		conns, by := tr.open(t, "tcp", "178", 3, "")
		tr.receive(t, nodes[1])
		if n, of := broken(conns, by, patience, every); n > 0 {
			t.Errorf("%d of %d connections broke on the move from t%d to t%d", n, of, nodes[0]+1, nodes[1]+1)
		}
	}
	from, to := netip.AddrPortFrom(netip.MustParseAddr(tr.family.client), 20999), netip.MustParseAddrPort(tr.at("178"))
	stray := syn(from, to)
	stray[13], stray[16], stray[17] = 0x10, 0, 0
	binary.BigEndian.PutUint16(stray[16:], checksum(from.Addr(), to.Addr(), stray))
	if err := within("tc", func() error { return sendRaw(to.Addr(), ip(from.Addr(), to.Addr(), unix.IPPROTO_TCP, stray)) }); err != nil {
		t.Fatal(err)
	}
	frames := func() string {
		return strings.Join(strings.Fields(shell(t, "ip netns exec tlan nft list chain bridge rewrite in | grep -o 'packets [0-9]*'")), " ")
	}
	const want = "packets 4 packets 1" // to t3, which asks t1, which asks t2, which asks t3, which refuses it
	for deadline := time.Now().Add(patience); frames() != want && time.Now().Before(deadline); {
	}
	time.Sleep(50 * time.Millisecond) // for frames that must not come: a hop takes 10 µs
	if got := frames(); got != want {
		t.Errorf("frames with the packet, and with the reset: %s, want %s", got, want)
	}
}

// servesNoStranger: who sets the bits himself gets past nothing.
func servesNoStranger(t *testing.T, tr *tier) {
	tr.sync(t, tr.service(byNAT(182, func(s *lb.Service) {
		s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8:9::/48")}
	})), tr.everywhere())
	to := netip.MustParseAddrPort(tr.at("182"))
	for node := range tr.engines {
		tr.receive(t, node)
		for port := range uint16(6) {
			from := netip.AddrPortFrom(netip.MustParseAddr(tr.family.client), 22000+port)
			first := syn(from, to)
			first[12], first[16], first[17] = first[12]|0x0e, 0, 0
			binary.BigEndian.PutUint16(first[16:], checksum(from.Addr(), to.Addr(), first))
			if err := within("tc", func() error { return sendRaw(to.Addr(), ip(from.Addr(), to.Addr(), unix.IPPROTO_TCP, first)) }); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(100 * time.Millisecond) // for packets that must not come: a hop takes 10 µs, in a VM less than a millisecond
		if seen := bitsInPods(t); seen != "" {
			t.Errorf("through t%d a client who is in none of the ranges came to a pod: %s", node+1, seen)
		}
	}
}

// refusesNobodys: a connection through a node that is gone ends with a reset from the others, however many they are, also where none of them
// would serve a new one; so does one that never was.
func refusesNobodys(t *testing.T, tr *tier) {
	met := tr.relays
	defer func() { tr.relays = met }()
	for port, edit := range map[uint16]func(*lb.Service){192: nil, 194: func(s *lb.Service) { s.ExternalTrafficPolicy = lb.Local }} {
		svc := tr.service(byNAT(port, edit))
		tr.relays = met
		eps := slices.Concat(tr.endpoint(1, 1, "rs"), tr.endpoint(1, 2, "rs"))
		tr.sync(t, svc, eps)
		tr.receive(t, 0)
		conns, _ := tr.open(t, "tcp", fmt.Sprint(port), 2, "")
		tr.relays = met[1:]
		tr.syncOne(t, 1, svc, eps)
		tr.syncOne(t, 2, svc, eps)
		tr.receive(t, 1+rand.IntN(2))
		for _, c := range conns {
			if _, err := say(c, patience); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("port %d: a connection through the node that is gone: %v, want a reset", port, err)
			}
		}
	}
	var log strings.Builder
	for i, e := range tr.engines[1:] { // and what a walk leaves behind in conntrack is nothing
		inNode(t, i+1, func() error {
			flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
			for _, f := range flows {
				if p := f.Forward.DstPort; p == 192 || p == 194 {
					fmt.Fprintln(&log, i+2, e.Name(), f)
				}
			}
			return err
		})
	}
	if log.Len() > 0 {
		t.Errorf("flows that nobody has:\n%s", log.String())
	}
}
