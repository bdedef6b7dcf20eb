//go:build wire

package wire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/announce/arp"
	"github.com/fairlead-lb/fairlead/announce/ndp"
	"github.com/fairlead-lb/fairlead/datapath/link"
	"github.com/fairlead-lb/fairlead/lb"
	"github.com/fairlead-lb/fairlead/test/bed"
)

// foreign is a station that is no speaker.
var foreign = lb.MAC{2, 0, 0, 0, 9, 9}

// stranger plugs an interface of the test's own into the bridge and returns a packet socket on it.
func (l lan) stranger(etherType int) *packet.Conn {
	l.t.Helper()
	l.ip(0, fmt.Sprintf("link add strange0 address %s type veth peer name port99", net.HardwareAddr(foreign[:])),
		"link set port99 master "+bed.Segment+" up", "link set strange0 up")
	s, err := netlink.LinkByName("strange0")
	check(l.t, err)
	l.t.Cleanup(func() { _ = netlink.LinkDel(s) })
	c, err := packet.Listen(&net.Interface{Index: s.Attrs().Index, Name: "strange0", HardwareAddr: foreign[:]}, packet.Raw, etherType, nil)
	check(l.t, err)
	l.t.Cleanup(func() { _ = c.Close() })
	eventually(l.t, "the bridge has noticed the stranger's cable", 5*time.Second, func() bool {
		p, err := netlink.LinkByName("port99")
		return err == nil && p.Attrs().OperState == netlink.OperUp
	})
	return c
}

func send(t *testing.T, c *packet.Conn, frame []byte) {
	t.Helper()
	_, err := c.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])})
	check(t, err)
}

// TestAnAddressThatSomebodyHasIsLeftAlone: the client's own kernel has two of the addresses before the first speaker starts.
func TestAnAddressThatSomebodyHasIsLeftAlone(t *testing.T) {
	l := lan{bed.New(t), t, group(3)}
	taken := []netip.Addr{bed.VIP(1), bed.VIP6(1)}
	for _, a := range taken {
		l.ip(0, "addr add "+a.String()+" dev "+bed.Segment)
	}
	for _, o := range l.group {
		l.Start(o)
	}
	free := slices.DeleteFunc(addresses(), func(a netip.Addr) bool { return slices.Contains(taken, a) })
	l.Owners(15*time.Second, free...)
	for _, a := range taken {
		if got := l.Answers(a, 300*time.Millisecond); len(got) != 0 {
			t.Errorf("nodes %v answer for %s, which another station has", got, a)
		}
		l.ip(0, "addr del "+netip.PrefixFrom(a, a.BitLen()).String()+" dev "+bed.Segment)
	}
	gone := time.Now()
	l.Owners(45*time.Second, taken...) // they are probed again every 30 s
	t.Logf("announced %s after the stranger has gone", time.Since(gone).Round(time.Millisecond))
}

func TestAStrangerIsCountered(t *testing.T) {
	l, owners := startAll(t, group(3))
	addrs, owner := l.pair(owners)
	l.learn(addrs...)
	c := l.stranger(unix.ETH_P_ALL)
	buf := make([]byte, 2048)
	for _, a := range addrs {
		claim := arp.Codec{}.Announcement
		if a.Is6() {
			claim = ndp.Codec{}.Announcement
		}
		counter := claim(a, bed.MAC(owner))[0]
		send(t, c, claim(a, foreign)[0])
		check(t, c.SetReadDeadline(time.Now().Add(soon)))
		for n := 0; !bytes.HasPrefix(buf[:n], counter); {
			var err error
			if n, _, err = c.ReadFrom(buf); err != nil {
				t.Fatalf("the claim to %s was not countered: %v", a, err)
			}
		}
		eventually(t, fmt.Sprintf("the client's kernel sends packets for %s to the owner again", a), soon, func() bool { return l.Neighbour(a) == owner })
		if got, ok := l.onlyAnswers(owner, a, 200*time.Millisecond); !ok {
			t.Errorf("%s: nodes %v answer after a stranger's claim, want %d", a, got, owner)
		}
	}
}

