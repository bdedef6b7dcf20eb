package nft

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func (k *fake) open(t *testing.T, forward bool) *Table {
	t.Helper()
	table, err := OpenTable(Options{Forward: forward, kernel: k,
		Inside: func(l datapath.Listener) uint32 {
			return uint32(l.Addr.Port()) | uint32(l.Addr.Addr().AsSlice()[3])<<16
		}})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func server(listener string, edit func(*datapath.VirtualServer), dests ...string) datapath.VirtualServer {
	v := datapath.VirtualServer{Listener: datapath.Listener{Addr: netip.MustParseAddrPort(listener), Protocol: lb.TCP}, Verdict: datapath.Forward}
	for _, d := range dests {
		v.Destinations = append(v.Destinations, datapath.Destination{Addr: netip.MustParseAddrPort(d), Weight: 1, Method: datapath.NAT})
	}
	if edit != nil {
		edit(&v)
	}
	return v
}

func state(servers ...datapath.VirtualServer) datapath.State {
	var s datapath.State
	for _, v := range servers {
		s.Servers = append(s.Servers, &v)
		if a := v.Addr.Addr(); !v.NodePort() && (len(s.VIPs) == 0 || s.VIPs[len(s.VIPs)-1] != a) {
			s.VIPs = append(s.VIPs, a)
		}
	}
	return s
}

// randomState draws from few addresses and ports, so that successive states collide.
func randomState(r *rand.Rand) datapath.State {
	var servers []datapath.VirtualServer
	for _, addr := range []string{"0.0.0.0", "192.0.2.200", "192.0.2.201", "2001:db8::200"} {
		for port := range 2 {
			for range r.IntN(3) {
				v := randomServer(r, netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(80+port)))
				if n := len(servers); n > 0 && servers[n-1].Addr == v.Addr {
					v.Inside = true
				}
				servers = append(servers, v)
			}
			v := randomServer(r, netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(80+port)))
			if n := len(servers); n > 0 && servers[n-1].Addr == v.Addr && r.IntN(3) == 0 { // never without another
				v.Tunnelled, v.Verdict = true, datapath.Forward
				servers = append(servers, v)
			}
		}
	}
	s := state(servers...)
	s.Peers = []netip.Addr{netip.MustParseAddr("192.0.2.12"), netip.MustParseAddr("2001:db8::12")}[:r.IntN(3)]
	if len(s.Peers) > 0 {
		s.MTU = datapath.MTU{IPv4: 1500 * r.IntN(2), IPv6: 1450}
	}
	s.Onward.Known = true
	for _, w := range []*datapath.Way{&s.Onward.IPv4, &s.Onward.IPv6}[:r.IntN(3)] {
		*w = datapath.Way{First: datapath.Hop{Addr: netip.MustParseAddr("192.0.2.12"), Link: 7}}
		if r.IntN(2) == 0 {
			w.Next = datapath.Hop{Addr: netip.MustParseAddr("192.0.2.13"), Link: 1 + r.IntN(2)}
		}
	}
	if r.IntN(3) > 0 {
		s.NodeAddrs = []netip.Addr{netip.MustParseAddr("192.0.2.11")}
	}
	if r.IntN(5) == 0 {
		s.Pods = datapath.Detector{Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/30")}, Interfaces: []string{"cali*"}}
	}
	return s
}

// sharing returns s with some of its servers as they were in last, in the same memory.
func sharing(r *rand.Rand, s, last datapath.State) datapath.State {
	for i, v := range s.Servers {
		j, ok := slices.BinarySearchFunc(last.Servers, v.Listener, func(v *datapath.VirtualServer, l datapath.Listener) int { return v.Listener.Compare(l) })
		if ok && r.IntN(2) == 0 {
			s.Servers[i] = last.Servers[j]
		}
	}
	return s
}

