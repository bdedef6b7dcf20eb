package tunnel

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// world is nodes n1 to n9 at 192.0.2.1 to .9 with one pod each, 10.244.0.1 to .9, and what lies between them.
type world struct {
	t     *testing.T
	now   time.Time
	nodes map[lb.NodeName]*Prober
	next  map[lb.NodeName]time.Time
	block func(from lb.NodeName, to netip.Addr) bool // nil = everything passes
	pods  map[lb.NodeName]Pods
	sent  map[lb.NodeName]int
	seen  []Datagram
	drops map[Drop]int
}

func host(i int) netip.Addr { return addr(fmt.Sprintf("192.0.2.%d", i)) }
func pod(i int) netip.Addr  { return addr(fmt.Sprintf("10.244.0.%d", i)) }
func name(i int) lb.NodeName {
	return lb.NodeName(fmt.Sprintf("n%d", i))
}

// node returns which node has the address.
func node(a netip.Addr) lb.NodeName { return name(int(a.As4()[3])) }

func newWorld(t *testing.T, n int) *world {
	w := &world{t: t, now: time.Unix(1000, 0), nodes: map[lb.NodeName]*Prober{}, next: map[lb.NodeName]time.Time{}, pods: map[lb.NodeName]Pods{}, sent: map[lb.NodeName]int{}, drops: map[Drop]int{}}
	for i := 1; i <= n; i++ {
		p := New(name(i), uint64(i))
		p.SetKeys([]Key{first})
		w.nodes[name(i)], w.pods[name(i)] = p, Pods{pod(i)}
		w.set(i, peersOf(i, n))
	}
	return w
}

// peersOf returns the peers of node i, all with pods.
func peersOf(i, n int) (out []Peer) {
	for j := 1; j <= n; j++ {
		if j != i {
			out = append(out, Peer{Node: name(j), Self: host(i), Host: host(j), Asked: true})
		}
	}
	return out
}

// set replaces the peers of node i, and wakes it.
func (w *world) set(i int, peers []Peer) {
	w.nodes[name(i)].SetPeers(peers, w.now)
	delete(w.next, name(i))
}

// run lets time pass.
func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(50 * time.Millisecond) {
		for i := 1; i <= len(w.nodes); i++ {
			n := name(i)
			if w.now.Before(w.next[n]) {
				continue
			}
			asks, next := w.nodes[n].Tick(w.now)
			w.next[n] = next
			for _, d := range asks {
				w.carry(n, d)
			}
		}
	}
}

// carry brings a datagram to where it is for, and the answer back.
func (w *world) carry(from lb.NodeName, d Datagram) {
	w.sent[from]++
	w.seen = append(w.seen, d)
	if w.block != nil && w.block(from, d.To) {
		return
	}
	to := node(d.To)
	answer, drop := w.nodes[to].Receive(d.Inner, lb.IPv4, w.now, w.own(to))
	if drop != "" {
		w.drops[drop]++
	}
	if w.nodes[to].Hurry() {
		delete(w.next, to)
	}
	if answer.To.IsValid() {
		w.carry(node(d.To), answer)
	}
}

func (w *world) own(n lb.NodeName) func(lb.Family) Pods {
	return func(lb.Family) Pods { return w.pods[n] }
}

