//go:build kernel

package kernel

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// foreign runs a script of somebody else's, and undo when the test ends.
func foreign(t *testing.T, script, undo string) {
	t.Helper()
	if out, err := exec.Command("bash", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	t.Cleanup(func() { exec.Command("bash", "-c", undo).Run() })
}

// TestS32ForwardingThatIsDroppedByDefault: a Service needs of a host that drops what it forwards just what its pods need, that packets from
// and to them pass. More cannot be had: what one table of nftables drops no other can accept.
func TestS32ForwardingThatIsDroppedByDefault(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		b.hold(t, f.state(f.server(f.vip, "80", masquerade(datapath.Everybody), "far"), f.server(f.vip2, "80", nil, "pod-a")))
		foreign(t, `nft -f - <<-'END'
			table inet host {
				chain forward { type filter hook forward priority 0; policy drop; }
				chain cni { ip saddr 10.244.0.0/16 accept; ip daddr 10.244.0.0/16 accept; ip6 saddr fd00:1::/32 accept; ip6 daddr fd00:1::/32 accept; }
			}
			END`, "nft delete table inet host")
		for _, at := range []struct{ ns, addr string }{{"pod-b", to(f.pods["pod-a"], "8080")}, {"pod-b", to(f.vip, "80")}, {"client", to(f.vip2, "80")}} {
			if _, err := ask(at.ns, "tcp", "", at.addr, short); !silent(err) {
				t.Errorf("%s from %s while not even pods may be reached: %v, want silence", at.addr, at.ns, err)
			}
		}
		foreign(t, "nft add rule inet host forward jump cni", "true")
		for _, ns := range []string{"client", "pod-b", "node"} {
			mustAsk(t, ns, "tcp", to(f.vip, "80"))
		}
		if a := mustAsk(t, "client", "tcp", to(f.vip2, "80")); a != (answer{"pod-a", f.client}) {
			t.Errorf("answered by %v", a)
		}
	})
}

// TestS37AffinityEndsWithItsLastConnection: affinity to an endpoint ends when its timeout is over and no connection is left, not before.
func TestS37AffinityEndsWithItsLastConnection(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		f := families[0]
		if b.Name() != "ipvs" {
			t.Log("nft's entries end by themselves: TestS34Affinity")
			return
		}
		const last = 2 * time.Second
		foreign(t, "ipvsadm --set 0 0 1", "ipvsadm --set 900 120 300") // a UDP flow is over after a second
		edit := both(masquerade(datapath.Everybody), func(v *datapath.VirtualServer) { v.Affinity = last })
		b.hold(t, f.state(f.server(f.vip, "80", edit, "pod-a", "pod-b", "far"), f.server(f.vip, "80", both(edit, udp), "pod-a", "pod-b", "far")))
		if p, _ := collect(t, "client", "udp", to(f.vip, "80"), few); len(p) != 1 {
			t.Fatalf("a client with affinity was served by %v", p)
		}
		seen, until := map[string]bool{}, time.Now().Add(time.Minute) // S34
		for len(seen) < 2 && time.Now().Before(until) {
			seen[mustAsk(t, "pod-b", "udp", to(f.vip, "80")).pod] = true
			<-time.After(last + 1500*time.Millisecond)
		}
		if len(seen) < 2 {
			t.Errorf("affinity of %s lasted longer than that: only %v", last, seen)
		}
		c, err := dial("client", "tcp", "", to(f.vip, "80"), patience)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		first, err := say(c, patience)
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * last)
		if p, _ := collect(t, "client", "tcp", to(f.vip, "80"), few); len(p) != 1 || p[0] != first.pod {
			t.Errorf("while a connection to %s is open the client was served by %v", first.pod, p)
		}
	})
}

// TestS50TheNodeComesFromItsVIP: where a VIP is local, the node's own connections to it have it as their source. They are allowed if the
// node's address is.
func TestS50TheNodeComesFromItsVIP(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		for _, c := range []struct {
			allowed      string
			node, client bool
		}{{nodeAddr + "/32", true, false}, {clientAddr + "/32", false, true}} {
			s := snapshot(service(func(s *lb.Service) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix(c.allowed)} }, "pod-a", "far"))
			s.Nodes = map[lb.NodeName]lb.Node{"near": {Name: "near", Addrs: []netip.Addr{netip.MustParseAddr(nodeAddr)}}}
			b.sync(t, s)
			for ns, want := range map[string]bool{"node": c.node, "client": c.client, "pod-b": false} {
				for _, network := range []string{"tcp", "udp"} {
					_, err := ask(ns, network, clientOf(ns), vip+":80", short)
					if want && err != nil || !want && err == nil {
						t.Errorf("%s from %s with %s allowed: %v, want it served: %v", network, ns, c.allowed, err, want)
					}
				}
			}
		}
	})
}

