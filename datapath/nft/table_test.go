package nft

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/knftables"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

var update = flag.Bool("update", false, "rewrite the golden files; look at what changed before you commit them")

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// kernel is knftables' fake with a generation counter and transactions that can be made to fail.
type kernel struct {
	*knftables.Fake
	commits uint32
	refuse  func(*knftables.Transaction) error
}

func newKernel() *kernel { return &kernel{Fake: knftables.NewFake(knftables.InetFamily, TableName)} }

func (k *kernel) Run(ctx context.Context, tx *knftables.Transaction) error {
	if k.refuse != nil {
		if err := k.refuse(tx); err != nil {
			return err
		}
	}
	k.commits++
	return k.Fake.Run(ctx, tx)
}

func (k *kernel) table(t *testing.T, forward bool) *Table {
	t.Helper()
	table, err := OpenTable(Options{Forward: forward, nft: k, generation: func() (uint32, error) { return k.commits, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// dump returns the table's content without rule handles and the order of creation.
func (k *kernel) dump() string {
	var out, elements []string
	for line := range strings.Lines(k.Dump()) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " handle ")
		if strings.HasPrefix(line, "add element ") {
			elements = append(elements, line)
		} else {
			out = append(out, line)
		}
	}
	slices.Sort(elements)
	return strings.Join(append(out, elements...), "\n")
}

func server(listener string, p lb.Protocol, edit func(*datapath.VirtualServer), dests ...string) datapath.VirtualServer {
	v := datapath.VirtualServer{Listener: datapath.Listener{Addr: netip.MustParseAddrPort(listener), Protocol: p}, Verdict: datapath.Forward}
	for _, d := range dests {
		v.Destinations = append(v.Destinations, datapath.Destination{Addr: netip.MustParseAddrPort(d), Weight: 1, Method: datapath.NAT})
	}
	if edit != nil {
		edit(&v)
	}
	return v
}

func state(servers ...datapath.VirtualServer) datapath.State {
	s := datapath.State{Servers: servers}
	for _, v := range servers {
		if a := v.Addr.Addr(); len(s.VIPs) == 0 || s.VIPs[len(s.VIPs)-1] != a {
			s.VIPs = append(s.VIPs, a)
		}
	}
	return s
}

func masquerade(v *datapath.VirtualServer) { v.Masquerade = datapath.Everybody }

// TestGolden shows both faces of the table for servers of every kind.
func TestGolden(t *testing.T) {
	s := state(
		server("192.0.2.200:53", lb.UDP, nil, "10.0.0.1:53"),
		server("192.0.2.200:80", lb.TCP, masquerade, "10.0.0.1:8080", "10.0.0.2:8081"),
		server("192.0.2.200:81", lb.TCP, func(v *datapath.VirtualServer) { v.Verdict = datapath.Reject }),
		server("192.0.2.200:82", lb.TCP, func(v *datapath.VirtualServer) { v.Verdict = datapath.Drop }),
		server("192.0.2.200:83", lb.TCP, func(v *datapath.VirtualServer) {
			v.SourceRanges = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.7/32")}
		}, "10.0.0.1:8083"),
		server("[2001:db8::200]:80", lb.TCP, func(v *datapath.VirtualServer) { v.Affinity = time.Hour }, "[fd00::1]:8080", "[fd00::2]:8080"),
	)
	for _, name := range []string{"guard", "forward"} {
		t.Run(name, func(t *testing.T) {
			golden := filepath.Join("testdata", name+".nft")
			k := newKernel()
			if err := k.table(t, name == "forward").Set(context.Background(), s, t0); err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(golden, []byte(k.dump()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(strings.Split(strings.TrimSpace(string(want)), "\n"), strings.Split(k.dump(), "\n")); d != "" {
				t.Errorf("table (-want +got):\n%s", d)
			}
		})
	}
}

// randomState draws from few addresses and ports, so that successive states collide.
func randomState(r *rand.Rand) datapath.State {
	var servers []datapath.VirtualServer
	for vip := range 3 {
		for port := range 2 {
			if r.IntN(2) == 0 {
				continue
			}
			v := server(fmt.Sprintf("192.0.2.%d:%d", 200+vip, 80+port), lb.TCP, func(v *datapath.VirtualServer) {
				v.Verdict = []datapath.Verdict{datapath.Forward, datapath.Forward, datapath.Reject, datapath.Drop}[r.IntN(4)]
				v.Masquerade, v.Affinity = datapath.Everybody*datapath.Clients(r.IntN(2)), time.Duration(r.IntN(3))*time.Hour
				if r.IntN(2) == 0 {
					v.SourceRanges = []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("198.51.%d.0/24", r.IntN(2)))}
				}
			})
			for e := range 4 {
				if w := r.IntN(3); w > 0 {
					v.Destinations = append(v.Destinations, datapath.Destination{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(e)}), 80), Weight: w - 1})
				}
			}
			servers = append(servers, v)
		}
	}
	return state(servers...)
}

