package nft

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
)

// segment is a TCP packet to a VIP as a chain sees it: the bytes that the rules about strays look at.
type segment struct {
	ttl      byte
	tcp      [14]byte // the header as far as the flags
	state    uint32   // of its connection, by conntrack
	priority []byte
}

// fromClient is a packet in the middle of a connection.
func fromClient() segment {
	return segment{ttl: 64, tcp: [14]byte{12: 0x50, 13: ack}, priority: word(0)}
}

// copied is what a chain sent to another node.
type copied struct {
	to netip.Addr
	segment
}

// walker runs rules like a kernel that has room in its limits, or none.
type walker struct {
	chains map[string]chain
	full   bool
	p      segment
	regs   [64]byte
	sent   []copied
	refuse bool
}

// meet takes a packet through the chains of one node, and reports whether it stays there.
func (w *walker) meet(p segment, chains ...string) (stays bool) {
	w.p = p
	for _, name := range chains {
		if w.run(name) == expr.VerdictDrop {
			return false
		}
	}
	return true
}

func (w *walker) run(name string) expr.VerdictKind {
	for _, r := range w.chains[name].rules {
		for _, e := range r {
			verdict, on := w.step(e.(expr.Any))
			if verdict != nil {
				if verdict.Kind != expr.VerdictJump {
					return verdict.Kind
				}
				w.run(verdict.Chain)
			}
			if !on {
				break
			}
		}
	}
	return expr.VerdictReturn
}

// step returns where an expression leads, and whether the rule goes on.
func (w *walker) step(e expr.Any) (leads *expr.Verdict, on bool) {
	at := func(r uint32) []byte { return w.regs[4*(r-unix.NFT_REG32_00):] }
	switch e := e.(type) {
	case *expr.Verdict:
		return e, true
	case *expr.Reject:
		w.refuse = true
		return &expr.Verdict{Kind: expr.VerdictDrop}, true
	case *expr.Meta:
		values := map[expr.MetaKey][]byte{expr.MetaKeyPRIORITY: w.p.priority, expr.MetaKeyL4PROTO: {unix.IPPROTO_TCP}, expr.MetaKeyNFPROTO: {unix.NFPROTO_IPV4}, expr.MetaKeyIIF: word(7)}
		if e.SourceRegister {
			w.p.priority = bytes.Clone(at(e.Register)[:4])
			break
		}
		copy(at(e.Register), values[e.Key])
	case *expr.Ct:
		copy(at(e.Register), word(w.p.state))
	case *expr.Fib:
		copy(at(e.Register), word(unix.RTN_UNICAST))
	case *expr.Immediate:
		copy(at(e.Register), e.Data)
	case *expr.Payload:
		switch {
		case e.OperationType == expr.PayloadWrite:
			copy(w.p.tcp[e.Offset:], at(e.SourceRegister)[:e.Len])
		case e.Base == expr.PayloadBaseTransportHeader:
			copy(at(e.DestRegister), w.p.tcp[e.Offset:e.Offset+e.Len])
		case e.Base == expr.PayloadBaseNetworkHeader && e.Offset == 8:
			at(e.DestRegister)[0] = w.p.ttl
		case e.Base != expr.PayloadBaseNetworkHeader:
			panic("a network may have changed what is before the IP header")
		}
	case *expr.Bitwise:
		for i := range e.Len {
			at(e.DestRegister)[i] = at(e.SourceRegister)[i]&e.Mask[i] ^ e.Xor[i]
		}
	case *expr.Cmp:
		d := bytes.Compare(at(e.Register)[:len(e.Data)], e.Data)
		return nil, map[expr.CmpOp]bool{expr.CmpOpEq: d == 0, expr.CmpOpNeq: d != 0, expr.CmpOpLt: d < 0, expr.CmpOpGt: d > 0}[e.Op]
	case *expr.Lookup: // the destination in the set of VIPs
	case *expr.Counter:
	case *expr.Limit:
		return nil, w.full == e.Over
	case *expr.Dup:
		to, _ := netip.AddrFromSlice(at(e.RegAddr)[:4])
		next := w.p
		next.ttl--
		w.sent = append(w.sent, copied{to, next})
	default:
		panic(fmt.Sprintf("%T", e))
	}
	return nil, true
}

// walkers are n1, n2 and n3, or as many, by their addresses, in their order.
func walkers(n int, o datapath.Onward) map[netip.Addr]*walker {
	out := map[netip.Addr]*walker{}
	for i := range n {
		var way datapath.Way
		if way.First.Addr = number(0); i == 0 {
			way.First.Addr = number(1)
		}
		if i < n-1 {
			way.Next.Addr = number(i + 1)
		}
		r := newRuleset()
		Options{Forward: true}.strays(r, datapath.Detector{})
		r.chains[onwardChain] = ipv4.onwardTable(o, way)
		out[number(i)] = &walker{chains: r.chains}
	}
	return out
}

