package tunnel

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead-lb/fairlead/lb"
)

var (
	first  = Key{ID: 1, Secret: [32]byte{1}}
	second = Key{ID: 2, Secret: [32]byte{2}}
	alike  = Key{ID: 1, Secret: [32]byte{3}}
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func ask() Packet { return Packet{Kind: Ask, From: "n1", To: "n2", Nonce: Nonce{7, 15: 9}} }

func TestPacketsComeThrough(t *testing.T) {
	longest := Packet{Kind: Answer, From: lb.NodeName(strings.Repeat("a", maxName)), To: lb.NodeName(strings.Repeat("b", maxName))}
	answer := ask()
	answer.Kind, answer.Pods = Answer, Pods{addr("10.244.0.2"), addr("2001:db8:7::2")}
	for name, p := range map[string]Packet{"short": ask(), "longest": longest, "answer": answer} {
		for _, ends := range [][2]string{{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "2001:db8::2"}} {
			b := p.Marshal(addr(ends[0]), addr(ends[1]), first)
			if len(b) > MaxSize {
				t.Errorf("%s to %s: %d bytes, the bound is %d", name, ends[1], len(b), MaxSize)
			}
			if got, drop := Parse(b, []Key{second, alike, first}); drop != "" || got != p {
				t.Errorf("%s to %s: %+v, %q", name, ends[1], got, drop)
			}
		}
	}
}

// TestInnerHeaders: what looks into tunnels on the way takes the inner packet for a proper one.
func TestInnerHeaders(t *testing.T) {
	four := ask().Marshal(addr("192.0.2.1"), addr("192.0.2.2"), first)
	var sum uint32
	for i := 0; i < Header4; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(four[i:]))
	}
	if folded := sum>>16 + sum&0xffff; folded != 0xffff {
		t.Errorf("the sum over the IPv4 header with its checksum is %#x", folded)
	}
	if n := binary.BigEndian.Uint16(four[2:]); int(n) != len(four) || four[0] != 0x45 || four[9] != experiment {
		t.Errorf("IPv4 header % x of a packet of %d bytes", four[:Header4], len(four))
	}
	if !bytes.Equal(four[12:Header4], []byte{192, 0, 2, 1, 192, 0, 2, 2}) {
		t.Errorf("IPv4 addresses % x", four[12:Header4])
	}
	six := ask().Marshal(addr("2001:db8::1"), addr("2001:db8::2"), first)
	if n := binary.BigEndian.Uint16(six[4:]); int(n) != len(six)-Header6 || six[0] != 0x60 || six[6] != experiment || six[23] != 1 || six[39] != 2 {
		t.Errorf("IPv6 header % x of a packet of %d bytes", six[:Header6], len(six))
	}
}

func TestEveryBitIsSigned(t *testing.T) {
	good := ask().Marshal(addr("192.0.2.1"), addr("192.0.2.2"), first)
	for i := Header4 * 8; i < len(good)*8; i++ {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if p, drop := Parse(bad, []Key{first}); drop == "" {
			t.Fatalf("with bit %d of byte %d changed it is %+v", i%8, i/8, p)
		}
	}
}

func TestDrops(t *testing.T) {
	good := ask().Marshal(addr("192.0.2.1"), addr("192.0.2.2"), first)
	name := bytes.Clone(good)
	name[Header4+6] = 254
	for _, tc := range []struct {
		name string
		b    []byte
		keys []Key
		want Drop
	}{
		{"nothing", nil, []Key{first}, DropMalformed},
		{"cut off", good[:len(good)-1], []Key{first}, DropMalformed},
		{"longer", append(bytes.Clone(good), 0), []Key{first}, DropMalformed},
		{"names that do not fit", name, []Key{first}, DropMalformed},
		{"no keys", good, nil, DropKey},
		{"another key", good, []Key{second}, DropKey},
		{"another key of the same ID", good, []Key{alike}, DropSignature},
	} {
		if _, got := Parse(tc.b, tc.keys); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(ask().Marshal(addr("192.0.2.1"), addr("192.0.2.2"), first))
	f.Add(ask().Marshal(addr("2001:db8::1"), addr("2001:db8::2"), second))
	f.Add([]byte{0x45})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, drop := Parse(b, []Key{first, second})
		if drop != "" {
			return
		}
		for _, k := range []Key{first, second} {
			for _, ends := range [][2]string{{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "2001:db8::2"}} {
				if again, drop := Parse(p.Marshal(addr(ends[0]), addr(ends[1]), k), []Key{k}); drop != "" || again != p {
					t.Errorf("%+v became %+v, %q", p, again, drop)
				}
			}
		}
	})
}
