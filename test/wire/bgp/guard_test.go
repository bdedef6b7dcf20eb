//go:build wire

package bgp

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/announce/bgp/bgptest"
	"github.com/fairlead-lb/fairlead/announce/bgp/wire"
	"github.com/fairlead-lb/fairlead/lb"
	"github.com/fairlead-lb/fairlead/test/bed"
	"github.com/fairlead-lb/fairlead/test/router"
)

// kill kills the process with the sessions, and waits until it is gone.
func (p *pod) kill() {
	p.t.Helper()
	pid := p.sessions()
	router.Check(p.t, syscall.Kill(pid, syscall.SIGKILL))
	router.Until(p.t, "the process gone", func() bool { return syscall.Kill(pid, 0) != nil })
}

// TestPasswordRotation: the router gets a new password, then we do; nobody restarts, and the session is back.
func TestPasswordRotation(t *testing.T) {
	f := router.StartFRR(link(t), frrConfig(theirASN, "password old"))
	p := startPod(t, 0)
	n := graceful()
	n.Password = "old"
	p.Set(complete(n))
	p.up("frr")
	router.Until(t, "the routes", func() bool { return len(f.Prefixes()) == 3 })
	before := p.sessions()
	f.Configure("router bgp 64513", "neighbor 192.0.2.1 password new")
	n.Password = "new"
	p.Set(complete(n))
	router.Until(t, "the session with the new password", func() bool { return f.Neighbor(us4.String()).Established >= 2 && len(f.Prefixes()) == 3 })
	if p.sessions() != before {
		t.Error("the process was restarted")
	}
}

// TestTTLSecurity: who is further away than allowed cannot reach us, whatever TTL it started with.
func TestTTLSecurity(t *testing.T) {
	near, far := router.NewHost(t), router.NewHost(t)
	router.Cable(t, nil, "v0", []string{us4.String() + "/24"}, near, "in", []string{"192.0.2.254/24"})
	router.Cable(t, near, "out", []string{"198.51.100.254/24"}, far, "eth0", []string{"198.51.100.2/24"})
	near.Within(func() error { return bed.Set("ipv4/ip_forward=1") })
	must(t, "ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.254")
	far.Run("ip", "route", "add", "default", "via", "198.51.100.254")
	router.StartFRR(far, frrConfig(theirASN, "ttl-security hops 2"))
	p := peer("frr", netip.MustParseAddr("198.51.100.2"))
	p.MultiHop, p.TTLSecurity, p.Families = true, 2, []lb.Family{lb.IPv4}
	s := start(t, p)
	s.up("frr")
	s.stop()
	p.TTLSecurity = 1
	start(t, p).refused("frr", lb.BGPTooFar)
}

// TestMaxPrefixes: FRR sends three prefixes where two are allowed.
func TestMaxPrefixes(t *testing.T) {
	f := router.StartFRR(link(t), frrConfig(theirASN)+"ip route 10.1.0.0/16 blackhole\n")
	f.Configure("router bgp 64513", "no bgp network import-check", "address-family ipv4 unicast", "network 10.1.0.0/16", "network 10.2.0.0/16", "network 10.3.0.0/16")
	p := peer("frr", them4)
	s := start(t, p)
	s.up("frr")
	router.Until(t, "three prefixes counted", func() bool { return s.session("frr").PrefixesIn == 3 })
	if out, err := output("ip", "route"); err != nil || strings.Contains(out, "10.1.0.0") {
		t.Errorf("what FRR sent is in our kernel: %s, %v", out, err)
	}
	s.stop()
	p.MaxPrefixes = 2
	start(t, p).refused("frr", lb.BGPMaxPrefixes)
	router.Until(t, "FRR hearing why", func() bool {
		return strings.Contains(f.Neighbor(us4.String()).LastNotification, "Maximum Number of Prefixes")
	})
}

// TestBFD: FRR and we watch each other; when nothing gets through both close, long before the hold time, and come back.
func TestBFD(t *testing.T) {
	f := router.StartFRR(link(t), frrConfig(theirASN, "bfd", "bfd 3 50 50"))
	w := watched(t, &bgp.BFD{Receive: 50 * time.Millisecond, Transmit: 50 * time.Millisecond, Multiplier: 3})
	w.up("frr")
	w.bfd("Up")
	router.Until(t, "the routes", func() bool { return len(f.Prefixes()) == 3 })
	f.Host.Cut("eth0", true)
	begun := time.Now()
	router.Until(t, "our session down", func() bool { return w.session().Reason == lb.BGPBFDDown })
	t.Logf("closed after %s", time.Since(begun))
	router.Until(t, "the routes gone", func() bool { return len(f.Prefixes()) == 0 })
	t.Logf("FRR without routes after %s", time.Since(begun))
	if time.Since(begun) > 5*time.Second {
		t.Errorf("it took %s, the hold time is 9 s", time.Since(begun))
	}
	f.Host.Cut("eth0", false)
	w.up("frr")
	w.bfd("Up")
	router.Until(t, "the routes back", func() bool { return len(f.Prefixes()) == 3 })
}