// clientOf is the address that clients of a namespace with several come from.
func clientOf(ns string) string {
	if ns == "client" {
		return clientAddr
	}
	return ""
}

// serving has f handle the connections to an address until the test ends.
func serving(t *testing.T, ns, addr string, f func(net.Conn)) {
	t.Helper()
	l, err := accept(ns, addr, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// dialFrom connects from an address and port that another connection may have, or have had before.
func dialFrom(ns, from, to string) (c net.Conn, err error) {
	err = within(ns, func() error {
		d := net.Dialer{Timeout: patience, LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from)), Control: func(_, _ string, raw syscall.RawConn) (err error) {
			failed := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
			return errors.Join(failed, err)
		}}
		c, err = d.Dial("tcp", to)
		return err
	})
	return c, err
}

// hear connects, reads what the server says until it closes, and returns how often a segment had to be repeated.
func hear(from, to string) (a answer, repeated uint32, err error) {
	c, err := dialFrom("client", from, to)
	for deadline := time.Now().Add(patience); errors.Is(err, unix.EADDRNOTAVAIL) && time.Now().Before(deadline); { // the last one's last segment is on its way
		time.Sleep(10 * time.Millisecond)
		c, err = dialFrom("client", from, to)
	}
	if err != nil {
		return a, 0, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	line, err := io.ReadAll(c)
	raw, rawErr := c.(*net.TCPConn).SyscallConn()
	if err = errors.Join(err, rawErr); err != nil {
		return a, 0, err
	}
	failed := raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			repeated = info.Total_retrans
		}
	})
	return parse(string(line)), repeated, errors.Join(err, failed)
}

// TestS69I1AClientReusesItsPort: a client that comes again from the port of a connection that has just ended is served without delay, by
// another endpoint if the one it had gets no new connections. The trap costs it the second until its first segment is repeated.
func TestS69I1AClientReusesItsPort(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		all := masquerade(datapath.Nobody) // the port must stay what it is
		for _, pod := range []string{"pod-a", "pod-b"} {
			serving(t, pod, to(f.pods[pod], "8082"), func(c net.Conn) { // closing at once, the server is who waits for stragglers, and the client's port is free
				fmt.Fprintln(c, pod, c.RemoteAddr().(*net.TCPAddr).IP)
			})
		}
		with := func(pods ...string) datapath.State {
			v := f.server(f.vip, "80", all, "pod-a", "pod-b")
			for i := range v.Destinations {
				d := &v.Destinations[i]
				d.Addr, d.Weight = netip.AddrPortFrom(d.Addr.Addr(), 8082), 0
				for _, pod := range pods {
					if d.Addr.Addr().String() == f.pods[pod] {
						d.Weight = 1
					}
				}
			}
			return f.state(v)
		}
		from := to(f.client, "25000")
		const times = 6
		late := 0
		for i := range times {
			want := []string{"pod-a", "pod-b"}[i%2]
			b.hold(t, with(want))
			for range 2 {
				a, repeated, err := hear(from, to(f.vip, "80"))
				if err != nil || a.pod != want {
					t.Fatalf("connection %d from %s: %v, %v; want %s", i, from, a, err, want)
				}
				if repeated > 0 {
					late++
				}
			}
		}
		if late > times {
			t.Errorf("%d of %d connections had to repeat a segment", late, 2*times)
		}
	})
}

// TestI2OnePortForAServiceAndItsPod: a pod connects to a Service and, from the same port, to the endpoint that the Service chose. With IPVS the
// second connection does not come about: what the endpoint answers there passes for an answer on the first.
func TestI2OnePortForAServiceAndItsPod(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		if b.Name() == "ipvs" {
			t.Log("a limit of IPVS")
			return
		}
		b.hold(t, f.state(f.server(f.vip, "80", masquerade(datapath.Outside|datapath.Host), "pod-b")))
		open := func(port int, addr string) net.Conn {
			c, err := dialFrom("pod-a", to(f.pods["pod-a"], fmt.Sprint(port)), addr)
			if err != nil {
				t.Fatalf("from port %d to %s: %v", port, addr, err)
			}
			t.Cleanup(func() { c.Close() })
			return c
		}
		for i, order := range [][]string{{to(f.vip, "80"), to(f.pods["pod-b"], "8080")}, {to(f.pods["pod-b"], "8080"), to(f.vip, "80")}} {
			first := open(26000+i, order[0])
			second := open(26000+i, order[1])
			for _, c := range []net.Conn{first, second, first} {
				if a, err := say(c, patience); err != nil || a.pod != "pod-b" {
					t.Errorf("%v, on the one to %s: %v, %v", order, c.RemoteAddr(), a, err)
				}
			}
		}
	})
}