// TestShuffle replays random states against one table. Whatever came before, the kernel ends with what a fresh table would hold,
// also after transactions that the kernel refused and after restarts.
func TestShuffle(t *testing.T) {
	for _, forward := range []bool{false, true} {
		seed := rand.Uint64()
		t.Logf("forward %v, seed %d", forward, seed)
		r := rand.New(rand.NewPCG(seed, 0))
		k := newKernel()
		k.refuse = func(*knftables.Transaction) error {
			if r.IntN(5) == 0 {
				return errors.New("device or resource busy")
			}
			return nil
		}
		table := k.table(t, forward)
		for round := range 300 {
			s := randomState(r)
			if r.IntN(20) == 0 {
				table = k.table(t, forward)
			}
			now := t0.Add(time.Duration(round) * time.Second)
			for table.Set(context.Background(), s, now) != nil || !table.trash.empty() {
			}
			fresh := newKernel()
			if err := fresh.table(t, forward).Set(context.Background(), s, t0); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			if d := cmp.Diff(fresh.dump(), k.dump()); d != "" {
				t.Fatalf("round %d (-fresh +replayed):\n%s", round, d)
			}
		}
	}
}

func TestNothingIsWrittenForAnEqualState(t *testing.T) {
	k := newKernel()
	table, s := k.table(t, true), state(server("192.0.2.200:80", lb.TCP, masquerade, "10.0.0.1:8080"))
	for i := range 5 {
		if err := table.Set(context.Background(), s, t0.Add(time.Duration(i)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if k.commits != 1 {
		t.Errorf("%d transactions, want 1", k.commits)
	}
}

func TestARefusedTransactionChangesNothing(t *testing.T) {
	k := newKernel()
	table := k.table(t, true)
	one, two := state(server("192.0.2.200:80", lb.TCP, nil, "10.0.0.1:8080")), state(server("192.0.2.201:80", lb.TCP, nil, "10.0.0.1:8080"))
	if err := table.Set(context.Background(), one, t0); err != nil {
		t.Fatal(err)
	}
	before, refusal := k.dump(), errors.New("no memory")
	k.refuse = func(*knftables.Transaction) error { return refusal }
	if err := table.Set(context.Background(), two, t0); !errors.Is(err, refusal) {
		t.Errorf("error %v, want %v", err, refusal)
	}
	if d := cmp.Diff(before, k.dump()); d != "" {
		t.Errorf("table (-before +after):\n%s", d)
	}
	k.refuse = nil
	if err := table.Set(context.Background(), two, t0); err != nil || !strings.Contains(k.dump(), "192.0.2.201") {
		t.Errorf("the next Set did not make up for it: %v\n%s", err, k.dump())
	}
}

func TestAFlushedTableIsWrittenAgain(t *testing.T) {
	k := newKernel()
	table, s := k.table(t, true), state(server("192.0.2.200:80", lb.TCP, masquerade, "10.0.0.1:8080"))
	if err := table.Set(context.Background(), s, t0); err != nil {
		t.Fatal(err)
	}
	want := k.dump()
	flush := k.NewTransaction()
	flush.Flush(&knftables.Chain{Name: "guard"})
	if err := k.Run(context.Background(), flush); err != nil {
		t.Fatal(err)
	}
	if err := table.Set(context.Background(), s, t0.Add(verifyEvery)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, k.dump()); d != "" {
		t.Errorf("table (-want +got):\n%s", d)
	}
}

func TestVIPsAreReadFromTheKernel(t *testing.T) {
	k := newKernel()
	s := state(server("192.0.2.200:80", lb.TCP, nil, "10.0.0.1:8080"), server("[2001:db8::200]:80", lb.TCP, nil, "[fd00::1]:8080"))
	if none, err := k.table(t, false).VIPs(context.Background()); err != nil || len(none) > 0 {
		t.Errorf("without a table: %v, %v", none, err)
	}
	if err := k.table(t, false).Set(context.Background(), s, t0); err != nil {
		t.Fatal(err)
	}
	got, err := k.table(t, false).VIPs(context.Background())
	if d := cmp.Diff(s.VIPs, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" || err != nil {
		t.Errorf("VIPs (-want +got), %v:\n%s", err, d)
	}
}

func TestMarkIsOneBit(t *testing.T) {
	if _, err := OpenTable(Options{Mark: 0x3000, nft: newKernel()}); err == nil {
		t.Error("a mark of two bits was accepted")
	}
}