func randomServer(r *rand.Rand, addr netip.AddrPort) datapath.VirtualServer {
	v := server(addr.String(), nil)
	v.Service.Name = fmt.Sprint(addr.Port())
	v.Verdict = []datapath.Verdict{datapath.Forward, datapath.Forward, datapath.Reject, datapath.Drop}[r.IntN(4)]
	v.Masquerade, v.Affinity = datapath.Clients(r.IntN(8)), time.Duration(r.IntN(3))*time.Hour
	base, bits := "198.51.0.0", 24
	if addr.Addr().Is6() {
		base, bits = "2001:db8:1::", 64
	}
	if r.IntN(2) == 0 {
		v.SourceRanges = []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(base), bits-r.IntN(2))}
	}
	for e := range 4 {
		if w := r.IntN(3); w > 0 {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(e)})
			if addr.Addr().Is6() {
				a = netip.AddrFrom16([16]byte{0xfd, 15: byte(e)})
			}
			v.Destinations = append(v.Destinations, datapath.Destination{Addr: netip.AddrPortFrom(a, 80), Weight: w - 1, Method: datapath.NAT})
		}
	}
	return v
}

// TestShuffle replays random states against one table. Whatever came before, the kernel ends with what a fresh table would hold,
// also after transactions that the kernel refused and after restarts.
func TestShuffle(t *testing.T) {
	for _, forward := range []bool{false, true} {
		seed := rand.Uint64()
		t.Logf("forward %v, seed %d", forward, seed)
		r := rand.New(rand.NewPCG(seed, 0))
		k := &fake{}
		k.refuse = func() error {
			if r.IntN(5) == 0 {
				return errors.New("device or resource busy")
			}
			return nil
		}
		table := k.open(t, forward)
		var last datapath.State
		for round := range 300 {
			s := sharing(r, randomState(r), last)
			last = s
			if r.IntN(20) == 0 {
				table = k.open(t, forward)
			}
			now := t0.Add(time.Duration(round) * time.Second)
			for tries := 0; table.Set(context.Background(), s, now) != nil || !table.trash.empty() && r.IntN(4) > 0; tries++ {
				if tries == 1000 {
					t.Fatalf("round %d: %v", round, table.Set(context.Background(), s, now))
				}
			}
			if !table.trash.empty() {
				continue // what is left over may come back to life in the next round
			}
			fresh := &fake{}
			if err := fresh.open(t, forward).Set(context.Background(), s, t0); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			if d := cmp.Diff(strings.Split(fresh.dump(), "\n"), strings.Split(k.dump(), "\n")); d != "" {
				t.Fatalf("round %d (-fresh +replayed):\n%s", round, d)
			}
		}
	}
}

// TestOnwardTablesAreKept: those that hand packets on are written when they are known, again when somebody has deleted them, and as long as
// nobody knows whom there is they stay as a predecessor left them.
func TestOnwardTablesAreKept(t *testing.T) {
	k := &fake{}
	s, now := state(server("192.0.2.200:80", nil, "10.0.0.1:8080")), t0
	set := func(table *Table, what string, want int) {
		t.Helper()
		now = now.Add(time.Minute)
		if err := table.Set(context.Background(), s, now); err != nil {
			t.Fatal(err)
		}
		if n := len(k.others); n != want {
			t.Errorf("%s: %d tables that hand packets on, want %d", what, n, want)
		}
	}
	table := k.open(t, true)
	set(table, "unknown", 0)
	hop := datapath.Hop{Addr: netip.MustParseAddr("192.0.2.12"), Link: 7}
	s.Onward = datapath.Onward{Known: true, IPv4: datapath.Way{First: hop}}
	set(table, "known", 1)
	delete(k.others, unix.NFPROTO_IPV4)
	k.commits++
	set(table, "after somebody deleted it", 1)
	s.Onward = datapath.Onward{}
	set(k.open(t, true), "a new process", 1)
	s.Onward.Known = true
	set(table, "alone", 0)
	s.Onward.IPv4.First = hop
	k.refuse = func() error { return errRefused }
	deaf := k.open(t, true)
	k.refuse = nil
	if deaf.Onward() == nil {
		t.Error("a kernel that cannot duplicate packets is not noticed")
	}
	set(deaf, "by a kernel that cannot", 0)
}

