package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/datapath"
)

// Counts returns what the kernel counted at every endpoint of every listener that has had packets, sorted. It may be called while Sync
// runs, and costs two map elements read per endpoint.
func (e *Engine) Counts(ctx context.Context) ([]datapath.Count, error) {
	type where struct {
		listener datapath.Listener
		endpoint netip.AddrPort
	}
	counts := map[where]datapath.Count{}
	add := func(f family, inside bool, key, endpoint []byte, n datapath.Count) {
		if n.Conns == 0 && n.Bytes == 0 { // most of a large cluster
			return
		}
		l, ok := f.listenerOf(key)
		a, good := f.endpointOf(endpoint)
		if !ok || !good {
			return
		}
		l.Inside = inside
		c := counts[where{l, a}]
		counts[where{l, a}] = datapath.Count{Listener: l, Destination: a, Conns: c.Conns + n.Conns, Bytes: c.Bytes + n.Bytes, Opening: c.Opening + n.Opening}
	}
	first := func(packets, bytes uint64) datapath.Count { // of connections; an endpoint whose number changes gets another element for them
		return datapath.Count{Conns: packets, Bytes: bytes, Opening: bytes}
	}
	for _, f := range families() {
		for _, inside := range []bool{false, true} {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			err := e.table.kernel.elements(f.endpoints(inside), func(key, value []byte, packets, bytes uint64) { add(f, inside, key, value, first(packets, bytes)) })
			if err != nil {
				return nil, err
			}
			n := int(f.listenerFields().size())
			err = errors.Join(
				e.table.kernel.elements(f.chosen(inside), func(key, _ []byte, packets, bytes uint64) {
					add(f, inside, key, key[min(n, len(key)):], first(packets, bytes))
				}),
				e.table.kernel.elements(f.members(inside), func(key, _ []byte, _, bytes uint64) {
					add(f, inside, key, key[min(n, len(key)):], datapath.Count{Bytes: bytes})
				}))
			if err != nil {
				return nil, err
			}
		}
	}
	out := make([]datapath.Count, 0, len(counts))
	for _, c := range counts {
		out = append(out, c)
	}
	slices.SortFunc(out, datapath.Count.Compare)
	return out, nil
}

// HandedOn returns how many packets of connections that this node does not know went on to another since the kernel was told, the last
// time, to whom. It may be called while Sync runs.
func (e *Engine) HandedOn() (packets uint64, err error) { return e.table.HandedOn() }

// endpointOf is the reverse of endpointKey.
func (f family) endpointOf(key []byte) (netip.AddrPort, bool) {
	n := f.addr.bytes
	if len(key) < n+2 {
		return netip.AddrPort{}, false
	}
	addr, ok := netip.AddrFromSlice(key[:n])
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(key[n:])), ok
}
