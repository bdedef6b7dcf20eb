package nft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableFamily is the nftables family of the table.
const tableFamily = unix.NFPROTO_INET

// Attributes of nf_tables.h that package unix does not have.
const (
	setDescConcat = 2 // NFTA_SET_DESC_CONCAT
	setFlagConcat = 0x80
	setExpr       = 17 // NFTA_SET_EXPR: an expression that every element gets a copy of
	setFieldLen   = 1  // NFTA_SET_FIELD_LEN
)

// mostElements is how many bytes of elements go into one message: the length of a netlink attribute has 16 bits.
const mostElements = 48 << 10

// batch is a transaction in the kernel's encoding: messages between a begin and an end, of which all or none are carried out.
type batch struct {
	buf    []byte
	head   int    // where the current message starts
	seq    uint32 // number of the current message
	family byte   // of the table that messages are about
	err    error  // the first thing that could not be encoded
}

func newBatch() *batch {
	b := &batch{family: tableFamily}
	b.message(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	return b
}

// message starts a message; resource is the subsystem for those that frame the batch.
func (b *batch) message(kind, flags uint16, family uint8, resource uint16) {
	b.close()
	b.head = len(b.buf)
	b.seq++
	b.buf = append(b.buf, make([]byte, unix.NLMSG_HDRLEN)...)
	binary.NativeEndian.PutUint16(b.buf[b.head+4:], kind)
	binary.NativeEndian.PutUint16(b.buf[b.head+6:], flags|unix.NLM_F_REQUEST)
	binary.NativeEndian.PutUint32(b.buf[b.head+8:], b.seq)
	b.buf = append(b.buf, family, unix.NFNETLINK_V0)
	b.buf = binary.BigEndian.AppendUint16(b.buf, resource)
}

// command starts a message about nftables.
func (b *batch) command(kind, flags uint16) {
	b.message(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, b.family, 0)
}

// close writes the length of the current message into it.
func (b *batch) close() {
	if len(b.buf) > b.head {
		binary.NativeEndian.PutUint32(b.buf[b.head:], uint32(len(b.buf)-b.head))
	}
}

// finish ends the batch, with an answer asked for to the last message of substance. It returns the bytes to send.
func (b *batch) finish() []byte {
	flags := binary.NativeEndian.Uint16(b.buf[b.head+6:])
	binary.NativeEndian.PutUint16(b.buf[b.head+6:], flags|unix.NLM_F_ACK)
	b.message(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.close()
	return b.buf
}

// unfinished returns a finished batch without its end. The kernel checks one like that and carries nothing out (nft --check does the same).
func unfinished(packet []byte) []byte { return packet[:len(packet)-unix.NLMSG_HDRLEN-4] }

func (b *batch) attr(kind uint16, value []byte) {
	b.buf = binary.NativeEndian.AppendUint16(b.buf, uint16(4+len(value)))
	b.buf = binary.NativeEndian.AppendUint16(b.buf, kind)
	b.buf = append(b.buf, value...)
	b.pad()
}

func (b *batch) text(kind uint16, s string) {
	b.buf = binary.NativeEndian.AppendUint16(b.buf, uint16(5+len(s)))
	b.buf = binary.NativeEndian.AppendUint16(b.buf, kind)
	b.buf = append(append(b.buf, s...), 0)
	b.pad()
}

func (b *batch) number(kind uint16, v uint32) {
	b.attr(kind, binary.BigEndian.AppendUint32(nil, v))
}

func (b *batch) pad() {
	for len(b.buf)%4 != 0 {
		b.buf = append(b.buf, 0)
	}
}

// nest puts what f writes into an attribute.
func (b *batch) nest(kind uint16, f func()) {
	start := len(b.buf)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, 0)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, kind|unix.NLA_F_NESTED)
	f()
	if n := len(b.buf) - start; n > 0xffff {
		b.err = errors.Join(b.err, fmt.Errorf("nftables attribute %d of %d bytes: %w", kind, n, errRefused))
	} else {
		binary.NativeEndian.PutUint16(b.buf[start:], uint16(n))
	}
}

func (b *batch) expression(kind uint16, e any) {
	switch e := e.(type) {
	case tuple:
		b.nest(kind, func() {
			b.text(unix.NFTA_EXPR_NAME, "ct")
			b.nest(unix.NFTA_EXPR_DATA, func() {
				b.number(unix.NFTA_CT_KEY, e.key)
				b.number(unix.NFTA_CT_DREG, e.register)
				b.attr(unix.NFTA_CT_DIRECTION, []byte{e.direction})
			})
		})
	case expr.Any:
		data, err := expr.Marshal(b.family, e)
		b.err = errors.Join(b.err, err)
		b.attr(kind|unix.NLA_F_NESTED, data)
	default:
		panic(fmt.Sprintf("nft: no expression: %T", e))
	}
}

func (b *batch) addTable() {
	b.command(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE)
	b.text(unix.NFTA_TABLE_NAME, TableName)
}

func (b *batch) deleteTable() {
	b.command(unix.NFT_MSG_DELTABLE, 0)
	b.text(unix.NFTA_TABLE_NAME, TableName)
}

