//go:build kernel

package kernel

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/announce/arp"
	"github.com/fairlead-lb/fairlead/announce/ndp"
	"github.com/fairlead-lb/fairlead/announce/neighbour"
	"github.com/fairlead-lb/fairlead/internal/speaker"
)

// bonded gives the node VLAN 7 on a bond of two cables that end in a switch; the client is the switch itself. The bond changes its
// hardware address with the cable, and one of its ports has an address of its own, which must not matter.
const bonded = `
set -e
mkdir -p /run/netns
ip netns add switch
ip -n switch link add br0 type bridge
ip -n switch link set br0 up
ip -n switch link add link br0 name br0.7 type vlan id 7
ip -n switch addr add 203.0.113.100/24 dev br0.7
ip -n switch addr add 2001:db8:7::100/64 dev br0.7 nodad
ip -n switch link set br0.7 up
ip link add bond9 type bond mode active-backup fail_over_mac active miimon 20
for i in 0 1; do
  ip link add s$i type veth peer name w$i netns switch
  ip -n switch link set w$i master br0 up
  ip link set s$i master bond9
done
ip addr add 203.0.113.50/24 dev s0
ip link set bond9 up
ip link add link bond9 name bond9.7 type vlan id 7
ip addr add 203.0.113.11/24 dev bond9.7
ip addr add 2001:db8:7::11/64 dev bond9.7 nodad
ip link set bond9.7 up
`

// TestVLANOnABond needs a kernel with bonds and VLANs.
func TestVLANOnABond(t *testing.T) {
	shell(t, bonded)
	t.Cleanup(func() { shell(t, "ip link del bond9; ip link del s0; ip link del s1; ip netns del switch") })
	four, six := netip.MustParseAddr("203.0.113.200"), netip.MustParseAddr("2001:db8:7::c8")
	announceOn(t, "bond9.7", four, six)

	active := strings.Fields(shell(t, "ip -d link show bond9 | grep -o 'active_slave [^ ]*'"))[1]
	before := hardwareAddr(t, "bond9.7")
	for _, addr := range []netip.Addr{four, six} {
		resolves(t, addr, before)
	}
	out, err := exec.Command("ip", "netns", "exec", "switch", "arping", "-c", "3", "-w", "5", "-I", "br0.7", four.String()).CombinedOutput()
	replies := regexp.MustCompile(`(?m)^(42 bytes|Unicast reply) from`).FindAll(out, -1) // there are two programs of this name
	if err != nil || len(replies) != 3 {
		t.Errorf("three questions do not get three answers: %v\n%s", err, out)
	}

	start := time.Now()
	shell(t, "ip -n switch link set w"+strings.TrimPrefix(active, "s")+" down")
	after := before
	for ; after == before && time.Since(start) < patience; time.Sleep(time.Millisecond) {
		after = hardwareAddr(t, "bond9.7")
	}
	if after == before {
		t.Fatalf("the bond kept %s although %s lost its carrier", before, active)
	}
	changed := time.Now()
	for _, addr := range []netip.Addr{four, six} {
		resolves(t, addr, after)
	}
	t.Logf("the bond changed its cable after %s, the client's entries followed after another %s", changed.Sub(start).Round(time.Millisecond), time.Since(changed).Round(time.Millisecond))
}

// announceOn runs both responders on the node's links, as the speaker would, until the test ends.
func announceOn(t *testing.T, iface string, addrs ...netip.Addr) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var group errgroup.Group
	t.Cleanup(func() {
		stop()
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	})
	o := neighbour.Options{Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Changed: func() {}, Conflict: func(neighbour.Conflict) {}}
	var responders []*neighbour.Responder
	for _, make := range []func(neighbour.Options) (*neighbour.Responder, error){arp.New, ndp.New} {
		r, err := make(o)
		if err != nil {
			t.Fatal(err)
		}
		responders = append(responders, r)
		group.Go(func() error { return r.Run(ctx) })
	}
	look := func() {
		links, err := speaker.Netlink{}.Links()
		if err != nil {
			t.Error(err)
		}
		for _, l := range links {
			if strings.HasPrefix(l.Name, "s") {
				t.Errorf("port %s of the bond counts as a link", l.Name)
			}
		}
		for _, r := range responders {
			r.SetLinks(links)
		}
	}
	look()
	group.Go(func() error { return speaker.Netlink{}.Watch(ctx, look) })
	want := map[netip.Addr]announce.Target{}
	for _, a := range addrs {
		want[a] = announce.Target{Interfaces: []string{iface}, Epoch: 1}
	}
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		reached := 0
		for _, r := range responders {
			reached += len(r.Set(want))
		}
		if reached == len(addrs) {
			return
		}
		if time.Since(start) > patience {
			t.Fatalf("only %d of %v are announced", reached, addrs)
		}
	}
}

// resolves waits until the client's kernel has mac for addr.
func resolves(t *testing.T, addr netip.Addr, mac string) {
	t.Helper()
	entry := regexp.MustCompile(`lladdr (\S+)`)
	var last string
	for start := time.Now(); time.Since(start) < patience; time.Sleep(5 * time.Millisecond) {
		_ = within("switch", func() error { // nobody listens there; the question is what counts
			c, err := net.Dial("udp", netip.AddrPortFrom(addr, 9).String())
			if err == nil {
				_, _ = c.Write([]byte("x"))
				err = c.Close()
			}
			return err
		})
		last = shell(t, "ip -n switch neigh show to "+addr.String())
		if m := entry.FindStringSubmatch(last); slices.Contains(m, mac) {
			return
		}
	}
	t.Errorf("the client has %q for %s, want %s", last, addr, mac)
}

func hardwareAddr(t *testing.T, name string) string {
	t.Helper()
	i, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return i.HardwareAddr.String()
}

func shell(t testing.TB, script string) string {
	t.Helper()
	out, err := exec.Command("bash", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}
