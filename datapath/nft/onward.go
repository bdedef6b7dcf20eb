package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
)

// Packets of connections that this node does not know meet two chains. The one in our table sees that they are such, and gives them a
// priority that says so; the one behind it, in a table of its own of each family, because the kernel duplicates packets only there, sends a
// copy to another node and drops the original, so that conntrack learns nothing of it. The copy leaves as output of this node that belongs
// to no connection.
const (
	astray       = "astray-prerouting"
	handed       = "handed-on"
	onwardChain  = "onward-prerouting"
	strayMark    = 0x666c6472 // nobody's priority: traffic classes have those that begin with a queue's number
	strayLimit   = 100000     // packets a second that are handed on, those of a flood among them; what is more is dropped
	newsLimit    = 1000       // new connections a second of which others are told
	onwardBefore = -124       // priority of the second chain; the first has the one before
)

// What one node sends to another for a client has these bits of the byte before the flags in the TCP header, which nobody else sets (RFC 9293
// section 3.1: reserved): news, which are copies of the first packets of connections, and packets that are handed on, from which the node that
// knows them takes the bits away. An address would not tell: a bond may send by another than its own, and a network may rewrite it.
const peerBits = 0x0e

// strays writes the chain that recognises packets in the middle of a TCP connection to a VIP that conntrack does not know, from elsewhere. It
// takes them for the first of a connection, except those with which one ends, which it calls invalid, as it does others that are too far
// ahead in a connection that it knows: those stay here. First packets are news.
func (o Options) strays(r ruleset, pods datapath.Detector) {
	r.chains[astray] = chain{kind: "filter", hook: unix.NF_INET_PRE_ROUTING, priority: onwardBefore - 1}
	r.rule(astray, ifStray(), unmark()) // between nodes on one machine it stays with a packet
	mark := append(rule{&expr.Immediate{Register: reg(0), Data: word(strayMark)}}, setPriority(0)...)
	tcp := func(f family) rule {
		return append(ifMeta(expr.MetaKeyL4PROTO, unix.IPPROTO_TCP), ifMeta(expr.MetaKeyNFPROTO, f.nfproto)...)
	}
	for _, f := range families() {
		r.rule(astray, tcp(f), ifFromPeer(), rule{f.loadDestination(0), in(f.vips(), 0)}, jump(handed))
	}
	if o.Forward {
		r.rule(handed, ifFirst(), mark, back()) // news, which come to the node that began them as well
	} else {
		r.rule(handed, ifFirst(), drop()) // nobody tells IPVS, which would serve whoever is handed on
	}
	r.rule(handed, ifState(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), setBits(0))
	r.rule(astray, ifState(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), back()) // nearly all others
	for _, f := range families() {
		to := append(rule{f.loadDestination(0), in(f.vips(), 0)}, f.ifOutside(pods)...)
		r.rule(astray, ifState(expr.CtStateBitNEW), tcp(f), ifFlags(syn, 0), to, mark)
		r.rule(astray, ifState(expr.CtStateBitINVALID), tcp(f), ifFlags(syn, 0), not(ifFlags(fin|rst, 0)), to, mark)
		if o.Forward { // with IPVS nobody is told
			r.rule(astray, ifState(expr.CtStateBitNEW), tcp(f), ifFirst(), to, mark)
		}
	}
}

// The flags of a TCP header.
const fin, syn, rst, ack = 0x01, 0x02, 0x04, 0x10

// ifFirst goes on for the first packet of a TCP connection; it uses register 0.
func ifFirst() rule { return ifFlags(fin|syn|rst|ack, syn) }

// ifFlags goes on if, of the bits of a TCP header's flags, those are set; it uses register 0.
func ifFlags(bits, set byte) rule {
	return ifBits(13, bits, set)
}

// ifFromPeer goes on for what another node has sent for a client; it uses register 0.
func ifFromPeer() rule { return ifBits(12, peerBits, peerBits) }

// ifNews goes on for a first packet that tells of another node's connection; it uses register 0.
func ifNews() rule { return append(ifFirst(), ifFromPeer()...) }

// ifBits goes on if, of the bits of one byte of the TCP header, those are set; it uses register 0.
func ifBits(offset uint32, bits, set byte) rule {
	return rule{&expr.Payload{DestRegister: reg(0), Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 1},
		&expr.Bitwise{SourceRegister: reg(0), DestRegister: reg(0), Len: 1, Mask: []byte{bits}, Xor: []byte{0}}, equal(0, set)}
}

