package ipvs

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"sync"

	"github.com/fairlead-lb/fairlead/datapath"
)

// The packet marks of listeners for the inside: those with this first byte are ours, whoever wrote them.
const (
	ourMarks = 0xfa000000
	markMask = 0xff000000
)

// Marks are the packet marks by which IPVS knows listeners for the inside (fact 4: a virtual server by address would serve everybody).
// A listener gets one that depends on it alone, so that a restart finds the same, unless another listener has it already. The
// engine and its guard share one; it is safe for concurrent use.
type Marks struct {
	mu    sync.Mutex
	avoid uint32 // bits that no mark has
	have  uint32 // bits that every mark has
	of    map[datapath.Listener]uint32
	by    map[uint32]datapath.Listener
}

// NewMarks returns marks of which none is taken. None of them has the bit that means masquerade, all have the one that means inside; both
// must be among the lower 24.
func NewMarks(masquerade, inside uint32) (*Marks, error) {
	if (masquerade|inside)&markMask != 0 {
		return nil, fmt.Errorf("mark %#x: the bits of %#x distinguish listeners of IPVS; choose a lower one", masquerade, uint32(markMask))
	}
	return &Marks{avoid: masquerade, have: ourMarks | inside, of: map[datapath.Listener]uint32{}, by: map[uint32]datapath.Listener{}}, nil
}

// Of returns the mark of a listener and reserves it.
func (m *Marks) Of(l datapath.Listener) uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if mark, ok := m.of[l]; ok {
		return mark
	}
	h := fnv.New32a()
	fmt.Fprint(h, l)
	mark := m.have | h.Sum32()&^markMask&^m.avoid
	for {
		if _, taken := m.by[mark]; !taken {
			m.of[l], m.by[mark] = mark, l
			return mark
		}
		mark = m.have | ((mark|m.avoid)+1)&^markMask&^m.avoid // the carry passes the fixed bits by
	}
}

// listener returns whose mark it is. Of a mark of ours that no listener has, which a predecessor left, it makes one up: nobody wants it.
func (m *Marks) listener(mark uint32, family netip.Addr) datapath.Listener {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l, ok := m.by[mark]; ok && l.Addr.Addr().Is4() == family.Is4() {
		return l
	}
	var b [16]byte
	binary.BigEndian.PutUint32(b[12:], mark)
	addr := netip.AddrFrom16(b)
	if family.Is4() {
		addr = netip.AddrFrom4([4]byte(b[12:]))
	}
	l := datapath.Listener{Addr: netip.AddrPortFrom(addr, 0), Inside: true}
	m.of[l] = mark
	return l
}

func (m *Marks) release(l datapath.Listener) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.by[m.of[l]] == l {
		delete(m.by, m.of[l])
	}
	delete(m.of, l)
}
