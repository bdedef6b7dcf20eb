package ipvs

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/datapath"
)

// tunnelsEvery is how often somebody looks whether the tunnels are still there.
const tunnelsEvery = 5 * time.Second

// tunnels is what the engine knows of its neighbour.
type tunnels struct {
	known  bool // whether they are open
	open   bool
	needed [2][]netip.Addr // endpoints and peers
	mtu    datapath.MTU
	read   time.Time
}

// openTunnels returns want with the MTU that clients must be told, before anybody needs the tunnels. Where they cannot be opened, the servers
// that need them are rejected, and want is without them.
func (e *Engine) openTunnels(want datapath.State, now time.Time, f *failures) datapath.State {
	if len(want.Peers) == 0 {
		return want
	}
	need := [2][]netip.Addr{nil, want.Peers}
	for _, v := range want.Servers {
		for _, d := range v.Destinations {
			if v.Tunnelled {
				need[0] = append(need[0], d.Addr.Addr())
			}
		}
	}
	need[0] = union(need[0])
	t := &e.tunnels
	if !t.open || !slices.Equal(t.needed[0], need[0]) || !slices.Equal(t.needed[1], need[1]) || now.Sub(t.read) >= tunnelsEvery {
		mtu, err := e.Tunnels.Up(need[0], need[1])
		if err != nil {
			return e.withoutTunnels(want, fmt.Errorf("opening the tunnel: %w", err), f)
		}
		*t = tunnels{true, true, need, mtu, now}
	}
	want.MTU = t.mtu
	return want
}

func (e *Engine) withoutTunnels(want datapath.State, err error, f *failures) datapath.State {
	var gone datapath.Rejected
	for _, v := range want.Servers {
		if v.Direct || v.Tunnelled {
			gone = append(gone, datapath.Rejection{Server: *v, Err: err})
		}
	}
	e.tunnels.known, e.tunnels.open = false, false
	f.errs, f.rejected = append(f.errs, err), append(f.rejected, gone...)
	want = want.Without(gone)
	want.Peers = nil
	return want
}

// closeTunnels takes the tunnels away once nobody needs them any more, also those of an earlier process.
func (e *Engine) closeTunnels(want datapath.State) error {
	if len(want.Peers) > 0 || e.tunnels.known && !e.tunnels.open {
		return nil
	}
	if err := e.Tunnels.Down(); err != nil {
		return fmt.Errorf("closing the tunnel: %w", err)
	}
	e.tunnels = tunnels{known: true}
	return nil
}

// withTunnelled returns the servers with those of guarded that are for the tunnel, which IPVS does not know, sorted.
func withTunnelled(servers, guarded []*datapath.VirtualServer) []*datapath.VirtualServer {
	tunnelled := func(v *datapath.VirtualServer) bool { return v.Tunnelled }
	if !slices.ContainsFunc(guarded, tunnelled) {
		return servers
	}
	out := slices.Clone(servers)
	for _, v := range guarded {
		if tunnelled(v) {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b *datapath.VirtualServer) int { return a.Listener.Compare(b.Listener) })
	return out
}
