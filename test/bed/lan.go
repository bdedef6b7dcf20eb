package bed

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/fairlead-lb/fairlead/lb"
)

// T is what the package needs of a test; *testing.T is one. Fatalf must not return.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// The bridges: the client is on the first; the second is beyond a trunk, see [LAN.Trunk]; the third is the management network.
const (
	Segment    = "br0"
	farSegment = "br1"
	management = "br2"
)

// LAN is the segment with its nodes. Its methods fail the test on error. They are for one goroutine at a time, but for Ask,
// Neighbour and Moves, which may be called from others beside it.
type LAN struct {
	t      T
	bridge netlink.Link // whose own address is the client's
	nodes  map[int]*node

	mu    sync.Mutex  // guards the following
	ports map[int]int // data port's interface index -> node
}

type node struct {
	o       NodeOptions
	host    *exec.Cmd // holds the network namespace
	speaker *exec.Cmd // nil if it does not run
}

// New makes the segment. It is gone after the test.
func New(t T) *LAN {
	t.Helper()
	l := &LAN{t: t, nodes: map[int]*node{}, ports: map[int]int{}}
	l.check(asStation())
	for i, name := range []string{Segment, farSegment, management} {
		m := net.HardwareAddr{2, 0, 0, 0, byte(i), clientNr} // of its own: a bridge without takes the least of its ports', and changes it with them
		snooping := false
		l.check(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name, HardwareAddr: m}, MulticastSnooping: &snooping}))
	}
	t.Cleanup(l.close)
	l.check(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "trunk0"}, PeerName: "trunk1"}))
	l.attach("trunk0", Segment)
	l.attach("trunk1", farSegment)
	l.check(configure(Segment, netip.PrefixFrom(Client(), bits4), netip.PrefixFrom(Host6(clientNr), bits6)))
	l.check(raise(farSegment))
	l.check(raise(management))
	l.bridge = l.link(Segment)
	return l
}

func (l *LAN) close() {
	for i := range l.nodes {
		l.Remove(i)
	}
	for _, name := range []string{"trunk0", Segment, farSegment, management} {
		if err := netlink.LinkDel(l.link(name)); err != nil {
			l.t.Errorf("removing %s: %v", name, err)
		}
	}
}

func (l *LAN) check(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatalf("%v", err)
	}
}

func (l *LAN) link(name string) netlink.Link {
	l.t.Helper()
	link, err := netlink.LinkByName(name)
	l.check(err)
	return link
}

func (l *LAN) attach(name, bridge string) {
	l.t.Helper()
	l.check(netlink.LinkSetMaster(l.link(name), l.link(bridge)))
	l.check(raise(name))
}

// Port returns the name of the bridge port that node i's cable is in; its eth0 is at the other end.
func Port(i int) string { return fmt.Sprintf("port%d", i) }

// ManagementPort returns the port of node i's second cable.
func ManagementPort(i int) string { return fmt.Sprintf("mgmt%d", i) }

// Start starts a node with its speaker.
func (l *LAN) Start(o NodeOptions) {
	l.t.Helper()
	l.Boot(o)
	if o.Backend == 0 {
		l.Inside(o.Number, func() error { return deliver(servicePrefixes()...) })
	}
	l.Speak(o.Number)
}

// Boot starts a node without a speaker: a network namespace with its cables plugged in and the server behind the addresses.
func (l *LAN) Boot(o NodeOptions) {
	l.t.Helper()
	i := o.Number
	n := &node{o: o, host: Again("host", string(NodeName(i)))}
	n.host.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	l.check(n.host.Start())
	l.nodes[i] = n
	l.Inside(i, asNode)
	l.Cable(i)
	if o.Management {
		l.veth(i, ManagementPort(i), "eth1", lb.MAC{2, 0, 0, 0, 1, byte(i)})
		l.Inside(i, func() error { return configure("eth1", netip.PrefixFrom(ManagementAddr(i), bits4)) })
		l.attach(ManagementPort(i), management)
	}
}

// Inside calls f on a thread in the network namespace of node i.
func (l *LAN) Inside(i int, f func() error) {
	l.t.Helper()
	l.check(Inside(l.nodes[i].host.Process.Pid, f))
}

