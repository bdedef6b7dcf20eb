//go:build kernel

package kernel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/datapath/engine"
	"github.com/fairlead-lb/fairlead/datapath/link"
	"github.com/fairlead-lb/fairlead/lb"
	testbed "github.com/fairlead-lb/fairlead/test/bed"
)

// The addresses of the test bed.
const (
	nodeAddr   = "192.0.2.11"
	clientAddr = "192.0.2.100"
	strayAddr  = "192.0.2.101" // the client's second address
	vip        = "192.0.2.200"
	vip2       = "192.0.2.201"
)

// topology is built once per process; the node is the process's own namespace. The second node routes nothing back through the first: a
// reply that was not masqueraded gets lost, as in a real cluster.
const topology = `
set -e
mount --make-rprivate /
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0 net.ipv6.conf.default.addr_gen_mode=1
ip link set lo up
for ns in lan client far pod-a pod-b; do ip netns add $ns; ip -n $ns link set lo up; done
ip -n lan link add br0 type bridge
ip -n lan link set br0 up
port() { # namespace interface address
  ip -n lan link add p-$1 type veth peer name $2
  ip -n lan link set p-$1 master br0 up
  if [ $1 = node ]; then ip -n lan link set $2 netns $$; else ip -n lan link set $2 netns $1; fi
}
port node eth0; ip addr add 192.0.2.11/24 dev eth0; ip link set eth0 up
port client eth0; ip -n client addr add 192.0.2.100/24 dev eth0; ip -n client addr add 192.0.2.101/24 dev eth0; ip -n client link set eth0 up
port far eth0; ip -n far addr add 192.0.2.12/24 dev eth0; ip -n far addr add 10.244.2.2/32 dev lo; ip -n far link set eth0 up
ip route add 10.244.2.0/24 via 192.0.2.12
ip route add default via 192.0.2.1
ip -n client route add 192.0.2.192/26 via 192.0.2.11
pod() { # namespace address
  ip link add $1 type veth peer name eth0 netns $1
  ip addr add 10.244.1.1/32 dev $1; ip link set $1 up; ip route add $2/32 dev $1
  ip -n $1 addr add $2/32 dev eth0; ip -n $1 link set eth0 up
  ip -n $1 route add 10.244.1.1 dev eth0; ip -n $1 route add default via 10.244.1.1
}
pod pod-a 10.244.1.2
pod pod-b 10.244.1.3

sysctl -qw net.ipv6.conf.all.forwarding=1
ip -6 addr add fd00:2::11/64 dev eth0 nodad
ip -6 addr add fe80::11/64 dev eth0 nodad # the kernel asks for neighbours from a link-local address
ip -n client -6 addr add fd00:2::100/64 dev eth0 nodad
ip -n client -6 addr add fd00:2::101/64 dev eth0 nodad preferred_lft 0
ip -n client -6 route add fd00:ff::/64 via fd00:2::11
ip -n far -6 addr add fd00:2::12/64 dev eth0 nodad
ip -n far -6 addr add fd00:1:2::2/128 dev lo nodad
ip -6 route add fd00:1:2::/64 via fd00:2::12
ip -6 route add default via fd00:2::1
pod6() { # namespace address
  ip -6 addr add fd00:1:1::1/128 dev $1 nodad; ip -6 addr add fe80::1/64 dev $1 nodad; ip -6 route add $2/128 dev $1
  ip -n $1 -6 addr add $2/128 dev eth0 nodad
  ip -n $1 -6 route add fd00:1:1::1 dev eth0; ip -n $1 -6 route add default via fd00:1:1::1 dev eth0
}
pod6 pod-a fd00:1:1::2
pod6 pod-b fd00:1:1::3
`

// The pods: two on this node, one on the far one. Each answers on TCP and UDP ports 8080 and 8081.
var pods = map[string]string{"pod-a": "10.244.1.2", "pod-b": "10.244.1.3", "far": "10.244.2.2"}

var build = sync.OnceValue(func() error {
	out, err := exec.Command("bash", "-c", topology).CombinedOutput()
	if err != nil {
		return fmt.Errorf("building the test bed: %w\n%s", err, out)
	}
	for name := range pods {
		for _, f := range families {
			if err := serveSCTP(name, f.pods[name]); err != nil {
				return err
			}
			for _, port := range []string{"8080", "8081"} {
				if err := serve(name, net.JoinHostPort(f.pods[name], port)); err != nil {
					return err
				}
			}
		}
	}
	return nil
})

// within runs f in the network namespace called ns, or in the node's if ns is "node". Sockets that f opens stay there.
func within(ns string, f func() error) error {
	if ns == "node" {
		return f()
	}
	return testbed.Within(ns, f)
}

// serve answers every line or datagram with the pod's name and the address it sees as the client's.
func serve(ns, addr string) error {
	answer := func(c net.Conn) {
		for in := bufio.NewScanner(c); in.Scan(); {
			fmt.Fprintln(c, ns, c.RemoteAddr().(*net.TCPAddr).IP)
		}
	}
	if _, err := accept(ns, addr, answer); err != nil {
		return err
	}
	_, err := datagrams(ns, addr)
	return err
}

