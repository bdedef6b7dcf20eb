package conntrack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// table is a conntrack table. It makes its entries up when they are asked for, so that they take no memory.
type table struct {
	size    int
	entry   func(i int) entry
	gone    map[int]bool
	dumps   []uint8 // families
	deletes int
	refuse  func(deleting bool) error
	heap    uint64       // in use at the end of a dump, at most
	readers atomic.Int32 // at a time
	crowd   atomic.Bool  // there was more than one
}

func newTable(entries ...entry) *table {
	return &table{size: len(entries), entry: func(i int) entry { return entries[i] }, gone: map[int]bool{}}
}

func (k *table) has(i int) bool { return !k.gone[i] }

func (k *table) dump(family uint8, each func([]byte) bool) error {
	if k.readers.Add(1) > 1 {
		k.crowd.Store(true)
	}
	defer k.readers.Add(-1)
	k.dumps = append(k.dumps, family)
	const buffer = 32 << 10 // of which a message is a piece, as those of the kernel are
	var buf []byte
	for i := range k.size {
		e := k.entry(i)
		if k.gone[i] || familyOf(e.to.Addr()) != family {
			continue
		}
		if cap(buf)-len(buf) < 512 {
			buf = make([]byte, 0, buffer)
		}
		at := len(buf)
		buf = encode(buf, e, uint32(i))
		if !each(buf[at:len(buf):len(buf)]) {
			break
		}
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	k.heap = max(k.heap, m.HeapAlloc)
	if k.refuse != nil {
		return k.refuse(false)
	}
	return nil
}

func (k *table) delete(message []byte) error {
	if k.refuse != nil {
		if err := k.refuse(true); err != nil {
			return err
		}
	}
	for kind, value := range attributes(message[nl.SizeofNfgenmsg:]) {
		if kind == nl.CTA_ID {
			k.gone[int(binary.BigEndian.Uint32(value))] = true
			k.deletes++
			return nil
		}
	}
	return errors.New("no id")
}

// encode appends the kernel's message about an entry, as far as anybody looks at it.
func encode(b []byte, e entry, id uint32) []byte {
	client, src, dst := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, 5}), 40000), nl.CTA_IP_V4_SRC, nl.CTA_IP_V4_DST
	if e.to.Addr().Is6() {
		client, src, dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: 5}), 40000), nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	}
	nest := func(kind int, inside func()) {
		at := len(b)
		b = append(b, make([]byte, unix.SizeofNlAttr)...)
		inside()
		binary.NativeEndian.PutUint16(b[at:], uint16(len(b)-at))
		binary.NativeEndian.PutUint16(b[at+2:], uint16(kind))
		b = append(b, make([]byte, -len(b)&3)...)
	}
	attr := func(kind int, value ...byte) { nest(kind, func() { b = append(b, value...) }) }
	tuple := func(kind int, from, to netip.AddrPort) {
		nest(kind|unix.NLA_F_NESTED, func() {
			nest(nl.CTA_TUPLE_IP|unix.NLA_F_NESTED, func() {
				attr(src, from.Addr().AsSlice()...)
				attr(dst, to.Addr().AsSlice()...)
			})
			nest(nl.CTA_TUPLE_PROTO|unix.NLA_F_NESTED, func() {
				attr(nl.CTA_PROTO_NUM, e.protocol.Number())
				attr(nl.CTA_PROTO_SRC_PORT, binary.BigEndian.AppendUint16(nil, from.Port())...)
				attr(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, to.Port())...)
			})
		})
	}
	b = append(b, familyOf(e.to.Addr()), unix.NFNETLINK_V0, 0, 0)
	tuple(nl.CTA_TUPLE_ORIG, client, e.to)
	tuple(nl.CTA_TUPLE_REPLY, e.from, client)
	attr(nl.CTA_STATUS, 0, 0, 0, 8)
	if e.state != 0 {
		nest(nl.CTA_PROTOINFO|unix.NLA_F_NESTED, func() {
			nest(nl.CTA_PROTOINFO_TCP|unix.NLA_F_NESTED, func() { attr(nl.CTA_PROTOINFO_TCP_STATE, e.state) })
		})
	}
	attr(nl.CTA_ID, binary.BigEndian.AppendUint32(nil, id)...)
	return b
}

