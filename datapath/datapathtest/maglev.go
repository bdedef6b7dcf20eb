package datapathtest

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// slots is IP_VS_MH_TAB_SIZE of a kernel with the default of CONFIG_IP_VS_MH_TAB_INDEX.
const slots = 4093

// Maglev is a model of IPVS's scheduler mh (net/netfilter/ipvs/ip_vs_mh.c) on a kernel of 64 bits, with the flag for fallback, for
// destinations of equal weight. It depends on nothing but the destinations and their order. It must not be written to and is safe for
// concurrent use.
type Maglev struct {
	lookup [slots]int
	empty  bool
}

// The keys of the two hashes, as the kernel has them.
const (
	first  = 2654435761
	second = 2654446892
)

// NewMaglev returns the table for destinations in the order in which they were added to the kernel, which lists them from the last to the
// first. One that has lost its weight since counts.
func NewMaglev(destinations []netip.AddrPort) *Maglev {
	m := &Maglev{empty: len(destinations) == 0}
	for i := range m.lookup {
		m.lookup[i] = -1
	}
	at, skip := make([]int, len(destinations)), make([]int, len(destinations))
	for i, d := range destinations {
		at[i] = int(hashed(d, first, 0) % slots)
		skip[i] = int(hashed(d, second, 0)%(slots-1)) + 1
	}
	for free := slots; free > 0 && !m.empty; {
		for i := len(destinations) - 1; i >= 0 && free > 0; i-- {
			for m.lookup[at[i]] >= 0 {
				at[i] = (at[i] + skip[i]) % slots
			}
			m.lookup[at[i]] = i
			free--
		}
	}
	return m
}

// Choose returns the index of the destination for a client, whose port is 0 where the scheduler does not look at it; open tells which
// destinations have a weight. It returns -1 if it finds none.
func (m *Maglev) Choose(client netip.AddrPort, open func(i int) bool) int {
	if m.empty {
		return -1
	}
	start := hashed(client, first, 0) % slots
	if i := m.lookup[start]; open(i) {
		return i
	}
	for offset := range uint32(slots) {
		if i := m.lookup[hashed(client, first, (offset+start)%slots)%slots]; open(i) {
			return i
		}
	}
	return -1
}

// hashed is ip_vs_mh_hashkey.
func hashed(a netip.AddrPort, key uint64, offset uint32) uint32 {
	b := a.Addr().AsSlice()
	var folded uint32
	for ; len(b) >= 4; b = b[4:] {
		folded ^= binary.BigEndian.Uint32(b)
	}
	return sipHash13(offset+uint32(a.Port())+folded, key)
}

// sipHash13 is hsiphash_1u32 with both halves of the key alike: SipHash-1-3 of four bytes, cut to 32 bits.
func sipHash13(word uint32, key uint64) uint32 {
	v := [4]uint64{0x736f6d6570736575 ^ key, 0x646f72616e646f6d ^ key, 0x6c7967656e657261 ^ key, 0x7465646279746573 ^ key}
	round := func() {
		v[0] += v[1]
		v[1] = bits.RotateLeft64(v[1], 13) ^ v[0]
		v[0] = bits.RotateLeft64(v[0], 32)
		v[2] += v[3]
		v[3] = bits.RotateLeft64(v[3], 16) ^ v[2]
		v[0] += v[3]
		v[3] = bits.RotateLeft64(v[3], 21) ^ v[0]
		v[2] += v[1]
		v[1] = bits.RotateLeft64(v[1], 17) ^ v[2]
		v[2] = bits.RotateLeft64(v[2], 32)
	}
	b := 4<<56 | uint64(word)
	v[3] ^= b
	round()
	v[0] ^= b
	v[2] ^= 0xff
	for range 3 {
		round()
	}
	return uint32(v[0] ^ v[1] ^ v[2] ^ v[3])
}
