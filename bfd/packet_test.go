package bfd

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func up() Packet {
	return Packet{State: Up, Diag: DiagNeighborSignaledDown, Poll: true, Multiplier: 3, MyDiscriminator: 0x01020304, YourDiscriminator: 0x05060708,
		DesiredMinTx: 50 * time.Millisecond, RequiredMinRx: 300 * time.Millisecond, RequiredMinEchoRx: 0}
}

// ringOf returns a keyring of two keys.
func ringOf(t AuthType) Keyring {
	if t == AuthNone {
		return Keyring{}
	}
	return Keyring{Type: t, Keys: []Key{{1, "first"}, {200, "second secret"}}}
}

// Test4_1_BytesAndMicroseconds holds the layout and the unit: 50 ms are 50,000 = 0xc350 on the wire.
func Test4_1_BytesAndMicroseconds(t *testing.T) {
	p := up()
	const want = "23e00318" + "01020304" + "05060708" + "0000c350" + "000493e0" + "00000000"
	if got := hex.EncodeToString(p.Append(nil)); got != want {
		t.Errorf("packet\n got %s\nwant %s", got, want)
	}
	p.DesiredMinTx = 1500 * time.Nanosecond
	if got, _ := Parse(p.Append(nil)); got.DesiredMinTx != time.Microsecond {
		t.Errorf("1.5 µs became %s, want 1µs", got.DesiredMinTx)
	}
	p.DesiredMinTx = 2 * time.Hour
	if got, _ := Parse(p.Append(nil)); got.DesiredMinTx != MaxInterval {
		t.Errorf("what does not fit became %s, want %s", got.DesiredMinTx, MaxInterval)
	}
}

// Test4_2_SimplePasswordBytes to Test4_4 hold the sections' layout.
func Test4_2_SimplePasswordBytes(t *testing.T) {
	p := up()
	ringOf(SimplePassword).sign(&p, 7)
	if got, want := hex.EncodeToString(p.Append(nil)[MinSize:]), "010801"+hex.EncodeToString([]byte("first")); got != want {
		t.Errorf("section %s, want %s", got, want)
	}
}

func Test4_3And4_4_DigestBytes(t *testing.T) {
	for _, c := range []struct {
		kind AuthType
		head string
		size int
	}{{KeyedMD5, "0218010000000007", 24}, {MeticulousKeyedMD5, "0318010000000007", 24}, {KeyedSHA1, "041c010000000007", 28},
		{MeticulousKeyedSHA1, "051c010000000007", 28}} {
		p := up()
		ringOf(c.kind).sign(&p, 7)
		section := p.Append(nil)[MinSize:]
		if got := hex.EncodeToString(section[:8]); got != c.head || len(section) != c.size {
			t.Errorf("%s: section of %d bytes begins with %s, want %d and %s", c.kind, len(section), got, c.size, c.head)
		}
	}
}

func TestParseReadsWhatAppendWrote(t *testing.T) {
	for kind := AuthNone; kind <= MeticulousKeyedSHA1; kind++ {
		p := up()
		p.Poll, p.Final, p.ControlPlane, p.Demand = false, true, true, true
		ringOf(kind).sign(&p, 1<<31)
		got, drop := Parse(append(p.Append(nil), "padding"...))
		if drop != "" {
			t.Errorf("%s: dropped: %s", kind, drop)
		}
		if diff := cmp.Diff(p, got); diff != "" {
			t.Errorf("%s: %s", kind, diff)
		}
	}
}