// TestUpgradeWithBFD: a planned restart of both processes ends BFD too, and FRR keeps the routes.
func TestUpgradeWithBFD(t *testing.T) {
	f := router.StartFRR(link(t), frrConfig(theirASN, "bfd", "bfd 3 50 50"))
	w := watched(t, &bgp.BFD{Receive: 50 * time.Millisecond, Transmit: 50 * time.Millisecond, Multiplier: 3})
	w.up("frr")
	w.bfd("Up")
	router.Until(t, "the routes in FRR and its kernel", func() bool { return len(f.Prefixes()) == 3 && f.Installed() == 3 })
	stop := watch(f, f.Prefixes())
	s := complete(w.peer)
	s.Keep = true
	w.Watch.Set(s)
	router.Check(t, w.pod.bgp.Process.Signal(syscall.SIGTERM))
	w.stop()
	router.Check(t, w.pod.bgp.Wait())
	router.Until(t, "FRR having noticed that BFD is down", func() bool { return strings.Contains(f.Show("bfdd", "show bfd peers json"), `"status":"down"`) })
	w.pod.serve(0)
	w.begin()
	w.up("frr")
	w.bfd("Up")
	router.Until(t, "no stale route", func() bool { return !strings.Contains(f.Show("bgpd", "show bgp ipv4 unicast json"), `"stale":true`) })
	stop()
}

// TestHostilePeer: whatever one peer sends, the session with another one stays up and the process lives.
func TestHostilePeer(t *testing.T) {
	f := router.StartFRR(link(t), frrConfig(theirASN))
	p := startPod(t, 0)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	router.Check(t, err)
	r := bgptest.On(t, l)
	peers := []bgp.Peer{graceful()}
	for i := range 10 { // each is tried again ever more slowly
		evil := r.Peer()
		evil.Name = "evil" + string(rune('0'+i))
		peers = append(peers, evil)
	}
	slices.SortFunc(peers, func(a, b bgp.Peer) int { return strings.Compare(a.Name, b.Name) })
	p.Set(complete(peers...))
	p.up("frr")
	router.Until(t, "the routes", func() bool { return len(f.Prefixes()) == 3 })
	pid := p.sessions()
	seed := rand.Uint64()
	dice := rand.New(rand.NewPCG(seed, 1))
	e := wire.Encoder{MyASN: 64513, FourOctet: true, NextHop: map[lb.Family]netip.Addr{lb.IPv4: them4, lb.IPv6: them6}}
	update := e.Announce([]bgp.Path{everything()})
	six := e.Announce(paths("2001:db8:9::/48"))
	sent := 0
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); sent++ {
		line := r.Accept()
		line.Expect(wire.TypeOpen)
		first := bgptest.Open().Bytes()
		if sent%3 == 0 { // an OPEN that was mangled behind its header
			line.Send(mangle(dice, first))
		} else {
			line.Send(first)
			line.Expect(wire.TypeKeepalive)
			line.Send(wire.Keepalive())
			for range dice.IntN(5) + 1 {
				if _, err := line.Write(mangle(dice, [][]byte{update, six, wire.Notification{Code: wire.Cease, Subcode: 2, Data: []byte{3, 1, 2, 3}}.Bytes()}[dice.IntN(3)])); err != nil {
					break // it has closed already
				}
			}
		}
		line.Close()
	}
	if n := f.Neighbor(us4.String()); n.State != "Established" || n.Established != 1 || len(f.Prefixes()) != 3 {
		t.Errorf("seed %d: the other session is %+v", seed, n)
	}
	if p.sessions() != pid {
		t.Errorf("seed %d: the process was restarted", seed)
	}
	t.Logf("%d connections with mangled messages, seed %d", sent, seed)
}

// mangle changes some bytes behind the header, and keeps the length true.
func mangle(dice *rand.Rand, message []byte) []byte {
	out := slices.Clone(message)
	for range dice.IntN(6) + 1 {
		switch at := 19 + dice.IntN(len(out)-19); dice.IntN(3) {
		case 0:
			out[at] = byte(dice.Uint32())
		case 1:
			out[at] ^= 1 << dice.IntN(8)
		default:
			out[at] = 0xff
		}
	}
	if dice.IntN(4) == 0 {
		out = out[:19+dice.IntN(len(out)-19)]
		out[16], out[17] = byte(len(out)>>8), byte(len(out))
	}
	return out
}

func must(t *testing.T, args ...string) {
	t.Helper()
	_, err := output(args...)
	router.Check(t, err)
}