// TestI12EndpointsInTheNetworkOfTheirNode: an endpoint has the address of its node, this one or another.
func TestI12EndpointsInTheNetworkOfTheirNode(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		far := strings.Replace(strings.Replace(f.node, ".11", ".12", 1), "::11", "::12", 1)
		for ns, addr := range map[string]string{"node": f.node, "far": far} {
			serving(t, ns, to(addr, "8083"), func(c net.Conn) {
				for in := bufio.NewScanner(c); in.Scan(); {
					fmt.Fprintln(c, ns, c.RemoteAddr().(*net.TCPAddr).IP)
				}
			})
			u, err := datagrams(ns, to(addr, "8083"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { u.Close() })
		}
		at := func(edit func(*datapath.VirtualServer), addrs ...string) func(*datapath.VirtualServer) {
			return both(edit, func(v *datapath.VirtualServer) {
				for _, a := range addrs {
					v.Destinations = append(v.Destinations, datapath.Destination{Addr: netip.MustParseAddrPort(to(a, "8083")), Weight: 1, Method: datapath.NAT})
				}
			})
		}
		all, nobody := masquerade(datapath.Everybody), masquerade(datapath.Nobody)
		b.hold(t, f.state(f.server(f.vip, "80", at(all, f.node, far)), f.server(f.vip, "80", both(at(all, f.node, far), udp)), f.server(f.vip2, "80", at(nobody, f.node)),
			f.server(f.vip2, "80", both(at(nobody, f.node), udp))))
		for _, network := range []string{"tcp", "udp"} {
			for _, ns := range []string{"client", "pod-a", "node"} {
				sees(t, ns, network, to(f.vip, "80"), []string{"far", "node"}, nil)
			}
			sees(t, "client", network, to(f.vip2, "80"), []string{"node"}, []string{f.client})
			sees(t, "pod-a", network, to(f.vip2, "80"), []string{"node"}, []string{f.pods["pod-a"]})
		}
	})
}

// TestI9TheModuleStays: IPVS cannot be unloaded under a Service. Loaded again it would be unknown to its netlink library, which asks once.
func TestI9TheModuleStays(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		if b.Name() != "ipvs" {
			t.Log("no IPVS")
			return
		}
		b.hold(t, f.state(f.server(f.vip, "80", masquerade(datapath.Everybody), "pod-a")))
		if out, err := exec.Command("rmmod", "ip_vs").CombinedOutput(); err == nil {
			t.Errorf("the module could be unloaded: %s", out)
		}
		sees(t, "client", "tcp", to(f.vip, "80"), []string{"pod-a"}, nil)
	})
}

// TestR8SmallerPathsBehindTheNode: the way to an endpoint takes smaller packets than the client's network, as a tunnel does. What the client
// sends arrives all the same, because it learns of it by ICMP errors that are translated like their connection, or because it is fragmented.
func TestR8SmallerPathsBehindTheNode(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		foreign(t, "ip link set dev pod-a mtu 1400; ip -n pod-a link set dev eth0 mtu 1400", "ip -n pod-a link set dev eth0 mtu 1500; ip link set dev pod-a mtu 1500")
		serving(t, "pod-a", to(f.pods["pod-a"], "8084"), func(c net.Conn) {
			n, _ := io.Copy(io.Discard, c)
			fmt.Fprintln(c, n)
		})
		edit := func(c datapath.Clients) func(*datapath.VirtualServer) {
			return both(masquerade(c), func(v *datapath.VirtualServer) {
				v.Destinations = []datapath.Destination{{Addr: netip.MustParseAddrPort(to(f.pods["pod-a"], "8084")), Weight: 1, Method: datapath.NAT}}
			})
		}
		b.hold(t, f.state(f.server(f.vip, "80", edit(datapath.Everybody)), f.server(f.vip2, "80", edit(datapath.Nobody)),
			f.server(f.vip, "80", both(masquerade(datapath.Everybody), udp), "pod-a")))
		for _, addr := range []string{f.vip, f.vip2} {
			const size = 1 << 20
			c, err := dial("client", "tcp", f.client, to(addr, "80"), patience)
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(4 * patience))
			_, err = c.Write(make([]byte, size))
			c.(*net.TCPConn).CloseWrite()
			said, readErr := io.ReadAll(c)
			if got := strings.TrimSpace(string(said)); errors.Join(err, readErr) != nil || got != fmt.Sprint(size) {
				t.Errorf("upload to %s: %v, %v; the pod got %q bytes of %d", addr, err, readErr, got, size)
			}
			c.Close()
		}
		u, err := dial("client", "udp", f.client, to(f.vip, "80"), patience)
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		for try := range 5 { // the first datagrams may teach the client how large they may be
			u.SetDeadline(time.Now().Add(patience / 5))
			u.Write(make([]byte, 2000))
			buf := make([]byte, 200)
			if n, err := u.Read(buf); err == nil {
				if a := parse(string(buf[:n])); a.pod != "pod-a" {
					t.Errorf("a datagram of 2000 bytes was answered by %v", a)
				}
				break
			} else if try == 4 {
				t.Errorf("a datagram of 2000 bytes: %v", err)
			}
		}
	})
}