// Cable gives node i an eth0 with its addresses, plugged in. Boot does so already.
func (l *LAN) Cable(i int) {
	l.t.Helper()
	l.veth(i, Port(i), "eth0", MAC(i))
	prefixes := []netip.Prefix{netip.PrefixFrom(NodeAddr(i), bits4), netip.PrefixFrom(Host6(10+i), bits6)}
	l.Inside(i, func() error { return configure("eth0", prefixes...) })
	bridge := Segment
	if l.nodes[i].o.Far {
		bridge = farSegment
	}
	l.attach(Port(i), bridge)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ports[l.link(Port(i)).Attrs().Index] = i
}

// Uncable takes node i's eth0 away; the node itself goes on. See Cable.
func (l *LAN) Uncable(i int) {
	l.t.Helper()
	l.check(netlink.LinkDel(l.link(Port(i))))
}

func (l *LAN) veth(i int, port, peer string, m lb.MAC) {
	l.t.Helper()
	pid := netlink.NsPid(l.nodes[i].host.Process.Pid)
	l.check(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: peer, PeerHardwareAddr: m[:], PeerNamespace: pid}))
}

// servicePrefixes hold all addresses under test.
func servicePrefixes() []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(VIP(0), 19), netip.PrefixFrom(VIP6(0), 112)}
}

// Speak starts the speaker of node i.
func (l *LAN) Speak(i int) {
	l.t.Helper()
	o, err := json.Marshal(l.nodes[i].o)
	l.check(err)
	l.run(i, Again("node", string(o)))
}

func (l *LAN) run(i int, cmd *exec.Cmd) {
	l.t.Helper()
	n := l.nodes[i]
	l.Inside(i, cmd.Start)
	n.speaker = cmd
}

// Plug connects or disconnects node i's cable.
func (l *LAN) Plug(i int, in bool) {
	l.t.Helper()
	l.check(plug(Port(i), in))
}

// Trunk connects or disconnects the far part of the segment.
func (l *LAN) Trunk(in bool) {
	l.t.Helper()
	l.check(plug("trunk0", in))
}

func plug(name string, up bool) error {
	if up {
		return raise(name)
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding %s: %w", name, err)
	}
	if err := netlink.LinkSetDown(link); err != nil {
		return fmt.Errorf("setting %s down: %w", name, err)
	}
	return nil
}

// Cut takes node i's power: its cables go dead first, so that the goodbye of a dying kernel is not heard either, then every
// process of it. Call Remove afterwards.
func (l *LAN) Cut(i int) {
	l.t.Helper()
	n := l.nodes[i]
	l.check(plug(Port(i), false))
	if n.o.Management {
		l.check(plug(ManagementPort(i), false))
	}
	l.check(n.speaker.Process.Kill())
	l.check(n.host.Process.Kill())
}

// Remove ends node i, and removes its cables; the kernel would do so too, but at its leisure.
func (l *LAN) Remove(i int) {
	n := l.nodes[i]
	delete(l.nodes, i)
	for _, cmd := range []*exec.Cmd{n.speaker, n.host} {
		if cmd != nil {
			_ = cmd.Process.Kill() // it may have ended
			_ = cmd.Wait()
		}
	}
	for _, name := range []string{Port(i), ManagementPort(i)} {
		if p, err := netlink.LinkByName(name); err == nil {
			_ = netlink.LinkDel(p) // the kernel may have been faster
		}
	}
}

// Signal sends sig to the speaker of node i.
func (l *LAN) Signal(i int, sig syscall.Signal) {
	l.t.Helper()
	l.check(l.nodes[i].speaker.Process.Signal(sig))
}

// End sends sig to the speaker of node i and waits until it has ended; the node stays.
func (l *LAN) End(i int, sig syscall.Signal) {
	l.t.Helper()
	l.Signal(i, sig)
	err := l.nodes[i].speaker.Wait()
	if sig == syscall.SIGTERM && err != nil {
		l.t.Errorf("node %d: %v", i, err)
	}
	l.nodes[i].speaker = nil
}

// Pid returns the process of node i's speaker.
func (l *LAN) Pid(i int) int { return l.nodes[i].speaker.Process.Pid }

// Service returns where the server behind an address listens.
func Service(addr netip.Addr) netip.AddrPort { return netip.AddrPortFrom(addr, servicePort) }

// poll calls f every pause until it returns true or the limit has passed; it returns whether it did, and the time it took.
func poll(limit, pause time.Duration, f func() bool) (time.Duration, bool) {
	start := time.Now()
	for {
		if f() {
			return time.Since(start), true
		}
		if time.Since(start) >= limit {
			return time.Since(start), false
		}
		time.Sleep(pause)
	}
}
