//go:build kernel

package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/datapath/engine"
	"github.com/fairlead-lb/fairlead/datapath/link"
	"github.com/fairlead-lb/fairlead/lb"
)

// tierTopology is a client and three nodes with two pods each on one bridge. The nodes filter by reverse path strictly, as many do.
const tierTopology = `
set -e
modprobe -qa ipip ip6_tunnel || true # they bring devices along, in every namespace
for ns in tlan tc t1 t2 t3; do ip netns add $ns; ip -n $ns link set lo up; done
ip -n tlan link add br0 type bridge
ip -n tlan link set br0 up
station() { # namespace number
  ip netns exec $1 sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0
  ip -n tlan link add p-$1 type veth peer name eth0 netns $1
  ip -n tlan link set p-$1 master br0 up
  ip -n $1 addr add 198.51.100.$2/24 dev eth0; ip -n $1 -6 addr add fd00:51::$2/64 dev eth0 nodad; ip -n $1 link set eth0 up
}
ip netns exec tc sysctl -qw net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.default.accept_redirects=0 net.ipv6.conf.default.accept_redirects=0 \
  net.ipv4.fib_multipath_hash_policy=1 net.ipv6.fib_multipath_hash_policy=1
station tc 100
for i in 1 2 3; do
  ip netns exec t$i sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1 \
    net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0
  station t$i 1$i
  ip -n t$i route add default via 198.51.100.100; ip -n t$i -6 route add default via fd00:51::100
  for j in 1 2; do
    pod=q$i$j
    ip netns add $pod; ip -n $pod link set lo up
    ip -n t$i link add $pod type veth peer name eth0 netns $pod
    ip -n t$i addr add 10.245.$i.254/32 dev $pod; ip -n t$i -6 addr add fd00:245:$i::254/128 dev $pod nodad; ip -n t$i link set $pod up
    ip -n $pod addr add 10.245.$i.$j/32 dev eth0; ip -n $pod -6 addr add fd00:245:$i::$j/128 dev eth0 nodad; ip -n $pod link set eth0 up
    ip -n $pod route add 10.245.$i.254 dev eth0; ip -n $pod route add default via 10.245.$i.254
    ip -n $pod -6 route add fd00:245:$i::254 dev eth0; ip -n $pod -6 route add default via fd00:245:$i::254 dev eth0
    ip -n t$i route add 10.245.$i.$j dev $pod; ip -n t$i -6 route add fd00:245:$i::$j dev $pod
  done
done
for i in 1 2 3; do for k in 1 2 3; do if [ $i != $k ]; then
  ip -n t$i route add 10.245.$k.0/24 via 198.51.100.1$k; ip -n t$i -6 route add fd00:245:$k::/48 via fd00:51::1$k
fi; done; done
`

// tierFamily is the tier in IPv4 or IPv6; patterns of pods take the numbers of the node and of the pod.
type tierFamily struct {
	name, vip, client, node, pod, cidr string
}

var tierFamilies = []tierFamily{
	{"IPv4", "203.0.113.80", "198.51.100.100", "198.51.100.1%d", "10.245.%d.%d", "10.245.%d.0/24"},
	{"IPv6", "fd00:80::80", "fd00:51::100", "fd00:51::1%d", "fd00:245:%d::%d", "fd00:245:%d::/48"},
}

var buildTier = sync.OnceValue(func() error {
	if err := build(); err != nil { // it hides the namespaces that there were
		return err
	}
	if out, err := exec.Command("bash", "-c", tierTopology).CombinedOutput(); err != nil {
		return fmt.Errorf("building the tier: %w\n%s", err, out)
	}
	for _, f := range tierFamilies {
		for i := range 6 {
			ns, addr := fmt.Sprintf("q%d%d", i/2+1, i%2+1), fmt.Sprintf(f.pod, i/2+1, i%2+1)
			if err := serve(ns, net.JoinHostPort(addr, "8080")); err != nil {
				return err
			}
			if _, err := accept(ns, net.JoinHostPort(addr, "8081"), transfer); err != nil {
				return err
			}
		}
	}
	return nil
})

// transfer takes what a client sends, to its end, and answers how much of it was the pattern; one that begins with "down" and a number gets so
// many bytes of it.
func transfer(c net.Conn) {
	head := make([]byte, 16)
	if _, err := io.ReadFull(c, head); err != nil {
		return
	}
	var n int64
	if _, err := fmt.Sscanf(string(head), "down %d", &n); err == nil {
		_, _ = io.CopyN(c, &pattern{}, n)
		return
	}
	n, _ = io.Copy(&pattern{}, c)
	fmt.Fprintln(c, n)
}

