package bgp

import (
	"hash/fnv"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/lb"
)

// What a peer hears of a path that it shall no longer use, besides the community (RFC 8326): an internal one the lowest preference
// that is sent, an external one a path that is longer than anybody else's.
const (
	drainLocalPref = 1
	drainPrepend   = 3
)

// endpointBandwidth is what one endpoint counts in the link bandwidth community, in bytes per second: one Gbit/s.
const endpointBandwidth = 1e9 / 8

// Desired returns what this node shall say by BGP: a session with each peer that is for it, and the paths of those addresses that
// announce.Plan has decided to announce. Complete, Preserved, Keep and Seq are the caller's.
func Desired(s lb.Snapshot, decisions []announce.Decision) State {
	node := s.Nodes[s.Self]
	peers := announce.PeersOf(s.BGPPeers, node.Labels)
	out := State{Peers: make([]Peer, len(peers))}
	index := make(map[string]int, len(peers))
	for i, p := range peers {
		out.Peers[i] = peerOf(p, node)
		index[p.Name] = i
	}
	ads := make(map[string]int, len(s.BGP))
	for i, a := range s.BGP {
		ads[a.Name] = i
	}
	told := make([][]column, len(peers)) // by peer, then by advertisement
	for i := range told {
		told[i] = make([]column, len(s.BGP))
	}
	for _, d := range decisions {
		if !d.Announce || d.Via != announce.BGP {
			continue
		}
		for _, t := range d.Tell {
			at := index[t.Peer]
			for _, name := range t.Ads {
				ad := ads[name]
				told[at][ad] = told[at][ad].with(part{s.BGP[ad].Prefix(d.VIP), ad, d.Weight, t.Drain}, len(decisions))
			}
		}
	}
	for i, columns := range told {
		out.Peers[i].Paths = paths(columns, s.BGP, peers[i].Internal)
	}
	return out
}

// part is what addresses add to a path by one advertisement.
type part struct {
	prefix netip.Prefix
	ad     int // its place in the snapshot
	weight int
	drain  bool
}

// column is all parts by one advertisement, sorted by prefix.
type column []part

// with adds a part, which must not be less than those before it: the decisions are sorted by address. Most is a guess of the length.
func (c column) with(p part, most int) column {
	if n := len(c); n > 0 && c[n-1].prefix == p.prefix {
		c[n-1].weight += p.weight
		c[n-1].drain = c[n-1].drain && p.drain
		return c
	}
	if c == nil && p.prefix.IsSingleIP() {
		c = make(column, 0, most)
	}
	return append(c, p)
}

// paths joins the parts by prefix. The attributes are those of the first advertisement by name, the communities those of all.
func paths(columns []column, ads []lb.BGPAdvertisement, internal bool) []Path {
	longest := 0
	for _, c := range columns {
		longest = max(longest, len(c))
	}
	if longest == 0 {
		return nil
	}
	out := make([]Path, 0, longest)
	var parts []part
	for {
		parts = parts[:0]
		for _, c := range columns {
			if len(c) > 0 && (len(parts) == 0 || c[0].prefix.Compare(parts[0].prefix) < 0) {
				parts = append(parts[:0], c[0])
			} else if len(c) > 0 && c[0].prefix == parts[0].prefix {
				parts = append(parts, c[0])
			}
		}
		if len(parts) == 0 {
			return out
		}
		for _, p := range parts {
			columns[p.ad] = columns[p.ad][1:]
		}
		out = append(out, path(parts, ads, internal))
	}
}

// path returns the path of parts with the same prefix, one for each advertisement.
func path(parts []part, ads []lb.BGPAdvertisement, internal bool) Path {
	first := ads[parts[0].ad]
	p := Path{Prefix: parts[0].prefix, MED: first.MED}
	drain := true
	for _, part := range parts {
		drain = drain && part.drain
		p.Communities = append(p.Communities, ads[part.ad].Communities...)
		for _, large := range ads[part.ad].Large {
			p.Large = append(p.Large, LargeCommunity{large[0], large[1], large[2]})
		}
	}
	if internal {
		p.LocalPref = first.LocalPref
	} else {
		p.Prepend = first.Prepend
	}
	if first.Weighted {
		p.Weight = float32(parts[0].weight) * endpointBandwidth
	}
	if drain {
		p.Communities = append(p.Communities, GracefulShutdown)
		if internal {
			p.LocalPref = drainLocalPref
		} else {
			p.Prepend += drainPrepend
		}
	}
	slices.Sort(p.Communities)
	p.Communities = slices.Compact(p.Communities)
	slices.SortFunc(p.Large, LargeCommunity.Compare)
	p.Large = slices.Compact(p.Large)
	return p
}

// peerOf returns the peer as this node has it, without paths.
func peerOf(p lb.BGPPeer, node lb.Node) Peer {
	out := Peer{
		Name: p.Name, Addr: p.Addr, Interface: p.Interface, Port: p.Port, VRF: p.VRF, Source: p.Source,
		MyASN: p.MyASN, PeerASN: p.PeerASN, RouterID: p.RouterID,
		HoldTime: p.HoldTime, Keepalive: p.Keepalive, ConnectRetry: p.ConnectRetry, Password: p.Password,
		MultiHop: p.MultiHop, TTLSecurity: p.TTLSecurity, MaxPrefixes: p.MaxPrefixes,
		GracefulRestart: p.GracefulRestart, RestartTime: p.RestartTime, Held: p.Unusable,
	}
	if p.PeerASN == 0 {
		out.Dynamic = External
	}
	if !out.RouterID.IsValid() {
		out.RouterID = routerID(node)
	}
	switch {
	case p.DualStack:
		out.Families = []lb.Family{lb.IPv4, lb.IPv6}
	case p.Addr.IsValid():
		out.Families = []lb.Family{lb.FamilyOf(p.Addr)}
	}
	if p.BFD != nil {
		out.BFD = &BFD{Receive: p.BFD.Receive, Transmit: p.BFD.Transmit, Multiplier: p.BFD.Multiplier, Passive: p.BFD.Passive,
			MinTTL: p.BFD.MinTTL, MultiHop: p.Interface == "" && (p.Internal || p.MultiHop || p.TTLSecurity > 1)}
	}
	return out
}

// routerID is the node's first IPv4 address; where it has none, a hash of its name.
func routerID(node lb.Node) netip.Addr {
	for _, a := range node.Addrs {
		if a.Is4() && !a.IsUnspecified() {
			return a
		}
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(node.Name)) // which cannot fail
	sum := h.Sum32() | 1              // never 0.0.0.0
	return netip.AddrFrom4([4]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}