// TestHostilePackets: frames that resemble the protocols' change nothing.
func TestHostilePackets(t *testing.T) {
	l, owners := startAll(t, group(3))
	c := l.stranger(unix.ETH_P_ARP)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	ask := ndp.Probe(bed.VIP6(0), foreign, [6]byte{1})
	seeds := [][]byte{arp.Probe(bed.VIP(0), foreign).Append(nil), ask.Append(nil), ndp.Unsolicited(bed.Host6(240), foreign).Append(nil)}
	seeds = append(seeds, arp.Codec{}.Announcement(bed.Host(240), foreign)...)
	for range 20000 {
		frame := append([]byte(nil), seeds[dice.IntN(len(seeds))]...)
		for range 1 + dice.IntN(4) {
			frame[14+dice.IntN(len(frame)-14)] = byte(dice.Uint32()) // not the frame's addresses, so that it arrives
		}
		frame = append(frame[:14+dice.IntN(len(frame)-13)], make([]byte, dice.IntN(64))...)
		if !poisons(frame) {
			send(t, c, frame)
		}
	}
	after := l.owners()
	for a, owner := range owners {
		if after[a] != owner {
			t.Errorf("%s moved from node %d to %d", a, owner, after[a])
		}
	}
}

// poisons reports whether the frame would have the kernels believe something of each other, which is none of our business, but
// would cut the nodes off from each other.
func poisons(frame []byte) bool {
	stations := []netip.Addr{bed.Client(), bed.Host6(100)}
	for i := 1; i <= 3; i++ {
		stations = append(stations, bed.NodeAddr(i), bed.Host6(10+i))
	}
	four, six := arp.Codec{}.Judge(frame, nil, lb.MAC{}, nil), ndp.Codec{}.Judge(frame, nil, lb.MAC{}, nil)
	return slices.Contains(stations, four.Claim.Addr) || slices.Contains(stations, six.Claim.Addr)
}

// TestMulticastSnooping: a switch that forwards groups only to those who have joined forwards our questions.
func TestMulticastSnooping(t *testing.T) {
	l := lan{bed.New(t), t, group(3)}
	l.ip(0, "link set "+bed.Segment+" type bridge mcast_query_response_interval 100 mcast_startup_query_interval 100",
		"link set "+bed.Segment+" type bridge mcast_snooping 1 mcast_querier 1")
	for _, o := range l.group {
		l.Start(o)
	}
	c := l.stranger(unix.ETH_P_IPV6)
	asked := bed.VIP6(0)
	eventually(t, "the bridge does not flood any more, and a node answers", 15*time.Second, func() bool {
		got := l.Answers(asked, 100*time.Millisecond)
		return !flooded(t, c, asked) && len(got) == 1
	})
	time.Sleep(2 * time.Second) // two query intervals: whoever has not joined is not forwarded to now
	for _, a := range addresses() {
		if got := l.Answers(a, 100*time.Millisecond); len(got) != 1 {
			t.Errorf("%s: nodes %v answer", a, got)
		}
		if flooded(t, c, a) {
			t.Fatalf("the bridge floods the question for %s: the test proves nothing", a)
		}
	}
}

// flooded reports whether a solicitation for addr is among the packets that c has received, and discards those.
func flooded(t *testing.T, c *packet.Conn, addr netip.Addr) (found bool) {
	t.Helper()
	check(t, c.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	buf := make([]byte, 2048)
	for {
		n, _, err := c.ReadFrom(buf)
		if err != nil {
			return found
		}
		p, err := ndp.Parse(buf[:n])
		found = found || err == nil && p.Type == ndp.Solicitation && p.Target == addr && p.Src == bed.Host6(100) && p.Dst.IsMulticast()
	}
}

// TestTheKernelKeepsSilent about addresses that it delivers locally, and only because of arp_ignore.
func TestTheKernelKeepsSilent(t *testing.T) {
	l, owners := startAll(t, group(3))
	for _, o := range l.group {
		l.Inside(o.Number, func() error {
			for _, a := range addresses() {
				if _, err := (link.Routes{}).Up(a); err != nil { // as the ipvs engine does
					return err
				}
			}
			return bed.Set("ipv4/conf/all/arp_ignore=0")
		})
	}
	eventually(t, "without arp_ignore every kernel answers ARP", 5*time.Second, func() bool { return len(l.Answers(bed.VIP(0), 100*time.Millisecond)) == 3 })
	for _, o := range l.group {
		l.ip(o.Number, "link add extra0 type veth peer name extra1", "addr add 192.0.2.9/24 dev extra0", "link set extra0 up")
		l.Inside(o.Number, func() error {
			_, err := link.Raise(link.ProcSys, link.Silence()...)
			return err
		})
	}
	time.Sleep(500 * time.Millisecond)
	for addr, owner := range owners {
		if got, ok := l.onlyAnswers(owner, addr, 100*time.Millisecond); !ok {
			t.Errorf("%s: nodes %v answer, want %d", addr, got, owner)
		}
	}
}
