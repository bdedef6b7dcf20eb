package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// netfilter is the real kernel. What every change needs goes through sockets that stay open: to close one makes the kernel wait until
// what the last transaction deleted is gone, 15 to 30 ms.
type netfilter struct {
	transactions *os.File                 // nil = not open
	questions    map[int]*nl.SocketHandle // for the generation; empty = not open
}

func (n *netfilter) commit(ctx context.Context, transaction []byte) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if n.transactions == nil {
		if n.transactions, err = openSocket(); err != nil {
			return err
		}
	}
	if err = send(int(n.transactions.Fd()), transaction); err != nil { // there may be more answers
		_ = n.transactions.Close() // nothing is lost with it
		n.transactions = nil
	}
	return err
}

// generation asks for the number that grows with every nftables transaction, of anybody, in this network namespace.
func (n *netfilter) generation() (id uint32, err error) {
	if len(n.questions) == 0 {
		s, err := nl.Subscribe(unix.NETLINK_NETFILTER)
		if err != nil {
			return 0, fmt.Errorf("opening nftables: %w", err)
		}
		n.questions = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: {Socket: s}}
	}
	err = askOn(n.questions, unix.AF_UNSPEC, unix.NFT_MSG_GETGEN, 0, nil, func(a attributes) { id = a.number(unix.NFTA_GEN_ID) })
	if err != nil {
		return 0, fmt.Errorf("reading generation of nftables: %w", err)
	}
	return id, nil
}

func (*netfilter) names() (chains, sets []string, err error) {
	collect := func(list *[]string, table, name uint16) func(attributes) {
		return func(a attributes) {
			if a.text(table) == TableName {
				*list = append(*list, a.text(name))
			}
		}
	}
	err = ask(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, nil, collect(&chains, unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_NAME))
	if err == nil {
		table := nl.NewRtAttr(unix.NFTA_SET_TABLE, nl.ZeroTerminated(TableName))
		err = ask(unix.NFT_MSG_GETSET, unix.NLM_F_DUMP, []*nl.RtAttr{table}, collect(&sets, unix.NFTA_SET_TABLE, unix.NFTA_SET_NAME))
	}
	if errors.Is(err, unix.ENOENT) {
		return nil, nil, nil // no table
	}
	if err != nil {
		return nil, nil, fmt.Errorf("listing table %s: %w", TableName, err)
	}
	return chains, sets, nil
}

// held is what the kernel has of a chain.
type held struct {
	rules    int
	handedOn uint64 // packets that it sent to other nodes
}

func (*netfilter) rules(family byte) (map[string]held, error) {
	out := map[string]held{}
	table := nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated(TableName))
	err := askOn(nil, family, unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, []*nl.RtAttr{table}, func(a attributes) {
		chain := a.text(unix.NFTA_RULE_CHAIN)
		h := out[chain]
		h.rules++
		out[chain] = h
		if chain != onwardChain { // of thousands of rules no other hands on
			return
		}
		var counted uint64
		a.nested(unix.NFTA_RULE_EXPRESSIONS).each(func(_ uint16, e attributes) {
			switch e.text(unix.NFTA_EXPR_NAME) {
			case "counter":
				counted = e.nested(unix.NFTA_EXPR_DATA).long(unix.NFTA_COUNTER_PACKETS)
			case "dup":
				h.handedOn += counted
			}
		})
		out[chain] = h
	})
	if err != nil {
		return nil, fmt.Errorf("listing rules of table %s: %w", TableName, err)
	}
	return out, nil
}

func (*netfilter) elements(set string, each func(key, value []byte, packets, bytes uint64)) error {
	where := []*nl.RtAttr{nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_TABLE, nl.ZeroTerminated(TableName)),
		nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_SET, nl.ZeroTerminated(set))}
	err := ask(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, where, func(a attributes) {
		a.nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS).each(func(_ uint16, element attributes) {
			counter := element.nested(unix.NFTA_SET_ELEM_EXPR).nested(unix.NFTA_EXPR_DATA)
			each(element.nested(unix.NFTA_SET_ELEM_KEY).get(unix.NFTA_DATA_VALUE), element.nested(unix.NFTA_SET_ELEM_DATA).get(unix.NFTA_DATA_VALUE),
				counter.long(unix.NFTA_COUNTER_PACKETS), counter.long(unix.NFTA_COUNTER_BYTES))
		})
	})
	if err != nil {
		return fmt.Errorf("listing set %s: %w", set, err)
	}
	return nil
}

// ask sends one request about nftables and calls each with the attributes of every message of the answer.
func ask(kind, flags uint16, about []*nl.RtAttr, each func(attributes)) error {
	return askOn(nil, tableFamily, kind, flags, about, each)
}

// askOn is ask on sockets that stay open.
func askOn(sockets map[int]*nl.SocketHandle, family uint8, kind, flags uint16, about []*nl.RtAttr, each func(attributes)) error {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|int(kind), int(flags))
	req.Sockets = sockets
	req.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: unix.NFNETLINK_V0})
	for _, a := range about {
		req.AddData(a)
	}
	return req.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(m []byte) bool {
		if len(m) >= nl.SizeofNfgenmsg {
			each(attributes(m[nl.SizeofNfgenmsg:]))
		}
		return true
	})
}

// attributes is a sequence of netlink attributes. What is not there reads as zero.
type attributes []byte

func (a attributes) each(f func(kind uint16, value attributes)) {
	for len(a) >= unix.SizeofNlAttr {
		size := int(binary.NativeEndian.Uint16(a))
		if size < unix.SizeofNlAttr || size > len(a) {
			return
		}
		f(binary.NativeEndian.Uint16(a[2:])&^uint16(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), a[unix.SizeofNlAttr:size])
		a = a[min(len(a), (size+3)&^3):]
	}
}

func (a attributes) get(kind uint16) (out []byte) {
	a.each(func(k uint16, v attributes) {
		if k == kind {
			out = v
		}
	})
	return out
}

func (a attributes) nested(kind uint16) attributes { return a.get(kind) }

func (a attributes) text(kind uint16) string {
	v := a.get(kind)
	if i := slices.Index(v, 0); i >= 0 {
		v = v[:i]
	}
	return string(v)
}

func (a attributes) number(kind uint16) uint32 {
	if v := a.get(kind); len(v) == 4 {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (a attributes) long(kind uint16) uint64 {
	if v := a.get(kind); len(v) == 8 {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func sorted(list []netip.Addr) []netip.Addr {
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}