func TestParse(t *testing.T) {
	tcp := flow(lb.TCP, "192.0.2.200:80", "10.0.0.1:8080")
	tcp.state = tcpEstablished
	for _, want := range []entry{tcp, flow(lb.UDP, "[2001:db8::200]:53", "[fd00::1]:5353"), flow(lb.SCTP, "192.0.2.200:90", "192.0.2.200:90")} {
		message := encode(nil, want, 7)
		if got, ok := parse(message); !ok || got != want {
			t.Errorf("%+v, %v, want %+v", got, ok, want)
		}
		for n := range message {
			if got, ok := parse(message[:n]); ok && (got.to != want.to || got.from != want.from || got.protocol != want.protocol) {
				t.Errorf("%d of %d bytes: %+v", n, len(message), got)
			}
		}
	}
	icmp := bytes.ReplaceAll(encode(nil, flow(lb.UDP, "192.0.2.200:53", "10.0.0.1:53"), 7), []byte{unix.IPPROTO_UDP, 0, 0, 0}, []byte{unix.IPPROTO_ICMP, 0, 0, 0})
	if got, ok := parse(icmp); ok {
		t.Errorf("another protocol: %+v", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(encode(nil, flow(lb.UDP, "192.0.2.200:53", "10.0.0.1:53"), 7))
	f.Add(encode(nil, entry{lb.TCP, netip.MustParseAddrPort("[2001:db8::200]:80"), netip.MustParseAddrPort("[fd00::1]:80"), tcpEstablished}, 7))
	f.Fuzz(func(t *testing.T, message []byte) {
		if e, ok := parse(message); ok && (!e.to.IsValid() || !e.from.IsValid() || e.protocol.Number() == 0) {
			t.Errorf("%+v", e)
		}
	})
}

// TestMemoryDoesNotGrowWithTheTable, whether it is read, or few of the flows are deleted, or all of them.
func TestMemoryDoesNotGrowWithTheTable(t *testing.T) {
	const vip, a, b, size = "192.0.2.200:53", "10.0.0.1:53", "10.0.0.2:53", 1 << 18
	toA, toB := flow(lb.UDP, vip, a), flow(lb.UDP, vip, b)
	forget := func(f *Flows) error { return f.Forget(t.Context(), state(lb.UDP, a), state(lb.UDP, b)) }
	for name, tc := range map[string]struct {
		every   int // flow goes to a, the others to b
		do      func(*Flows) error
		deletes int
		most    uint64
	}{
		"reading": {1, func(f *Flows) error {
			open, err := f.Open(t.Context(), state(lb.UDP, a))
			if n := open[datapath.Count{Listener: state(lb.UDP).Servers[0].Listener, Destination: toA.from}]; n != size {
				t.Errorf("%d are open, want %d", n, size)
			}
			return err
		}, 0, 1 << 20},
		"deleting few": {size / 1024, forget, 1024, 1 << 20},
		"deleting all": {1, forget, size, 16 << 20},
	} {
		k := newTable()
		k.size, k.gone = size, make(map[int]bool, size)
		k.entry = func(i int) entry {
			if i%tc.every == 0 {
				return toA
			}
			return toB
		}
		runtime.GC()
		var before runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := tc.do(&Flows{kernel: k}); err != nil || k.deletes != tc.deletes {
			t.Errorf("%s: %d deleted, want %d; %v", name, k.deletes, tc.deletes, err)
		}
		if k.heap > before.HeapAlloc+tc.most {
			t.Errorf("%s: %d kB in use of %d flows", name, (k.heap-before.HeapAlloc)>>10, size)
		}
	}
}

// TestOneOpenAtATime: many callers are one reader after the other, and one whose time is over does not read.
func TestOneOpenAtATime(t *testing.T) {
	const vip, a = "192.0.2.200:53", "10.0.0.1:53"
	k := newTable(flow(lb.UDP, vip, a))
	k.refuse = func(bool) error {
		time.Sleep(time.Millisecond)
		return nil
	}
	f := &Flows{kernel: k}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if open, err := f.Open(t.Context(), state(lb.UDP, a)); err != nil || len(open) != 1 {
				t.Errorf("%v, %v", open, err)
			}
		})
	}
	all.Wait()
	if k.crowd.Load() {
		t.Error("two read at a time")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Open(ctx, state(lb.UDP, a)); !errors.Is(err, context.Canceled) || len(k.dumps) != 8 {
		t.Errorf("%v after %d dumps", err, len(k.dumps))
	}
}
