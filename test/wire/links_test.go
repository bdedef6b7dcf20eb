//go:build wire

package wire

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/fairlead-lb/fairlead/lb"
	"github.com/fairlead-lb/fairlead/test/bed"
)

// TestInterfacesChangeAtRunTime: a rename, another interface, another hardware address, and a bridge over the interface of an
// address's owner.
func TestInterfacesChangeAtRunTime(t *testing.T) {
	l, owners := startAll(t, group(3))
	addrs, owner := l.pair(owners)
	l.learn(addrs...)
	answers := func(what string) {
		t.Helper()
		for _, a := range addrs {
			if got, ok := l.onlyAnswers(owner, a, 100*time.Millisecond); !ok {
				t.Errorf("%s: nodes %v answer for %s, want %d", what, got, a, owner)
			}
		}
	}
	l.ip(owner, "link set eth0 name lan0")
	time.Sleep(100 * time.Millisecond)
	answers("renamed")
	own := bed.MAC(owner)
	l.ip(owner, "link add up0 type bridge", "link set up0 up", fmt.Sprintf("link set up0 address %s", net.HardwareAddr(own[:])))
	time.Sleep(100 * time.Millisecond)
	answers("another interface")

	// The other nodes' kernels have to learn the new address too, or they are right to call the node dead.
	l.Inside(owner, func() error { return bed.Set("ipv4/conf/lan0/arp_notify=1") })
	changed := lb.MAC{2, 0, 0, 0, 7, 7}
	l.ip(owner, fmt.Sprintf("link set lan0 address %s", net.HardwareAddr(changed[:])))
	for _, a := range addrs {
		eventually(t, fmt.Sprintf("the client's kernel knows the new hardware address for %s", a), soon, func() bool { return l.NeighbourMAC(a) == changed })
	}
	answers("another hardware address")

	l.ip(owner, "link set lan0 master up0", "addr flush dev lan0", fmt.Sprintf("addr add %s/16 dev up0", bed.NodeAddr(owner)),
		fmt.Sprintf("addr add %s/64 dev up0 nodad", bed.Host6(10+owner)))
	l.settled()
	l.owners() // announced by one node, not by the bridge's port too
}

// TestAnInterfaceEndsAndReturns: its addresses are elsewhere meanwhile, and the new one serves.
func TestAnInterfaceEndsAndReturns(t *testing.T) {
	l, owners := startAll(t, group(3))
	i := owners[bed.VIP(0)]
	l.Uncable(i)
	l.settled(i)
	for a, owner := range l.owners() {
		if owner == i {
			t.Errorf("%s is still at node %d", a, i)
		}
	}
	l.Cable(i)
	l.settled()
	for _, j := range others(l.group, i) {
		l.End(j, syscall.SIGTERM)
	}
	for a, owner := range l.owners() {
		if owner != i {
			t.Errorf("%s is at node %d, which has left", a, owner)
		}
	}
}

// TestLinkEventsThatWereLost: more events come than the kernel keeps for a speaker that is stopped, and the last of them renames its
// interface. It finds that out all the same.
func TestLinkEventsThatWereLost(t *testing.T) {
	g := group(2)
	g[0].EventBuffer = 4096
	l, _ := startAll(t, g)
	l.Signal(1, syscall.SIGSTOP)
	l.ip(1, "link add up0 type bridge")
	l.Inside(1, func() error {
		link, err := netlink.LinkByName("up0")
		for range 200 {
			if err == nil {
				err = netlink.LinkSetUp(link)
			}
			if err == nil {
				err = netlink.LinkSetDown(link)
			}
		}
		return err
	})
	l.ip(1, "link del up0", "link set eth0 name lan0")
	lost := 0
	l.Inside(1, func() (err error) { lost, err = lostEvents(); return err })
	if lost == 0 {
		t.Fatal("the kernel has kept all events")
	}
	l.Signal(1, syscall.SIGCONT)
	l.settled()
	l.End(2, syscall.SIGTERM)
	for a, owner := range l.owners() {
		if owner != 1 {
			t.Errorf("%s is at node %d, which has left", a, owner)
		}
	}
	t.Logf("the kernel has dropped %d events", lost)
}

// lostEvents returns how many messages the kernel could not give to the netlink sockets of the network namespace.
func lostEvents() (sum int, err error) {
	text, err := os.ReadFile("/proc/thread-self/net/netlink")
	if err != nil {
		return 0, fmt.Errorf("reading the netlink sockets: %w", err)
	}
	for _, line := range strings.Split(string(text), "\n")[1:] {
		if fields := strings.Fields(line); len(fields) > 8 {
			n, err := strconv.Atoi(fields[8]) // sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
			if err != nil {
				return 0, fmt.Errorf("reading %q: %w", line, err)
			}
			sum += n
		}
	}
	return sum, nil
}