func (b *batch) addChain(name string, c chain) {
	b.command(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE)
	b.text(unix.NFTA_CHAIN_TABLE, TableName)
	b.text(unix.NFTA_CHAIN_NAME, name)
	if c.kind == "" {
		return
	}
	b.nest(unix.NFTA_CHAIN_HOOK, func() {
		b.number(unix.NFTA_HOOK_HOOKNUM, c.hook)
		b.number(unix.NFTA_HOOK_PRIORITY, uint32(c.priority))
	})
	b.number(unix.NFTA_CHAIN_POLICY, 1) // NF_ACCEPT
	b.text(unix.NFTA_CHAIN_TYPE, c.kind)
}

func (b *batch) deleteChain(name string) {
	b.command(unix.NFT_MSG_DELCHAIN, 0)
	b.text(unix.NFTA_CHAIN_TABLE, TableName)
	b.text(unix.NFTA_CHAIN_NAME, name)
}

func (b *batch) addRule(chain string, r rule) {
	b.command(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
	b.text(unix.NFTA_RULE_TABLE, TableName)
	b.text(unix.NFTA_RULE_CHAIN, chain)
	b.nest(unix.NFTA_RULE_EXPRESSIONS, func() {
		for _, e := range r {
			b.expression(unix.NFTA_LIST_ELEM, e)
		}
	})
}

// flushChain deletes the rules of a chain.
func (b *batch) flushChain(name string) {
	b.command(unix.NFT_MSG_DELRULE, 0)
	b.text(unix.NFTA_RULE_TABLE, TableName)
	b.text(unix.NFTA_RULE_CHAIN, name)
}

func (b *batch) addSet(name string, s set) {
	b.command(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE)
	b.text(unix.NFTA_SET_TABLE, TableName)
	b.text(unix.NFTA_SET_NAME, name)
	b.number(unix.NFTA_SET_FLAGS, s.flags())
	b.number(unix.NFTA_SET_KEY_TYPE, s.key.magic())
	b.number(unix.NFTA_SET_KEY_LEN, s.key.size())
	b.number(unix.NFTA_SET_ID, b.seq) // unique in the batch, more is not needed
	switch {
	case s.verdicts:
		b.number(unix.NFTA_SET_DATA_TYPE, unix.NFT_DATA_VERDICT)
	case s.value != nil:
		b.number(unix.NFTA_SET_DATA_TYPE, s.value.magic())
		b.number(unix.NFTA_SET_DATA_LEN, s.value.size())
	}
	if s.memory {
		b.attr(unix.NFTA_SET_TIMEOUT, binary.BigEndian.AppendUint64(nil, uint64(memoryTimeout.Milliseconds())))
	}
	if s.memory || len(s.key) > 1 {
		b.nest(unix.NFTA_SET_DESC, func() { b.describe(s) })
	}
	if s.counted {
		b.expression(setExpr, &expr.Counter{})
	}
}

// describe tells how large a memory may become and of what fields a key consists; nft needs the latter to print it.
func (b *batch) describe(s set) {
	if s.memory {
		b.number(unix.NFTA_SET_DESC_SIZE, memoryEntries)
	}
	if len(s.key) < 2 {
		return
	}
	b.nest(setDescConcat, func() {
		for _, f := range s.key {
			b.nest(unix.NFTA_LIST_ELEM, func() { b.number(setFieldLen, uint32(f.bytes)) })
		}
	})
}

func (b *batch) deleteSet(name string) {
	b.command(unix.NFT_MSG_DELSET, 0)
	b.text(unix.NFTA_SET_TABLE, TableName)
	b.text(unix.NFTA_SET_NAME, name)
}

// flushSet deletes the elements of a set.
func (b *batch) flushSet(name string) {
	b.command(unix.NFT_MSG_DELSETELEM, 0)
	b.text(unix.NFTA_SET_ELEM_LIST_TABLE, TableName)
	b.text(unix.NFTA_SET_ELEM_LIST_SET, name)
}

func (b *batch) addElements(name string, s set, list []element) {
	b.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, name, list, func(e element) {
		b.elementKey(e)
		switch {
		case s.verdicts:
			b.nest(unix.NFTA_SET_ELEM_DATA, func() { b.verdict(e.value) })
		case s.value != nil:
			b.nest(unix.NFTA_SET_ELEM_DATA, func() { b.attr(unix.NFTA_DATA_VALUE, []byte(e.value)) })
		}
	})
}

func (b *batch) deleteElements(name string, list []element) {
	b.elements(unix.NFT_MSG_DELSETELEM, 0, name, list, b.elementKey)
}

// elements writes as many messages as the list needs.
func (b *batch) elements(kind, flags uint16, name string, list []element, write func(element)) {
	for len(list) > 0 {
		b.command(kind, flags)
		b.text(unix.NFTA_SET_ELEM_LIST_TABLE, TableName)
		b.text(unix.NFTA_SET_ELEM_LIST_SET, name)
		b.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
			for start := len(b.buf); len(list) > 0 && len(b.buf)-start < mostElements; list = list[1:] {
				b.nest(unix.NFTA_LIST_ELEM, func() { write(list[0]) })
			}
		})
	}
}

func (b *batch) elementKey(e element) {
	if e.end {
		b.number(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	}
	b.nest(unix.NFTA_SET_ELEM_KEY, func() { b.attr(unix.NFTA_DATA_VALUE, []byte(e.key)) })
}

// verdict writes the value of a verdict map: the chain to go to.
func (b *batch) verdict(chain string) {
	b.nest(unix.NFTA_DATA_VERDICT, func() {
		code := expr.VerdictGoto
		b.number(unix.NFTA_VERDICT_CODE, uint32(code))
		b.text(unix.NFTA_VERDICT_CHAIN, chain)
	})
}