// onwardTable is the content of the table of one family that hands packets on, and tells the others of new connections. Of those a node may
// remember an older one from the same port of the client, for two minutes, and would take the packets of the new one for that one's, should they come
// there one day. But conntrack forgets the old one when it sees the first packet of another.
func (f family) onwardTable(o datapath.Onward, w datapath.Way) chain {
	c := chain{kind: "filter", hook: unix.NF_INET_PRE_ROUTING, priority: onwardBefore}
	add := func(parts ...rule) {
		var whole rule
		for _, p := range parts {
			whole = append(whole, p...)
		}
		c.rules = append(c.rules, whole)
	}
	add(not(ifStray()), back())
	add(unmark())
	if w.Next != (datapath.Hop{}) {
		add(ifNews(), rule{f.loadTTL(0), &expr.Cmp{Op: expr.CmpOpGt, Register: reg(0), Data: []byte{1}}}, limit(strayLimit, false), sendTo(w.Next), drop())
	}
	add(ifNews(), drop())
	add(ifState(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), back())
	if o.News {
		add(ifFirst(), limit(newsLimit, false), asNews(sendTo(w.First)))
	}
	add(ifFirst(), back())
	add(rule{f.loadTTL(0), &expr.Cmp{Op: expr.CmpOpLt, Register: reg(0), Data: []byte{2}}}, drop())
	add(limit(strayLimit, true), drop())
	switch {
	case w.Next != (datapath.Hop{}):
		add(ifFromPeer(), count(), sendTo(w.Next), drop())
	case o.Silent:
		add(ifFromPeer(), count(), drop())
	default:
		add(ifFromPeer(), count(), rule{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
	}
	add(setBits(peerBits), count(), sendTo(w.First))
	add(drop())
	return c
}

// ifStray goes on for what the first chain has recognised; it uses register 0.
func ifStray() rule { return ifMeta(expr.MetaKeyPRIORITY, word(strayMark)...) }

func unmark() rule {
	return append(rule{&expr.Immediate{Register: reg(0), Data: word(0)}}, setPriority(0)...)
}

// count is for [Table.HandedOn], and for whoever lists the table.
func count() rule { return rule{&expr.Counter{}} }

// limit goes on for so many packets a second, or for those over that.
func limit(packets uint32, over bool) rule {
	return rule{&expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(packets), Unit: expr.LimitTimeSecond, Burst: packets, Over: over}}
}

// sendTo sends a copy to a node.
func sendTo(h datapath.Hop) rule {
	return rule{&expr.Immediate{Register: reg(0), Data: h.Addr.AsSlice()}, &expr.Immediate{Register: reg(4), Data: word(uint32(h.Link))},
		&expr.Dup{RegAddr: reg(0), RegDev: reg(4), IsRegDevSet: true}}
}

// loadTTL loads what every hop takes one of.
func (f family) loadTTL(r int) expr.Any {
	offset := uint32(8)
	if f.addr.bytes == 16 {
		offset = 7
	}
	return &expr.Payload{DestRegister: reg(r), Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 1}
}

// asNews does something with the first packet of a connection while it has the bits of news; it uses the registers of setBits.
func asNews(do rule) rule { return slices.Concat(setBits(peerBits), do, storeFlags(8)) }

// setBits writes the bits of what a node sends to another. In register 8 is the word of the TCP header as it was, in 9 as it is.
func setBits(bits byte) rule {
	load := &expr.Payload{DestRegister: reg(8), Base: expr.PayloadBaseTransportHeader, Offset: 12, Len: 2} // a checksum is mended in words
	set := &expr.Bitwise{SourceRegister: reg(8), DestRegister: reg(9), Len: 2, Mask: []byte{^byte(peerBits), 0xff}, Xor: []byte{bits, 0}}
	return slices.Concat(rule{load, set}, storeFlags(9))
}

// storeFlags writes the word of the TCP header that the flags are in, and mends the checksum.
func storeFlags(from int) rule {
	return rule{&expr.Payload{SourceRegister: reg(from), Base: expr.PayloadBaseTransportHeader, Offset: 12, Len: 2,
		OperationType: expr.PayloadWrite, CsumType: expr.CsumTypeInet, CsumOffset: 16}}
}

// onwards is what the kernel has of the tables that hand packets on.
type onwards struct {
	have   datapath.Onward
	known  bool
	rules  map[byte]int // of each family's chain
	unable error        // the kernel cannot duplicate packets
}

// Onward says why the kernel cannot hand packets on; nil if it can.
func (t *Table) Onward() error { return t.onwards.unable }

// probeOnward finds out whether the kernel can.
func (t *Table) probeOnward(ctx context.Context) {
	some := datapath.Way{First: datapath.Hop{Addr: ipv4.device().Addr, Link: 1}}
	some6 := datapath.Way{First: datapath.Hop{Addr: ipv6.device().Addr, Link: 1}}
	b, _ := onwardBatch(datapath.Onward{IPv4: some, IPv6: some6})
	err := t.kernel.commit(ctx, unfinished(b.finish()))
	if errors.Is(err, errRefused) {
		t.onwards.unable = fmt.Errorf("packets of connections that have moved here from another node cannot be handed back, and end them: %w", err)
	}
}

// HandedOn returns how many packets the kernel has handed on since it was told, the last time, to whom. It may be called while Set runs.
func (t *Table) HandedOn() (packets uint64, err error) {
	for _, f := range families() {
		rules, err := t.kernel.rules(f.nfproto)
		if err != nil && !errors.Is(err, unix.ENOENT) { // a family in which there is nobody to hand on to has no table
			return 0, err
		}
		packets += rules[onwardChain].handedOn
	}
	return packets, nil
}

// setOnward writes the tables that hand packets on, whole, if they are not as wanted.
func (t *Table) setOnward(ctx context.Context, want datapath.Onward) error {
	if !want.Known || t.onwards.unable != nil || t.onwards.known && t.onwards.have == want {
		return nil
	}
	b, rules := onwardBatch(want)
	err := b.err
	if err == nil {
		err = t.write(ctx, b.finish())
	}
	if err != nil {
		return fmt.Errorf("writing tables ip and ip6 %s: %w", TableName, err)
	}
	t.onwards.have, t.onwards.known, t.onwards.rules = want, true, rules
	return nil
}

// onwardBatch replaces both tables, and says how many rules they have then.
func onwardBatch(want datapath.Onward) (b *batch, rules map[byte]int) {
	b, rules = newBatch(), map[byte]int{}
	for _, f := range families() {
		b.family = f.nfproto
		b.addTable() // so that deleting one that is not there is no error
		b.deleteTable()
		w := want.IPv4
		if f.addr.bytes == 16 {
			w = want.IPv6
		}
		if w.First == (datapath.Hop{}) {
			continue
		}
		b.addTable()
		c := f.onwardTable(want, w)
		b.addChain(onwardChain, c)
		for _, r := range c.rules {
			b.addRule(onwardChain, r)
		}
		rules[f.nfproto] = len(c.rules)
	}
	return b, rules
}