// accept has f handle every connection to an address in a namespace, until the listener is closed.
func accept(ns, addr string, f func(net.Conn)) (l net.Listener, err error) {
	err = within(ns, func() error {
		l, err = net.Listen("tcp", addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	go testbed.Accept(l, f)
	return l, nil
}

// datagrams is the part of serve about UDP.
func datagrams(ns, addr string) (u net.PacketConn, err error) {
	err = within(ns, func() error {
		u, err = net.ListenPacket("udp", addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	go func() {
		buf := make([]byte, 2048)
		for {
			_, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			fmt.Fprintln(writerTo{u, from}, ns, from.(*net.UDPAddr).IP)
		}
	}()
	return u, nil
}

type writerTo struct {
	net.PacketConn
	to net.Addr
}

func (w writerTo) Write(p []byte) (int, error) { return w.WriteTo(p, w.to) }

// bed is the node under test with an engine.
type bed struct {
	engine.Engine
	now time.Time // what the engine believes
}

// newBed returns a node that holds nothing of Fairlead, and checks at the end of the test that Cleanup leads back there.
func newBed(t *testing.T, name string) *bed {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil { // a flow of an earlier test would go on where this one chances on its port
		t.Fatal(err)
	}
	b := &bed{now: time.Now()}
	b.restart(t, name)
	before := kernelDump(t)
	t.Cleanup(func() {
		kernelDump(t) // whatever the engine wrote, the tools of an operator print it
		if err := b.Cleanup(context.Background()); err != nil {
			t.Error(err)
		}
		if after := kernelDump(t); after != before {
			t.Errorf("Cleanup left something behind. Before:\n%s\nafter:\n%s", before, after)
		}
	})
	return b
}

// restart replaces the engine by a new instance, as a new process would be.
func (b *bed) restart(t *testing.T, name string) {
	t.Helper()
	c, err := engine.Open(context.Background(), engine.Options{Name: name, ProcSys: link.ProcSys})
	if err != nil {
		t.Fatal(err)
	}
	b.Engine = c.Engine
}

// kernelDump prints everything in the node's kernel that an engine might have written.
func kernelDump(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("bash", "-c", `nft -s list ruleset; ip route show table all; ip -6 route show table local type local; ip rule
		if [ -e /proc/net/ip_vs ]; then grep -v -e ^Prot -e "^IP Virtual" -e "->.*RemoteAddress" /proc/net/ip_vs | sed 's/  *[0-9]* *[0-9]* *$//'; fi; true`).CombinedOutput()
	if err != nil {
		t.Fatalf("dumping the kernel: %v\n%s", err, out)
	}
	return string(out)
}

// sync brings the kernel to what the snapshot asks for, and fails the test unless all of it is programmed.
func (b *bed) sync(t *testing.T, s lb.Snapshot) {
	t.Helper()
	want := datapath.Desired(s)
	b.now = b.now.Add(time.Second)
	reached, err := b.Sync(context.Background(), want, b.now)
	if err != nil {
		t.Fatalf("syncing: %v", err)
	}
	for _, a := range want.VIPs {
		if !reached.Programmed()[a] {
			t.Fatalf("%s is not programmed; reached:\n%s", a, reached)
		}
	}
}

// answer is what a pod said.
type answer struct{ pod, client string }

func parse(line string) answer {
	pod, client, _ := strings.Cut(strings.TrimSpace(line), " ")
	return answer{pod, client}
}

// patience is how long a client waits for what must come; short for what must not.
const (
	patience = 5 * time.Second
	short    = 700 * time.Millisecond
)

// dial opens a connection from a namespace, from a certain source address, with its port or without, if from is not empty.
func dial(ns, network, from, to string, timeout time.Duration) (c net.Conn, err error) {
	err = within(ns, func() error {
		d := net.Dialer{Timeout: timeout}
		source, err := netip.ParseAddrPort(from)
		if err != nil && from != "" {
			source = netip.AddrPortFrom(netip.MustParseAddr(from), 0)
		}
		if from != "" && network == "tcp" {
			d.LocalAddr = net.TCPAddrFromAddrPort(source)
		} else if from != "" {
			d.LocalAddr = net.UDPAddrFromAddrPort(source)
		}
		c, err = d.Dial(network, to)
		return err
	})
	return c, err
}

// say sends one line on a connection and reads the answer.
func say(c net.Conn, timeout time.Duration) (answer, error) {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return answer{}, err
	}
	if _, err := fmt.Fprintln(c, "hello"); err != nil {
		return answer{}, err
	}
	buf := make([]byte, 200)
	n, err := c.Read(buf)
	return parse(string(buf[:n])), err
}

// ask opens a connection, gets one answer and closes it.
func ask(ns, network, from, to string, timeout time.Duration) (answer, error) {
	c, err := dial(ns, network, from, to, timeout)
	if err != nil {
		return answer{}, err
	}
	defer c.Close()
	a, err := say(c, timeout)
	if err == nil && network == "tcp" {
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
	}
	return a, err
}

// mustAsk is ask that must succeed.
func mustAsk(t *testing.T, ns, network, to string) answer {
	t.Helper()
	a, err := ask(ns, network, "", to, patience)
	if err != nil {
		t.Fatalf("%s to %s from %s: %v", network, to, ns, err)
	}
	return a
}

// refused and silent are the two ways of not being served. A UDP sender on the node itself learns of the refusal from its send.
func refused(err error) bool { return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EPERM) }

func silent(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