// pattern is an endless sequence of bytes, to read, or to compare with what is written.
type pattern struct{ at int }

// block is what it repeats; its length is no multiple of any packet's.
var block = sync.OnceValue(func() []byte {
	b := make([]byte, 65537)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
})

func (p *pattern) Read(b []byte) (int, error) {
	n := copy(b, block()[p.at:])
	p.at = (p.at + n) % len(block())
	return n, nil
}

func (p *pattern) Write(b []byte) (n int, err error) {
	for n < len(b) {
		k := min(len(b)-n, len(block())-p.at)
		if !bytes.Equal(b[n:n+k], block()[p.at:p.at+k]) {
			return n, errors.New("not what was sent")
		}
		n, p.at = n+k, (p.at+k)%len(block())
	}
	return n, nil
}

// tier is the three nodes, each with an engine of its own.
type tier struct {
	family  tierFamily
	engines [3]engine.Engine
	now     time.Time
	relays  []lb.Relay // the nodes that have met each other
	index   [3]int     // of the nodes' interfaces
}

// newTier returns nodes that hold nothing of Fairlead, and checks at the end of the test that Cleanup leads back there.
func newTier(t testing.TB, f tierFamily, name string) *tier {
	t.Helper()
	if err := buildTier(); err != nil {
		t.Fatal(err)
	}
	tr := &tier{family: f, now: time.Now()}
	for i := range tr.engines {
		inNode(t, i, func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }) // an earlier test's flows
	}
	tr.start(t, name)
	before := tr.dump(t)
	t.Cleanup(func() {
		for i, e := range tr.engines {
			inNode(t, i, func() error { return e.Cleanup(context.Background()) })
		}
		if after := tr.dump(t); after != before {
			t.Errorf("Cleanup left something behind. Before:\n%s\nafter:\n%s", before, after)
		}
	})
	return tr
}

// start gives each node a new engine, as a new process would have.
func (tr *tier) start(t testing.TB, name string) {
	t.Helper()
	for i := range tr.engines {
		inNode(t, i, func() error {
			c, err := engine.Open(context.Background(), engine.Options{Name: name, ProcSys: link.ProcSys})
			tr.engines[i] = c.Engine
			return err
		})
	}
}

func inNode(t testing.TB, i int, f func() error) {
	t.Helper()
	if err := within(fmt.Sprintf("t%d", i+1), f); err != nil {
		t.Fatalf("node t%d: %v", i+1, err)
	}
}

// dump prints everything that an engine might have written to the nodes.
func (tr *tier) dump(t testing.TB) (out string) {
	t.Helper()
	for i := range tr.engines {
		inNode(t, i, func() error {
			out += kernelDump(t) + shell(t, "ip -br addr; cat /proc/sys/net/ipv4/vs/sloppy_tcp 2>/dev/null || true")
			return nil
		})
	}
	return out
}

// endpoint is one of the Service by the numbers of node and pod, from 1.
func (tr *tier) endpoint(node, pod int, state string) []lb.Endpoint {
	var out []lb.Endpoint
	for _, p := range tr.service(nil).Ports {
		e := ep("far", state, p, 8080+p.Port-80)
		e.Node = lb.NodeName(fmt.Sprintf("t%d", node))
		e.Addr = netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf(tr.family.pod, node, pod)), 8080+p.Port-80)
		out = append(out, e)
	}
	return out
}

// everywhere are the endpoints of all six pods.
func (tr *tier) everywhere() (out []lb.Endpoint) {
	for i := range 6 {
		out = append(out, tr.endpoint(i/2+1, i%2+1, "rs")...)
	}
	return out
}

// on gives the Service other ports than 80 and 81: a test that has other endpoints in mind than the ones before it must not meet what IPVS
// remembers of their connections.
func on(port uint16, edit func(*lb.Service)) func(*lb.Service) {
	return func(s *lb.Service) {
		for i := range s.Ports {
			s.Ports[i].Port += port - 80
		}
		if edit != nil {
			edit(s)
		}
	}
}

func (tr *tier) service(edit func(*lb.Service)) lb.Service {
	s := lb.Service{
		Key: lb.ServiceKey{Namespace: "shop", Name: "web"}, Forwarding: lb.DSR, ExternalTrafficPolicy: lb.Cluster,
		Ports:   []lb.Port{{Name: "http", Protocol: lb.TCP, Port: 80}, {Name: "quic", Protocol: lb.UDP, Port: 80}, {Name: "bulk", Protocol: lb.TCP, Port: 81}},
		Ingress: []lb.Ingress{{Addr: netip.MustParseAddr(tr.family.vip), Mode: lb.ModeProxy}},
	}
	if edit != nil {
		edit(&s)
	}
	return s
}

