//go:build wire

package wire

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"

	"github.com/fairlead-lb/fairlead/announce/arp"
	"github.com/fairlead-lb/fairlead/lb"
)

// lan is the segment: a bridge whose own address is the client's.
type lan struct {
	t      *testing.T
	bridge netlink.Link
	nodes  map[int]*speakerNode
}

type speakerNode struct {
	cmd *exec.Cmd
	mac lb.MAC
}

func newLAN(t *testing.T) *lan {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	check(t, err)
	check(t, netlink.LinkSetUp(lo))
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 100} // of its own: a bridge without takes the least of its ports', and changes it with them
	check(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", HardwareAddr: mac}}))
	check(t, configure(host(100), "br0"))
	bridge, err := netlink.LinkByName("br0")
	check(t, err)
	l := &lan{t: t, bridge: bridge, nodes: map[int]*speakerNode{}}
	t.Cleanup(l.close)
	return l
}

func (l *lan) close() {
	for i, n := range l.nodes {
		_ = n.cmd.Process.Kill() // it may have ended
		_ = n.cmd.Wait()
		l.unplug(i)
	}
	if err := netlink.LinkDel(l.bridge); err != nil {
		l.t.Errorf("removing the bridge: %v", err)
	}
}

// unplug removes node i's cable; the kernel would do so too, but at its leisure.
func (l *lan) unplug(i int) {
	if p, err := netlink.LinkByName(port(i)); err == nil {
		_ = netlink.LinkDel(p) // the kernel may have been faster
	}
}

// start starts speaker i in a network namespace of its own and plugs its eth0 into the bridge.
func (l *lan) start(i int) {
	l.t.Helper()
	n := &speakerNode{cmd: again("node", fmt.Sprint(i)), mac: lb.MAC{2, 0, 0, 0, 0, byte(i)}}
	n.cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	check(l.t, n.cmd.Start())
	l.nodes[i] = n
	check(l.t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: port(i)}, PeerName: "eth0", PeerHardwareAddr: n.mac[:],
		PeerNamespace: netlink.NsPid(n.cmd.Process.Pid)}))
	p, err := netlink.LinkByName(port(i))
	check(l.t, err)
	check(l.t, netlink.LinkSetMaster(p, l.bridge))
	check(l.t, netlink.LinkSetUp(p))
}

func port(i int) string { return fmt.Sprintf("port%d", i) }

// plug connects or disconnects node i's cable.
func (l *lan) plug(i int, in bool) {
	l.t.Helper()
	p, err := netlink.LinkByName(port(i))
	check(l.t, err)
	if in {
		check(l.t, netlink.LinkSetUp(p))
	} else {
		check(l.t, netlink.LinkSetDown(p))
	}
}

// end sends sig to speaker i and waits until it has ended.
func (l *lan) end(i int, sig syscall.Signal) {
	l.t.Helper()
	check(l.t, l.nodes[i].cmd.Process.Signal(sig))
	err := l.nodes[i].cmd.Wait()
	if sig == syscall.SIGTERM && err != nil {
		l.t.Errorf("node %d: %v", i, err)
	}
	delete(l.nodes, i)
	l.unplug(i)
}

// nodeOf returns the number of the node with mac, 0 if none has it.
func nodeOf(mac lb.MAC) int {
	if i := int(mac[5]); mac == (lb.MAC{2, 0, 0, 0, 0, byte(i)}) && i <= nodes {
		return i
	}
	return 0
}

// answers asks for addr by ARP and returns who answered within the time, each node once.
func (l *lan) answers(addr netip.Addr, within time.Duration) []int {
	l.t.Helper()
	a := l.bridge.Attrs()
	c, err := packet.Listen(&net.Interface{Index: a.Index, Name: a.Name, HardwareAddr: a.HardwareAddr}, packet.Raw, 0x0806, nil)
	check(l.t, err)
	defer c.Close()
	mac := lb.MAC(a.HardwareAddr)
	ask := arp.Packet{EthDst: arp.Broadcast(), EthSrc: mac, Op: arp.Request, SenderMAC: mac, SenderIP: host(100), TargetIP: addr}
	_, err = c.WriteTo(ask.Append(nil), &packet.Addr{HardwareAddr: net.HardwareAddr(ask.EthDst[:])})
	check(l.t, err)
	check(l.t, c.SetReadDeadline(time.Now().Add(within)))
	var out []int
	buf := make([]byte, 128)
	for {
		n, _, err := c.ReadFrom(buf)
		if err != nil {
			slices.Sort(out)
			return slices.Compact(out)
		}
		if p, err := arp.Parse(buf[:n]); err == nil && p.Op == arp.Reply && p.SenderIP == addr && p.EthDst == mac {
			out = append(out, nodeOf(p.SenderMAC))
		}
	}
}

// owners waits until every address is answered for by exactly one node and returns who that is.
func (l *lan) owners(limit time.Duration) map[netip.Addr]int {
	l.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		out := map[netip.Addr]int{}
		for i := range vips {
			if got := l.answers(vip(i), 50*time.Millisecond); len(got) == 1 && got[0] != 0 {
				out[vip(i)] = got[0]
			}
		}
		if len(out) == vips {
			return out
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("after %s only %v have one owner", limit, out)
		}
	}
}

// learn makes the client's kernel resolve addr.
func (l *lan) learn(addr netip.Addr) {
	l.t.Helper()
	c, err := net.Dial("udp", netip.AddrPortFrom(addr, 9).String())
	check(l.t, err)
	defer c.Close()
	for range 200 {
		_, _ = c.Write([]byte("x")) // nobody listens there
		if l.neighbour(addr) != 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	l.t.Fatalf("the client's kernel did not resolve %s", addr)
}

// neighbour returns the node that the client's kernel would send packets for addr to, 0 if none.
func (l *lan) neighbour(addr netip.Addr) int {
	l.t.Helper()
	list, err := netlink.NeighList(l.bridge.Attrs().Index, netlink.FAMILY_V4)
	check(l.t, err)
	for _, n := range list {
		if got, _ := netip.AddrFromSlice(n.IP); got.Unmap() == addr && len(n.HardwareAddr) == 6 {
			return nodeOf(lb.MAC(n.HardwareAddr))
		}
	}
	return 0
}

// moves waits until the client's kernel sends packets for addr to another node than from; it returns to which, and how long
// that took. The client asks nothing meanwhile.
func (l *lan) moves(addr netip.Addr, from int, limit time.Duration) (int, time.Duration) {
	l.t.Helper()
	start := time.Now()
	for time.Since(start) < limit {
		if to := l.neighbour(addr); to != from && to != 0 {
			return to, time.Since(start)
		}
		time.Sleep(time.Millisecond)
	}
	l.t.Fatalf("after %s the client's kernel still sends packets for %s to node %d", limit, addr, from)
	return 0, 0
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