// TestS63PacketsOutOfTheWindowStayOurs: an endpoint sends a segment of a connection far out of its window. What conntrack makes of it, the
// client must not see it come from the endpoint: it would answer with a reset, which ends the connection at the endpoint.
func TestS63PacketsOutOfTheWindowStayOurs(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		foreign(t, "ip -n client route add 10.244.1.0/24 via 192.0.2.11; ip -n client -6 route add fd00:1:1::/64 via fd00:2::11",
			"ip -n client route del 10.244.1.0/24; ip -n client -6 route del fd00:1:1::/64")
		served := make(chan net.Conn, 10)
		serving(t, "pod-a", to(f.pods["pod-a"], "8085"), func(c net.Conn) {
			served <- c
			io.Copy(c, c)
		})
		edit := func(c datapath.Clients) func(*datapath.VirtualServer) {
			return both(masquerade(c), func(v *datapath.VirtualServer) {
				v.Destinations = []datapath.Destination{{Addr: netip.MustParseAddrPort(to(f.pods["pod-a"], "8085")), Weight: 1, Method: datapath.NAT}}
			})
		}
		b.hold(t, f.state(f.server(f.vip, "80", edit(datapath.Everybody)), f.server(f.vip2, "80", edit(datapath.Nobody))))
		for _, addr := range []string{f.vip, f.vip2} {
			c, err := dial("client", "tcp", f.client, to(addr, "80"), patience)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := say(c, patience); err != nil {
				t.Fatalf("through %s: %v", addr, err)
			}
			endpoint := <-served
			for range 3 {
				stray(t, "pod-a", endpoint)
			}
			if _, err := say(c, patience); err != nil {
				t.Errorf("through %s, after segments out of the window: %v", addr, err)
			}
		}
	})
}

// stray sends a segment with data from the end of a connection that is in a namespace: its acknowledgement is right, its number is not.
func stray(t *testing.T, ns string, end net.Conn) {
	t.Helper()
	var next [3]uint32 // what the kernel calls its queues: 1 = what it waits for, 2 = what it will send
	raw, err := end.(*net.TCPConn).SyscallConn()
	if err == nil {
		set := func(fd uintptr, option, value int) error {
			return unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option, value)
		}
		err = errors.Join(err, raw.Control(func(fd uintptr) {
			err = set(fd, unix.TCP_REPAIR, unix.TCP_REPAIR_ON)
			for queue := 1; queue <= 2 && err == nil; queue++ {
				if err = set(fd, unix.TCP_REPAIR_QUEUE, queue); err == nil {
					var n int
					n, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
					next[queue] = uint32(n)
				}
			}
			err = errors.Join(err, set(fd, unix.TCP_REPAIR, unix.TCP_REPAIR_OFF_NO_WP))
		}))
	}
	if err != nil {
		t.Fatalf("reading the numbers of a connection: %v", err)
	}
	from, to := end.LocalAddr().(*net.TCPAddr).AddrPort(), end.RemoteAddr().(*net.TCPAddr).AddrPort()
	segment := binary.BigEndian.AppendUint16(nil, from.Port())
	segment = binary.BigEndian.AppendUint16(segment, to.Port())
	segment = binary.BigEndian.AppendUint32(segment, next[2]+1<<29)
	segment = binary.BigEndian.AppendUint32(segment, next[1])
	segment = append(segment, 5<<4, 0x18, 4, 0, 0, 0, 0, 0, 'x', '\n')
	binary.BigEndian.PutUint16(segment[16:], checksum(from.Addr().Unmap(), to.Addr().Unmap(), segment))
	err = within(ns, func() error {
		domain := unix.AF_INET6
		if from.Addr().Unmap().Is4() {
			domain = unix.AF_INET
		}
		fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, segment, 0, sockaddr(to.Addr().Unmap()))
	})
	if err != nil {
		t.Fatalf("sending a stray segment: %v", err)
	}
}

// checksum is that of a TCP segment with an even number of bytes.
func checksum(from, to netip.Addr, segment []byte) uint16 {
	sum := uint32(len(segment)) + unix.IPPROTO_TCP
	for _, b := range [][]byte{from.AsSlice(), to.AsSlice(), segment} {
		for ; len(b) > 1; b = b[2:] {
			sum += uint32(binary.BigEndian.Uint16(b))
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