// sync brings all nodes to where svc is forwarded to the endpoints.
func (tr *tier) sync(t testing.TB, svc lb.Service, eps []lb.Endpoint) {
	t.Helper()
	for i := range tr.engines {
		tr.syncOne(t, i, svc, eps)
	}
	tr.now = tr.now.Add(time.Second)
}

func (tr *tier) syncOne(t testing.TB, i int, svc lb.Service, eps []lb.Endpoint) {
	t.Helper()
	s := lb.Snapshot{Self: lb.NodeName(fmt.Sprintf("t%d", i+1)), Forwards: true, Services: []lb.Service{svc}, Nodes: map[lb.NodeName]lb.Node{},
		Endpoints: lb.EndpointsOf(map[lb.ServiceKey][]lb.Endpoint{svc.Key: eps})}
	s.Forwarding.Pods.NodeCIDRs = true
	for k := 1; k <= 3; k++ {
		name := lb.NodeName(fmt.Sprintf("t%d", k))
		s.Nodes[name] = lb.Node{Name: name, Addrs: []netip.Addr{netip.MustParseAddr(fmt.Sprintf(tr.family.node, k))},
			PodCIDRs: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf(tr.family.cidr, k))}}
	}
	s.Forwarding.HandOn, s.RelaysKnown = true, tr.relays != nil
	s.Relays = slices.DeleteFunc(slices.Clone(tr.relays), func(r lb.Relay) bool { return r.Node == s.Self })
	s.Segments = []lb.Link{{Name: "eth0", Index: tr.index[i], Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("fd00:51::/64")}}}
	want := datapath.Desired(s)
	inNode(t, i, func() error {
		reached, err := tr.engines[i].Sync(context.Background(), want, tr.now)
		if err == nil && len(svc.Ingress) > 0 && !reached.Programmed()[netip.MustParseAddr(tr.family.vip)] {
			err = fmt.Errorf("not programmed; reached:\n%s", reached)
		}
		return err
	})
}

// receive moves the address to a node, counted from 0, as far as the client is concerned; several share it by the hash of the connection, as a
// router has them do.
func (tr *tier) receive(t testing.TB, nodes ...int) {
	t.Helper()
	err := within("tc", func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		vip := netip.MustParseAddr(tr.family.vip)
		r := netlink.Route{Dst: &net.IPNet{IP: vip.AsSlice(), Mask: net.CIDRMask(vip.BitLen(), vip.BitLen())}}
		_ = netlink.RouteDel(&r) // there is none at first
		for _, i := range nodes {
			gw := net.IP(netip.MustParseAddr(fmt.Sprintf(tr.family.node, i+1)).AsSlice())
			r.MultiPath = append(r.MultiPath, &netlink.NexthopInfo{LinkIndex: eth0.Attrs().Index, Gw: gw})
		}
		return netlink.RouteAdd(&r)
	})
	if err != nil {
		t.Fatalf("moving the address: %v", err)
	}
}

func (tr *tier) at(port string) string { return net.JoinHostPort(tr.family.vip, port) }

// open makes n connections from the client to a port and returns them with the pods that answered, which must see them come from an address;
// "" = any.
func (tr *tier) open(t testing.TB, network, port string, n int, from string) (conns []net.Conn, by []string) {
	t.Helper()
	for range n {
		c, err := dial("tc", network, tr.family.client, tr.at(port), patience)
		if err != nil {
			t.Fatalf("connection %d: %v", len(conns), err)
		}
		t.Cleanup(func() { c.Close() })
		a, err := say(c, patience)
		if err != nil {
			t.Fatalf("connection %d from %s: %v", len(conns), c.LocalAddr(), err)
		}
		if from != "" && a.client != from {
			t.Fatalf("%s saw %q as its client, want %s", a.pod, a.client, from)
		}
		conns, by = append(conns, c), append(by, a.pod)
	}
	return conns, by
}

// broken returns how many of the connections are not answered by the pod that they were opened to, for connections for which count holds.
func broken(conns []net.Conn, by []string, timeout time.Duration, count func(pod string) bool) (n, of int) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i, c := range conns {
		if !count(by[i]) {
			continue
		}
		of++
		wg.Go(func() {
			if a, err := say(c, timeout); err != nil || a.pod != by[i] {
				mu.Lock()
				n++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return n, of
}

func every(string) bool { return true }
