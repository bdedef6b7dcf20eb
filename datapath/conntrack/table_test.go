package conntrack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"
	"slices"
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

// change is one call of Forget; refused by the kernel as the word says.
type change struct {
	have, want datapath.State
	refused    string
}

// TestForgetDoesLaterWhatFailed: what a call could not do, a later one does, unless the listener has changed since.
func TestForgetDoesLaterWhatFailed(t *testing.T) {
	const vip, a, b, c = "192.0.2.200:53", "10.0.0.1:53", "10.0.0.2:53", "10.0.0.3:53"
	toA, early := flow(lb.UDP, vip, a), flow(lb.TCP, vip, vip)
	none := datapath.State{}
	nothing := change{none, none, ""}
	port := func(p lb.Protocol, e ...string) datapath.State { return at("0.0.0.0:30053", state(p, e...)) }
	moved, again := change{state(lb.UDP, a), state(lb.UDP, b), "dump"}, change{none, none, "dump"}
	for name, tc := range map[string]struct {
		flow  entry
		calls []change
		left  bool
		dumps int
	}{
		"at once":                     {toA, []change{{state(lb.UDP, a), state(lb.UDP, b), ""}, nothing}, false, 1},
		"after a dump that failed":    {toA, []change{moved, nothing, nothing}, false, 2},
		"after two":                   {toA, []change{moved, again, nothing}, false, 3},
		"after a deletion":            {toA, []change{{state(lb.UDP, a), state(lb.UDP, b), "delete"}, nothing, nothing}, false, 2},
		"after a dump cut short":      {toA, []change{{state(lb.UDP, a), state(lb.UDP, b), "interrupt"}, nothing}, false, passes + 1},
		"not while it fails":          {toA, []change{moved, again}, true, 2},
		"nothing has changed since":   {toA, []change{moved, {state(lb.UDP, b), state(lb.UDP, b), ""}}, false, 2},
		"another Service has changed": {toA, []change{moved, {state(lb.TCP, a), state(lb.TCP, b), ""}}, false, 2},
		"the endpoint is back":        {toA, []change{moved, {state(lb.UDP, b), state(lb.UDP, a, b), ""}}, true, 2},
		"another endpoint":            {toA, []change{moved, {state(lb.UDP, b), state(lb.UDP, c), ""}}, false, 2},
		"no endpoint is left":         {toA, []change{moved, {state(lb.UDP, b), state(lb.UDP), ""}, nothing}, true, 1},
		"the Service is gone":         {toA, []change{moved, {state(lb.UDP, b), none, ""}}, false, 2},
		"the Service was gone":        {toA, []change{{state(lb.UDP, a), none, "dump"}, nothing}, false, 2},
		"the Service is back":         {toA, []change{{state(lb.UDP, a), none, "dump"}, {none, state(lb.UDP, a), ""}}, true, 2},
		"TCP":                         {early, []change{{none, state(lb.TCP, a), "dump"}, {state(lb.TCP, a), state(lb.TCP, b), ""}}, false, 2},
		"TCP, the Service is gone":    {early, []change{{none, state(lb.TCP, a), "dump"}, {state(lb.TCP, a), none, ""}, nothing}, true, 1},
		"a node port": {flow(lb.UDP, "192.0.2.11:30053", a), []change{{port(lb.UDP, a), port(lb.UDP, b), "dump"},
			{none, datapath.State{NodeAddrs: port(lb.UDP).NodeAddrs}, ""}}, false, 2},
	} {
		k := newTable(tc.flow)
		f := &Flows{kernel: k}
		for i, call := range tc.calls {
			k.refuse = func(deleting bool) error {
				switch {
				case call.refused == "delete" && deleting, call.refused == "dump" && !deleting:
					return unix.ENOBUFS
				case call.refused == "interrupt" && !deleting:
					return nl.ErrDumpInterrupted
				}
				return nil
			}
			err := f.Forget(t.Context(), call.have, call.want)
			if fails := call.refused == "dump" || call.refused == "delete"; errors.Is(err, unix.ENOBUFS) != fails || (err != nil) != fails {
				t.Errorf("%s: call %d: %v", name, i, err)
			}
		}
		if k.has(0) != tc.left || len(k.dumps) != tc.dumps {
			t.Errorf("%s: the flow is left: %v, want %v; %d dumps, want %d", name, k.has(0), tc.left, len(k.dumps), tc.dumps)
		}
	}
}

// TestForgetFamiliesApart: what fails for one IP family is done for the other, and not again.
func TestForgetFamiliesApart(t *testing.T) {
	const a, b = "10.0.0.1:53", "10.0.0.2:53"
	k := newTable(flow(lb.UDP, "192.0.2.200:53", a), flow(lb.UDP, "[2001:db8::200]:53", "[fd00::1]:53"))
	f := &Flows{kernel: k}
	have, want := both(state(lb.UDP, a), at("[2001:db8::200]:53", state(lb.UDP, "[fd00::1]:53"))), both(state(lb.UDP, b), at("[2001:db8::200]:53", state(lb.UDP, "[fd00::2]:53")))
	k.refuse = func(bool) error {
		if k.dumps[len(k.dumps)-1] == unix.AF_INET6 {
			return unix.ENOBUFS
		}
		return nil
	}
	if err := f.Forget(t.Context(), have, want); !errors.Is(err, unix.ENOBUFS) || k.has(0) || !k.has(1) {
		t.Errorf("%v; IPv4 is left: %v, IPv6: %v", err, k.has(0), k.has(1))
	}
	k.dumps, k.refuse = nil, nil
	if err := f.Forget(t.Context(), datapath.State{}, datapath.State{}); err != nil || k.has(1) || !slices.Equal(k.dumps, []uint8{unix.AF_INET6}) {
		t.Errorf("%v; IPv6 is left: %v, asked for %v", err, k.has(1), k.dumps)
	}
}

// TestForgetEnds where its context does, and goes on in the next call.
func TestForgetEnds(t *testing.T) {
	const vip, a, b = "192.0.2.200:53", "10.0.0.1:53", "10.0.0.2:53"
	k := newTable(flow(lb.UDP, vip, a))
	f := &Flows{kernel: k}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Forget(ctx, state(lb.UDP, a), state(lb.UDP, b)); !errors.Is(err, context.Canceled) || !k.has(0) {
		t.Errorf("%v; the flow is left: %v", err, k.has(0))
	}
	if err := f.Forget(t.Context(), datapath.State{}, datapath.State{}); err != nil || k.has(0) {
		t.Errorf("%v; the flow is left: %v", err, k.has(0))
	}
}

// TestMemoryDoesNotGrowWithTheTable, whether it is read, or few of the flows are deleted, or all of them.
func TestMemoryDoesNotGrowWithTheTable(t *testing.T) {
	const vip, a, b, size = "192.0.2.200:53", "10.0.0.1:53", "10.0.0.2:53", 1 << 18
	toA, toB := flow(lb.UDP, vip, a), flow(lb.UDP, vip, b)
	forget := func(calls ...change) func(*Flows) error {
		return func(f *Flows) (err error) {
			for _, c := range calls {
				err = errors.Join(err, f.Forget(t.Context(), c.have, c.want))
			}
			return err
		}
	}
	moved := change{state(lb.UDP, a), state(lb.UDP, b), ""}
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
		"deleting few": {size / 1024, forget(moved), 1024, 1 << 20},
		"deleting all": {1, forget(moved, change{}), size, 16 << 20},
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
		time.Sleep(time.Millisecond) // so that readers, were there several, would meet
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