func number(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}) }

// TestStraysWalk: what nobody knows comes to each node, whatever the network does with addresses of stations; and who knows it gets it as it was.
func TestStraysWalk(t *testing.T) {
	for _, tt := range []struct {
		name                string
		nodes, first, knows int // knows: the number of the node; 0 = nobody
		silent              bool
		want                string
	}{
		{"from the first of two", 2, 1, 0, false, "n1 n2 refused"},
		{"from the second of two", 2, 2, 0, false, "n2 n1 n2 refused"},
		{"from the first", 3, 1, 0, false, "n1 n2 n3 refused"},
		{"from the middle", 3, 2, 0, false, "n2 n1 n2 n3 refused"},
		{"from the last", 3, 3, 0, false, "n3 n1 n2 n3 refused"},
		{"where nobody refuses", 3, 1, 0, true, "n1 n2 n3"},
		{"at once", 3, 2, 2, false, "n2 taken"},
		{"one hop", 3, 3, 1, false, "n3 n1 taken"},
		{"two hops", 3, 3, 2, false, "n3 n1 n2 taken"},
		{"to the last", 3, 1, 3, false, "n1 n2 n3 taken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nodes := walkers(tt.nodes, datapath.Onward{Silent: tt.silent})
			at, p := number(tt.first-1), fromClient()
			var path []string
			for len(path) < 64 {
				w := nodes[at]
				path = append(path, fmt.Sprint("n", at.As4()[3]))
				if p.state = expr.CtStateBitNEW; at == number(tt.knows-1) {
					p.state = expr.CtStateBitESTABLISHED
				}
				if w.meet(p, astray, onwardChain) {
					path = append(path, "taken")
					if w.p.tcp != fromClient().tcp || !bytes.Equal(w.p.priority, word(0)) {
						t.Errorf("it arrives as %x with priority %x", w.p.tcp, w.p.priority)
					}
				}
				if w.refuse {
					path = append(path, "refused")
				}
				if len(w.sent) == 0 {
					break
				}
				at, p, w.sent = w.sent[0].to, w.sent[0].segment, w.sent[1:]
			}
			if got := strings.Join(path, " "); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// TestStraysAreLimited: where there are too many a node sends nothing to another, and refuses nothing, wherever it had the packet from.
func TestStraysAreLimited(t *testing.T) {
	for name, bits := range map[string]byte{"from a client": 0, "handed on": peerBits} {
		for node, w := range walkers(3, datapath.Onward{}) {
			for _, flags := range []byte{ack, syn} {
				p := fromClient()
				p.state, p.tcp[12], p.tcp[13] = expr.CtStateBitNEW, p.tcp[12]|bits, flags
				w.full = true
				first := flags == syn && bits == 0 // this stays
				if w.meet(p, astray, onwardChain) != first || len(w.sent) > 0 || w.refuse {
					t.Errorf("%s, with flags %#x, at %s: sent %v, refused %v", name, flags, node, w.sent, w.refuse)
				}
			}
		}
	}
}

// TestNewsWalk: the first packet of a connection is served by the node that it came to, as it was, and a copy of it comes to all.
func TestNewsWalk(t *testing.T) {
	nodes := walkers(3, datapath.Onward{News: true})
	for i, want := range []int{1, 0, 0} { // whom it tells
		p := fromClient()
		p.state, p.tcp[13] = expr.CtStateBitNEW, syn
		w, path := nodes[number(i)], []netip.Addr(nil)
		if !w.meet(p, astray, onwardChain) || w.p.tcp != p.tcp || len(w.sent) != 1 || w.sent[0].to != number(want) {
			t.Fatalf("n%d keeps %x, and sends %v", i+1, w.p.tcp, w.sent)
		}
		for len(w.sent) > 0 {
			next := w.sent[0]
			w.sent = nil
			w, path = nodes[next.to], append(path, next.to)
			if next.state = expr.CtStateBitNEW; w.meet(next.segment, astray, onwardChain) {
				t.Errorf("%s takes the copy of a first packet for one", next.to)
			}
		}
		if walk := []netip.Addr{number(0), number(1), number(2)}[want:]; !slices.Equal(path, walk) {
			t.Errorf("from n%d it comes to %v, want %v", i+1, path, walk)
		}
	}
}