func TestNothingIsWrittenForAnEqualState(t *testing.T) {
	k := &fake{}
	table, s := k.open(t, true), state(server("192.0.2.200:80", nil, "10.0.0.1:8080"))
	for i := range 5 {
		if err := table.Set(context.Background(), s, t0.Add(time.Duration(i)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if k.commits != 1 {
		t.Errorf("%d transactions, want 1", k.commits)
	}
}

// TestAChangeIsAsSmallAsItself: what one endpoint costs does not depend on how many Services there are.
func TestAChangeIsAsSmallAsItself(t *testing.T) {
	var servers []datapath.VirtualServer
	for i := range 1000 {
		servers = append(servers, server(fmt.Sprintf("192.0.%d.%d:80", i/256, i%256), nil, "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"))
	}
	k := &fake{}
	table := k.open(t, true)
	if err := table.Set(context.Background(), state(servers...), t0); err != nil {
		t.Fatal(err)
	}
	other := server("192.0.1.0:80", nil, "10.0.0.1:80", "10.0.0.2:80", "10.0.0.4:80")
	servers[256] = other
	from, to := changed(table.have, state(servers...))
	packet, err := diff(table.used, table.trash, table.render(from), table.render(to)).encode(table.sets)
	if err != nil {
		t.Fatal(err)
	}
	if size := len(packet); size > 500 {
		t.Errorf("the transaction has %d bytes", size)
	}
}

func TestARefusedTransactionChangesNothing(t *testing.T) {
	k := &fake{}
	table := k.open(t, true)
	one, two := state(server("192.0.2.200:80", nil, "10.0.0.1:8080")), state(server("192.0.2.201:80", nil, "10.0.0.1:8080"))
	if err := table.Set(context.Background(), one, t0); err != nil {
		t.Fatal(err)
	}
	before, refusal := k.dump(), errors.New("no memory")
	k.refuse = func() error { return refusal }
	if err := table.Set(context.Background(), two, t0); !errors.Is(err, refusal) {
		t.Errorf("error %v, want %v", err, refusal)
	}
	if d := cmp.Diff(before, k.dump()); d != "" {
		t.Errorf("table (-before +after):\n%s", d)
	}
	k.refuse = nil
	fresh := &fake{}
	if err := errors.Join(table.Set(context.Background(), two, t0), table.Set(context.Background(), two, t0), fresh.open(t, true).Set(context.Background(), two, t0)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(fresh.dump(), k.dump()); d != "" {
		t.Errorf("the next Set did not make up for it (-want +got):\n%s", d)
	}
}

// TestDamageIsRepaired: rules that somebody flushed come back at once, elements when the table is read in full.
func TestDamageIsRepaired(t *testing.T) {
	for name, damage := range map[string]struct {
		what  func(*fakeTable)
		after time.Duration
	}{
		"rules":    {func(t *fakeTable) { t.chains["services4"] = nil }, verifyEvery},
		"elements": {func(t *fakeTable) { clear(t.sets["endpoints4"]) }, readEvery},
	} {
		k := &fake{}
		table, s := k.open(t, true), state(server("192.0.2.200:80", nil, "10.0.0.1:8080"))
		if err := table.Set(context.Background(), s, t0); err != nil {
			t.Fatal(err)
		}
		want := k.dump()
		damage.what(k.table)
		k.commits++
		for _, now := range []time.Duration{verifyEvery, damage.after} {
			if err := table.Set(context.Background(), s, t0.Add(now)); err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff(want, k.dump()); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// TestWhatIsOwnedIsReadFromTheKernel: of the listeners, those at addresses that are no VIP, which otherwise nothing tells from others'.
func TestWhatIsOwnedIsReadFromTheKernel(t *testing.T) {
	k := &fake{}
	s := state(server("0.0.0.0:30080", nil, "10.0.0.1:8080"), server("192.0.2.11:80", nil, "10.0.0.1:8080"), server("192.0.2.200:80", nil, "10.0.0.1:8080"),
		server("[2001:db8::11]:80", nil, "[fd00::1]:8080"), server("[2001:db8::200]:80", nil, "[fd00::1]:8080"))
	s.NodeAddrs = []netip.Addr{netip.MustParseAddr("192.0.2.11")}
	s.VIPs = []netip.Addr{netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("2001:db8::200")}
	if vips, atNode, err := k.open(t, false).Owned(context.Background()); err != nil || len(vips)+len(atNode) > 0 {
		t.Errorf("without a table: %v, %v, %v", vips, atNode, err)
	}
	if err := k.open(t, false).Set(context.Background(), s, t0); err != nil {
		t.Fatal(err)
	}
	vips, atNode, err := k.open(t, false).Owned(context.Background())
	want := "[192.0.2.200 2001:db8::200] [192.0.2.11:80/TCP 192.0.2.11:30080/TCP [2001:db8::11]:80/TCP] <nil>"
	if got := fmt.Sprint(vips, atNode, err); got != want {
		t.Errorf("owned %s, want %s", got, want)
	}
}

// TestTablesAreFound, and a guard of IPVS is told from the whole datapath.
func TestTablesAreFound(t *testing.T) {
	ctx, s := context.Background(), state(server("192.0.2.200:80", nil, "10.0.0.1:8080"))
	onward := s
	onward.Onward = datapath.Onward{Known: true, IPv6: datapath.Way{First: datapath.Hop{Addr: netip.MustParseAddr("2001:db8::12"), Link: 7}}}
	k := &fake{}
	check := func(want string) {
		t.Helper()
		tables, guard, err := found(k)
		if got := fmt.Sprint(tables, guard, err); got != want {
			t.Errorf("found %s, want %s", got, want)
		}
	}
	set := func(table *Table, s datapath.State) {
		t.Helper()
		if err := table.Set(ctx, s, t0); err != nil {
			t.Fatal(err)
		}
	}
	check("[] false <nil>")
	forward := k.open(t, true)
	set(forward, s)
	check("[inet fairlead] false <nil>")
	set(forward, onward)
	check("[inet fairlead ip6 fairlead] false <nil>")
	guard := k.open(t, false)
	set(guard, datapath.State{Onward: datapath.Onward{Known: true}})
	check("[inet fairlead] true <nil>")
	if err := guard.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	check("[] false <nil>")
}

func TestMarkIsOneBit(t *testing.T) {
	if _, err := OpenTable(Options{Forward: true, Mark: 0x3000, kernel: &fake{}}); err == nil {
		t.Error("a mark of two bits was accepted")
	}
}

// TestRangesBecomeIntervals: those that touch are one, the one at the end of the address space has no end.
func TestRangesBecomeIntervals(t *testing.T) {
	r := newRuleset()
	for _, p := range []string{"10.0.0.0/25", "10.0.0.128/25", "192.0.2.7/32", "255.255.255.0/24"} {
		r.prefix("x", netip.MustParsePrefix(p))
	}
	got := map[string]bool{}
	for p := range r.elements {
		a, _ := netip.AddrFromSlice([]byte(p.key))
		got[fmt.Sprint(a, p.end)] = true
	}
	want := map[string]bool{"10.0.0.0 false": true, "10.0.1.0 true": true, "192.0.2.7 false": true, "192.0.2.8 true": true, "255.255.255.0 false": true}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("elements (-want +got):\n%s", d)
	}
}

// counted is a kernel with packets in every element: two of 100 bytes each.
type counted struct{ *fake }

func (k counted) elements(set string, each func(key, value []byte, packets, bytes uint64)) error {
	return k.fake.elements(set, func(key, value []byte, _, _ uint64) { each(key, value, 2, 200) })
}

// TestCountsTellOpeningBytesApart: an endpoint whose number changes has them in another element, but the rest where it was.
func TestCountsTellOpeningBytesApart(t *testing.T) {
	k := &fake{}
	e := NewEngine(k.open(t, true), nil)
	want := state(server("192.0.2.200:80", nil, "10.0.0.1:8080", "10.0.0.2:8080"),
		server("192.0.2.200:81", func(v *datapath.VirtualServer) { v.Affinity = time.Hour }, "10.0.0.1:8080"))
	if err := e.table.Set(t.Context(), want, t0); err != nil {
		t.Fatal(err)
	}
	e.table.kernel = counted{k}
	counts, err := e.Counts(t.Context())
	if err != nil || len(counts) != 3 {
		t.Fatalf("counts %+v, %v; want three", counts, err)
	}
	for _, c := range counts {
		opened := uint64(2)
		if c.Listener.Addr.Port() == 81 {
			opened = 4 // two who are remembered, and two for whom there was no room
		}
		if c.Conns != opened || c.Opening != 100*opened || c.Bytes != c.Opening+200 {
			t.Errorf("%+v, want %d connections with 100 bytes of each one's first packet, and 200 others", c, opened)
		}
	}
}