// sees returns what a node knows, "n2 passes/passes heard".
func (w *world) sees(i int) string {
	var out []string
	for _, r := range w.nodes[name(i)].Results(w.now) {
		text := fmt.Sprintf("%s %s/%s", r.Node, r.ToHost, r.ToPod)
		if r.Heard {
			text += " heard"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func (w *world) want(step string, i int, want string) {
	w.t.Helper()
	if got := w.sees(i); got != want {
		w.t.Errorf("%s: %s sees %q, want %q", step, name(i), got, want)
	}
}

func TestWhatPassesAndWhatDoesNot(t *testing.T) {
	w := newWorld(t, 3)
	w.want("at first", 1, "n2 /, n3 /")
	w.run(2 * time.Second)
	w.want("open", 1, "n2 passes/passes heard, n3 passes/passes heard")

	w.block = func(_ lb.NodeName, to netip.Addr) bool { return to == pod(2) }
	w.run(every + lost*soon + soon)
	w.want("pods of n2 shut", 1, "n2 passes/blocked heard, n3 passes/passes heard")
	w.want("pods of n2 shut", 2, "n1 passes/passes heard, n3 passes/passes heard")

	w.block = func(from lb.NodeName, to netip.Addr) bool { return from == "n1" && node(to) == "n2" }
	w.run(every + lost*soon + soon)
	w.want("n1 is not let through to n2", 1, "n2 blocked/blocked heard, n3 passes/passes heard")
	w.want("n1 is not let through to n2", 2, "n1 blocked/blocked heard, n3 passes/passes heard") // its answers are not either
	w.run(stale)
	w.want("half a minute later", 2, "n1 blocked/blocked, n3 passes/passes heard")

	w.block = nil
	w.run(every + proven*soon + soon)
	w.want("open again", 1, "n2 passes/passes heard, n3 passes/passes heard")
}

// TestOneAnswerIsNotEnough where a way was blocked: the connections would break once more.
func TestOneAnswerIsNotEnough(t *testing.T) {
	w := newWorld(t, 2)
	through := 0
	w.block = func(from lb.NodeName, to netip.Addr) bool {
		if from == "n1" && to == host(2) {
			through--
			return through < 0
		}
		return from == "n1"
	}
	w.run(lost*soon + 2*soon)
	w.want("shut", 1, "n2 blocked/ heard")
	through = proven - 1
	w.run(3 * every)
	w.want("two answers", 1, "n2 blocked/ heard")
	if through >= 0 {
		t.Errorf("%d asks were left", through)
	}
	through = 100
	w.run(every + proven*soon + soon)
	w.want("open", 1, "n2 passes/ heard")
}

func TestWhoCannotUnpackSaysSo(t *testing.T) {
	w := newWorld(t, 2)
	w.nodes["n2"].SetAble(false)
	w.run(2 * time.Second)
	w.want("n2 cannot", 1, "n2 declined/declined heard")
	w.want("n2 cannot", 2, "n1 passes/passes heard")
	w.nodes["n1"].News()
	w.nodes["n2"].SetAble(true)
	w.run(every + soon)
	w.want("n2 can", 1, "n2 passes/passes heard")
	if !w.nodes["n1"].News() {
		t.Error("that n2 can is no news")
	}
}

// TestLostPacketsAreNoNews: answers are missed now and then, but never eight in a row.
func TestLostPacketsAreNoNews(t *testing.T) {
	w := newWorld(t, 2)
	w.run(2 * time.Second)
	w.nodes["n1"].News()
	n := 0
	w.block = func(lb.NodeName, netip.Addr) bool { n++; return n%3 == 0 }
	w.run(5 * time.Minute)
	w.want("lossy", 1, "n2 passes/passes heard")
	if w.nodes["n1"].News() {
		t.Error("a lost packet is news")
	}
	w.block = func(lb.NodeName, netip.Addr) bool { return true }
	w.run(every + lost*soon + soon)
	if !w.nodes["n1"].News() || w.nodes["n1"].News() {
		t.Error("a path that is blocked is no news, or is news twice")
	}
}

// TestWhatItCosts: two asks in ten seconds to each node, and answers to its own, once it is clear, blocked or not.
func TestWhatItCosts(t *testing.T) {
	for _, blocked := range []bool{false, true} {
		w := newWorld(t, 5)
		w.block = func(lb.NodeName, netip.Addr) bool { return blocked }
		w.run(time.Minute)
		clear(w.sent)
		w.run(10 * every)
		most := 4 * 10 * 4 // to 4 nodes, in 10 rounds: 2 asks and 2 answers
		if blocked {
			most /= 4 // nobody has told of a pod
		}
		for n, sent := range w.sent {
			if sent > most || sent < most-16 {
				t.Errorf("blocked %t: %s sent %d packets in 100 s, want about %d", blocked, n, sent, most)
			}
		}
	}
}

// TestNobodyIsAskedWhoHasNoPod: a node without endpoints is answered all the same, and one whose datapath takes nothing yet is asked at its own
// address.
func TestNobodyIsAskedWhoHasNoPod(t *testing.T) {
	w := newWorld(t, 2)
	w.pods["n1"] = Pods{}
	w.set(1, []Peer{{Node: "n2", Self: host(1), Host: host(2)}})
	w.run(2 * time.Second)
	w.want("no pod on n2", 1, "")
	w.want("no pod on n1 yet", 2, "n1 passes/")
	for _, d := range w.seen {
		if d.To != host(1) && d.To != host(2) {
			t.Errorf("a probe goes to %s", d.To)
		}
	}
	w.pods["n1"] = Pods{pod(1)}
	w.run(every + soon)
	w.want("a pod on n1", 2, "n1 passes/passes")
}

// TestPeersThatStayKeepWhatIsKnown: nothing is asked anew because another node comes, and nothing forgotten because pods are others.
func TestPeersThatStayKeepWhatIsKnown(t *testing.T) {
	w := newWorld(t, 3)
	w.run(2 * time.Second)
	w.set(1, peersOf(1, 4)[:2])
	w.want("nothing new", 1, "n2 passes/passes heard, n3 passes/passes heard")
	other := addr("10.244.7.2")
	w.pods["n2"] = Pods{other}
	w.block = func(_ lb.NodeName, to netip.Addr) bool { return to == other }
	w.run(every + soon)
	w.want("another pod", 1, "n2 passes/passes heard, n3 passes/passes heard")
	w.run(every + lost*soon)
	w.want("another pod, blocked", 1, "n2 passes/blocked heard, n3 passes/passes heard")
	peers := peersOf(1, 3)
	peers[0].Asked = false
	w.set(1, peers)
	w.run(soon)
	w.want("no endpoint", 1, "n3 passes/passes heard")
	w.set(1, peersOf(1, 3))
	w.want("an endpoint again", 1, "n2 passes/blocked heard, n3 passes/passes heard")
	w.set(1, peersOf(1, 3)[1:])
	w.set(1, peersOf(1, 3))
	w.want("n2 had gone and is back", 1, "n2 /, n3 passes/passes heard")
}

// TestAPodThatHasGoneIsNotTheTunnel: other pods of the node are asked, and as long as one answers the way is open.
func TestAPodThatHasGoneIsNotTheTunnel(t *testing.T) {
	w := newWorld(t, 2)
	pods := Pods{addr("10.244.0.2"), addr("10.244.1.2"), addr("10.244.2.2")}
	w.pods["n2"] = pods
	w.run(2 * soon)
	gone := map[netip.Addr]bool{pods[0]: true, pods[2]: true}
	w.block = func(_ lb.NodeName, to netip.Addr) bool { return gone[to] }
	w.nodes["n1"].News()
	w.run(10 * every)
	w.want("two of three have gone", 1, "n2 passes/passes heard")
	if w.nodes["n1"].News() {
		t.Error("that is news")
	}
	gone[pods[1]] = true
	w.run(every + lost*soon + soon)
	w.want("all have gone", 1, "n2 passes/blocked heard")
}

// TestChangesDoNotPutOffTheAsks: pods that come and go all the time do not keep the speaker from asking, nor have it ask all the time.
func TestChangesDoNotPutOffTheAsks(t *testing.T) {
	w := newWorld(t, 2)
	w.block = func(_ lb.NodeName, to netip.Addr) bool { return to != host(1) && to != host(2) }
	for i := range 400 {
		w.pods["n2"] = Pods{netip.AddrFrom4([4]byte{10, 244, byte(i), 2})}
		w.set(1, peersOf(1, 2))
		w.run(100 * time.Millisecond)
	}
	asked := 0
	for _, d := range w.seen {
		if d.To != host(1) && d.To != host(2) && node(d.To) == "n2" {
			asked++
		}
	}
	if asked < 8 || asked > 45 {
		t.Errorf("%d asks at pods of n2 in 40 s", asked)
	}
	w.want("none of them answers", 1, "n2 passes/blocked heard")
}

func TestStrangersAreNotAnswered(t *testing.T) {
	w := newWorld(t, 3)
	w.run(soon)
	n2 := w.nodes["n2"]
	genuine := Packet{Kind: Ask, From: "n1", To: "n2", Nonce: Nonce{1}}
	for _, tc := range []struct {
		name   string
		packet Packet
		key    Key
		family lb.Family
		want   Drop
	}{
		{"genuine", genuine, first, lb.IPv4, ""},
		{"without the key", genuine, alike, lb.IPv4, DropSignature},
		{"for another node", Packet{Kind: Ask, From: "n1", To: "n3"}, first, lb.IPv4, DropStranger},
		{"from a node that is no peer", Packet{Kind: Ask, From: "n7", To: "n2"}, first, lb.IPv4, DropStranger},
		{"from a family in which the peer is none", genuine, first, lb.IPv6, DropStranger},
		{"an answer that nobody has asked for", Packet{Kind: Answer, From: "n1", To: "n2", Nonce: Nonce{9}}, first, lb.IPv4, DropStale},
	} {
		answer, drop := n2.Receive(tc.packet.Marshal(addr("203.0.113.66"), host(2), tc.key), tc.family, w.now, w.own("n2"))
		if drop != tc.want {
			t.Errorf("%s: dropped as %q, want %q", tc.name, drop, tc.want)
		}
		if want := (drop == ""); answer.To.IsValid() != want || want && answer.To != host(1) {
			t.Errorf("%s: the answer goes to %s", tc.name, answer.To)
		}
	}
}

// TestReplayedPacketsProveNothing: everything that was ever sent comes again while the way is shut, and it counts as shut.
func TestReplayedPacketsProveNothing(t *testing.T) {
	w := newWorld(t, 2)
	w.run(2 * every)
	w.block = func(lb.NodeName, netip.Addr) bool { return true }
	old := slices.Clone(w.seen)
	w.run(every + lost*soon + soon)
	w.want("shut", 1, "n2 blocked/blocked heard")
	for _, d := range old {
		answer, _ := w.nodes[node(d.To)].Receive(d.Inner, lb.IPv4, w.now, w.own(node(d.To)))
		if len(answer.Inner) > len(d.Inner) || answer.To.IsValid() && answer.To != host(1) && answer.To != host(2) {
			t.Errorf("a replayed packet of %d bytes has an answer of %d to %s", len(d.Inner), len(answer.Inner), answer.To)
		}
	}
	w.want("replayed", 1, "n2 blocked/blocked heard")
}

func TestKeysRotate(t *testing.T) {
	w := newWorld(t, 2)
	w.run(2 * time.Second)
	for _, step := range []struct{ n1, n2 []Key }{{[]Key{first}, []Key{first, second}}, {[]Key{second, first}, []Key{first, second}}, {[]Key{second}, []Key{second, first}}, {[]Key{second}, []Key{second}}} {
		w.nodes["n1"].SetKeys(step.n1)
		w.nodes["n2"].SetKeys(step.n2)
		w.run(every + lost*soon + soon)
		w.want(fmt.Sprint("rotation ", step), 1, "n2 passes/passes heard")
	}
	if len(w.drops) > 0 {
		t.Errorf("dropped in a rotation: %v", w.drops)
	}
	w.nodes["n1"].SetKeys(nil)
	if out, _ := w.nodes["n1"].Tick(w.now.Add(time.Hour)); len(out) > 0 {
		t.Errorf("%d probes without a key", len(out))
	}
}

// TestNoNonceComesTwice: an answer to an ask of the process before is no answer.
func TestNoNonceComesTwice(t *testing.T) {
	seen := map[Nonce]bool{}
	for epoch := range uint64(3) {
		p := New("n1", epoch)
		for range 1000 {
			n := p.nonce()
			if seen[n] {
				t.Fatalf("nonce % x again", n)
			}
			seen[n] = true
		}
	}
}