// Test6_8_6_WhatParseDiscards has a row for every Drop of Parse.
func Test6_8_6_WhatParseDiscards(t *testing.T) {
	plain := func(change func(b []byte)) []byte {
		b := up().Append(nil)
		change(b)
		return b
	}
	signed := func(kind AuthType, change func(b []byte)) []byte {
		p := up()
		ringOf(kind).sign(&p, 7)
		b := p.Append(nil)
		change(b)
		return b
	}
	for _, c := range []struct {
		name string
		b    []byte
		want Drop
	}{
		{"empty", nil, DropShort},
		{"23 bytes", plain(func([]byte) {})[:23], DropShort},
		{"version 0", plain(func(b []byte) { b[0] &= 0x1f }), DropVersion},
		{"version 2", plain(func(b []byte) { b[0] = 2<<5 | b[0]&0x1f }), DropVersion},
		{"length 23", plain(func(b []byte) { b[3] = 23 }), DropLength},
		{"length without the A bit", append(plain(func(b []byte) { b[3] = 28 }), 1, 4, 1, 'x'), DropLength},
		{"length beyond the datagram", plain(func(b []byte) { b[3] = 25 }), DropShort},
		{"multiplier 0", plain(func(b []byte) { b[2] = 0 }), DropMultiplier},
		{"multipoint", plain(func(b []byte) { b[1] |= bitM }), DropMultipoint},
		{"poll and final", plain(func(b []byte) { b[1] |= bitFinal }), DropFlags},
		{"my discriminator 0", plain(func(b []byte) { clear(b[4:8]) }), DropMyDiscriminator},
		{"your discriminator 0, Up", plain(func(b []byte) { clear(b[8:12]) }), DropNoDiscriminator},
		{"your discriminator 0, Init", plain(func(b []byte) { clear(b[8:12]); b[1] = byte(Init) << 6 }), DropNoDiscriminator},
		{"your discriminator 0, Down", plain(func(b []byte) { clear(b[8:12]); b[1] = byte(Down) << 6 }), ""},
		{"your discriminator 0, AdminDown", plain(func(b []byte) { clear(b[8:12]); b[1] = byte(AdminDown) << 6 }), ""},
		{"A bit and no section", plain(func(b []byte) { b[1] |= bitA }), DropAuthSection},
		{"section shorter than the packet", signed(KeyedMD5, func(b []byte) { b[25]-- }), DropAuthSection},
		{"type 0", signed(KeyedMD5, func(b []byte) { b[24] = 0 }), DropAuthSection},
		{"type 6", signed(KeyedSHA1, func(b []byte) { b[24] = 6 }), DropAuthSection},
		{"MD5 of SHA1's length", signed(KeyedSHA1, func(b []byte) { b[24] = byte(KeyedMD5) }), DropAuthSection},
		{"SHA1 of MD5's length", signed(KeyedMD5, func(b []byte) { b[24] = byte(KeyedSHA1) }), DropAuthSection},
		{"password of 17 bytes", signed(KeyedMD5, func(b []byte) { b[24] = byte(SimplePassword) }), DropAuthSection},
		{"password of 0 bytes", signed(SimplePassword, func(b []byte) { b[3], b[25] = 27, 3 })[:27], DropAuthSection},
	} {
		if _, drop := Parse(c.b); drop != c.want {
			t.Errorf("%s: %q, want %q", c.name, drop, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for kind := AuthNone; kind <= MeticulousKeyedSHA1; kind++ {
		p := up()
		ringOf(kind).sign(&p, 7)
		f.Add(p.Append(nil))
	}
	f.Add([]byte{})
	f.Add(make([]byte, MaxSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, drop := Parse(b)
		if drop != "" {
			if p != (Packet{}) {
				t.Fatalf("a dropped packet was returned: %+v", p)
			}
			return
		}
		wire := p.Append(nil)
		if hex.EncodeToString(wire) != hex.EncodeToString(b[:len(wire)]) {
			t.Fatalf("wrote %x, read %x", wire, b)
		}
		if again, drop := Parse(wire); drop != "" || again != p {
			t.Fatalf("read %+v (%s) again as %+v", p, drop, again)
		}
		for kind := AuthNone; kind <= MeticulousKeyedSHA1; kind++ {
			ringOf(kind).verify(&p) // must not panic
		}
	})
}
