package bgp

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/lb"
)

func address(text string) netip.Addr { return netip.MustParseAddr(text) }

// snapshot returns node n1 with three addresses of one Service, an external and an internal peer, and no advertisement.
func snapshot(ads ...lb.BGPAdvertisement) lb.Snapshot {
	web := lb.ServiceKey{Namespace: "default", Name: "web"}
	s := lb.Snapshot{
		Self: "n1", Forwards: true, Programmed: map[netip.Addr]bool{}, BGP: ads,
		Services: []lb.Service{{Key: web, Ports: []lb.Port{{Name: "p", Protocol: lb.TCP, Port: 80}}, ExternalTrafficPolicy: lb.Local}},
		Nodes:    map[lb.NodeName]lb.Node{"n1": {Name: "n1", Addrs: []netip.Addr{address("2001:db8::11"), address("10.0.0.11")}}},
		Members:  []lb.Member{{Node: "n1", Ready: true}},
		BGPPeers: []lb.BGPPeer{
			{Name: "ext", Addr: address("10.0.0.1"), MyASN: 64512, PeerASN: 64513, DualStack: true, DrainWait: time.Second},
			{Name: "int", Addr: address("2001:db8::1"), MyASN: 64512, PeerASN: 64512, Internal: true, DualStack: true, DrainWait: time.Minute, RouterID: address("9.9.9.9")},
		},
	}
	for i := range 3 {
		s.Endpoints.Set(web, append(s.Endpoints.Of(web), lb.Endpoint{PortName: "p", Protocol: lb.TCP, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), 80), Node: "n1", Ready: true}))
	}
	for _, text := range []string{"192.0.2.5", "192.0.2.9", "2001:db8:1::5"} {
		s.Services[0].Ingress = append(s.Services[0].Ingress, lb.Ingress{Addr: address(text), Mode: lb.ModeProxy})
		s.Programmed[address(text)] = true
	}
	for i := range s.BGP {
		a := &s.BGP[i]
		if a.Length == 0 {
			a.Length = 32
		}
		if a.LengthV6 == 0 {
			a.LengthV6 = 128
		}
	}
	return s
}

// text returns what the peers hear, a line each.
func text(s lb.Snapshot) string {
	var out strings.Builder
	for _, p := range Desired(s, announce.Plan(s)).Peers {
		for _, path := range p.Paths {
			fmt.Fprintf(&out, "%s %s\n", p.Name, path)
		}
	}
	return out.String()
}

func TestDesiredPaths(t *testing.T) {
	for name, c := range map[string]struct {
		ads    []lb.BGPAdvertisement
		change func(*lb.Snapshot)
		want   []string
	}{
		"none":               {nil, nil, nil},
		"plain":              {[]lb.BGPAdvertisement{{Name: "a", Peers: []string{"ext"}}}, nil, []string{"ext 192.0.2.5/32", "ext 192.0.2.9/32", "ext 2001:db8:1::5/128"}},
		"one family":         {[]lb.BGPAdvertisement{{Name: "a", Peers: []string{"ext"}}}, func(s *lb.Snapshot) { s.BGPPeers[0].DualStack = false }, []string{"ext 192.0.2.5/32", "ext 192.0.2.9/32"}},
		"the family of IPv6": {[]lb.BGPAdvertisement{{Name: "a", Peers: []string{"int"}}}, func(s *lb.Snapshot) { s.BGPPeers[1].DualStack = false }, []string{"int 2001:db8:1::5/128"}},
		"internal and external": {[]lb.BGPAdvertisement{{Name: "a", Length: 24, LengthV6: 64, LocalPref: 200, Prepend: 2, MED: new(uint32(0))}}, nil, []string{
			"ext 192.0.2.0/24 med 0 prepend 2", "ext 2001:db8:1::/64 med 0 prepend 2",
			"int 192.0.2.0/24 local-pref 200 med 0", "int 2001:db8:1::/64 local-pref 200 med 0"}},
		"two lengths": {[]lb.BGPAdvertisement{{Name: "a", Length: 24, LengthV6: 64, Peers: []string{"ext"}}, {Name: "b", Peers: []string{"ext"}, Communities: []uint32{0xffffff01}}}, nil, []string{
			"ext 192.0.2.0/24", "ext 192.0.2.5/32 65535:65281", "ext 192.0.2.9/32 65535:65281", "ext 2001:db8:1::/64", "ext 2001:db8:1::5/128 65535:65281"}},
		"several for one prefix": {[]lb.BGPAdvertisement{
			{Name: "a", Length: 24, LengthV6: 64, Peers: []string{"int"}, LocalPref: 7, Communities: []uint32{2, 9}, Large: [][3]uint32{{2, 0, 0}}},
			{Name: "b", Length: 24, LengthV6: 64, Peers: []string{"int"}, LocalPref: 8, Communities: []uint32{1, 9}, Large: [][3]uint32{{1, 0, 0}, {2, 0, 0}}}}, nil, []string{
			"int 192.0.2.0/24 local-pref 7 0:1 0:2 0:9 large:1:0:0 large:2:0:0", "int 2001:db8:1::/64 local-pref 7 0:1 0:2 0:9 large:1:0:0 large:2:0:0"}},
		"weights": {[]lb.BGPAdvertisement{{Name: "a", Length: 24, Peers: []string{"ext"}, Weighted: true}}, nil, []string{
			"ext 192.0.2.0/24 bandwidth 7.5e+08", "ext 2001:db8:1::5/128 bandwidth 3.75e+08"}},
		"weight of a node among equals": {[]lb.BGPAdvertisement{{Name: "a", Peers: []string{"ext"}, Weighted: true}}, func(s *lb.Snapshot) {
			s.Services[0].ExternalTrafficPolicy, s.Services[0].Ingress = lb.Cluster, s.Services[0].Ingress[:1]
		}, []string{"ext 192.0.2.5/32 bandwidth 1.25e+08"}},
		"drain": {[]lb.BGPAdvertisement{{Name: "a", Length: 24, LengthV6: 64, LocalPref: 200, Prepend: 10, Communities: []uint32{0xfffffffe}}}, func(s *lb.Snapshot) {
			s.Members[0].Draining = true
		}, []string{
			"ext 192.0.2.0/24 prepend 13 65535:0 65535:65534", "ext 2001:db8:1::/64 prepend 13 65535:0 65535:65534",
			"int 192.0.2.0/24 local-pref 1 65535:0 65535:65534", "int 2001:db8:1::/64 local-pref 1 65535:0 65535:65534"}},
		"drain, over for one": {[]lb.BGPAdvertisement{{Name: "a", Length: 24, LengthV6: 64}}, func(s *lb.Snapshot) {
			s.Members[0].Draining, s.Leaving = true, 2*time.Second
		}, []string{"int 192.0.2.0/24 local-pref 1 65535:0", "int 2001:db8:1::/64 local-pref 1 65535:0"}},
		"restart": {[]lb.BGPAdvertisement{{Name: "a", Length: 24, LengthV6: 64, Peers: []string{"ext"}}}, func(s *lb.Snapshot) {
			s.Members[0].Draining, s.Leaving, s.BGPPeers[0].GracefulRestart = true, time.Hour, true
		}, []string{"ext 192.0.2.0/24", "ext 2001:db8:1::/64"}},
		"in part programmed": {[]lb.BGPAdvertisement{{Name: "a", Peers: []string{"ext"}}}, func(s *lb.Snapshot) { delete(s.Programmed, address("192.0.2.9")) },
			[]string{"ext 192.0.2.5/32", "ext 2001:db8:1::5/128"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := snapshot(c.ads...)
			if c.change != nil {
				c.change(&s)
			}
			if diff := cmp.Diff(strings.Join(c.want, "\n"), strings.TrimSpace(text(s))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDesiredPeers(t *testing.T) {
	s := snapshot()
	s.BGPPeers = append(s.BGPPeers, lb.BGPPeer{Name: "un", Interface: "eth1", DualStack: true, MyASN: 64512, TTLSecurity: 1, GracefulRestart: true, RestartTime: time.Minute,
		BFD: &lb.BFDProfile{Receive: time.Second, Transmit: 2 * time.Second, Multiplier: 4, Passive: true, MinTTL: 250}},
		lb.BGPPeer{Name: "wrong", Unusable: lb.Refusal{Reason: lb.InvalidSpec, Message: "no"}})
	s.BGPPeers[1].BFD = &lb.BFDProfile{Multiplier: 3}
	got := Desired(s, announce.Plan(s)).Peers
	want := []Peer{
		{Name: "ext", Addr: address("10.0.0.1"), MyASN: 64512, PeerASN: 64513, RouterID: address("10.0.0.11"), Families: []lb.Family{lb.IPv4, lb.IPv6}},
		{Name: "int", Addr: address("2001:db8::1"), MyASN: 64512, PeerASN: 64512, RouterID: address("9.9.9.9"), Families: []lb.Family{lb.IPv4, lb.IPv6},
			BFD: &BFD{Multiplier: 3, MultiHop: true}},
		{Name: "un", Interface: "eth1", MyASN: 64512, Dynamic: External, RouterID: address("10.0.0.11"), TTLSecurity: 1, GracefulRestart: true, RestartTime: time.Minute,
			Families: []lb.Family{lb.IPv4, lb.IPv6}, BFD: &BFD{Receive: time.Second, Transmit: 2 * time.Second, Multiplier: 4, Passive: true, MinTTL: 250}},
		{Name: "wrong", Dynamic: External, RouterID: address("10.0.0.11"), Held: lb.Refusal{Reason: lb.InvalidSpec, Message: "no"}},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if a, b := routerID(lb.Node{Name: "n1"}), routerID(lb.Node{Name: "n2"}); a == b || !a.Is4() || a.IsUnspecified() {
		t.Errorf("router IDs by name: %s and %s", a, b)
	}
}

// TestDesiredOnRandomSnapshots holds the decisions and the state to what must be true whatever the facts are.
func TestDesiredOnRandomSnapshots(t *testing.T) {
	seed := rand.Uint64()
	dice := rand.New(rand.NewPCG(seed, 2))
	told, drained := 0, 0
	for range 4000 {
		s := randomSnapshot(dice)
		decisions := announce.Plan(s)
		state := Desired(s, decisions)
		if !state.Equal(Desired(s, announce.Plan(s))) {
			t.Fatalf("seed %d: the same facts give different states:\n%+v", seed, s)
		}
		for _, problem := range problems(s, decisions, state) {
			t.Errorf("seed %d: %s", seed, problem)
		}
		if t.Failed() {
			t.Fatalf("snapshot %+v\ndecisions %v\nstate %+v", s, decisions, state)
		}
		for _, p := range state.Peers {
			told += len(p.Paths)
			drained += len(slices.DeleteFunc(slices.Clone(p.Paths), func(p Path) bool { return !slices.Contains(p.Communities, GracefulShutdown) }))
		}
	}
	if told < 1000 || drained < 100 || told-drained < 500 {
		t.Errorf("seed %d: only %d paths, %d of them drained: do the snapshots still vary?", seed, told, drained)
	}
}

func problems(s lb.Snapshot, decisions []announce.Decision, state State) []string {
	var out []string
	wrong := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	node := s.Nodes[s.Self]
	serves := map[netip.Addr]bool{} // this node can serve it and its datapath is ready for it
	for _, svc := range s.Services {
		usable := len(lb.Usable(s.Endpoints.Of(svc.Key), svc.ExternalTrafficPolicy, s.Self)) > 0
		for _, a := range svc.Addrs() {
			serves[a] = serves[a] || usable && (s.Programmed[a] || !s.Forwards)
		}
	}
	restart := s.Members[0].Draining && !node.Excluded && !node.Cordoned
	leaves := node.Excluded || s.Members[0].Draining || node.Cordoned && s.LeaveOnCordon
	for i, peer := range state.Peers {
		known := s.BGPPeers[slices.IndexFunc(s.BGPPeers, func(p lb.BGPPeer) bool { return p.Name == peer.Name })]
		if i > 0 && state.Peers[i-1].Name >= peer.Name || !lb.MatchesAny(known.NodeSelectors, node.Labels) {
			wrong("peer %s is out of order or not for this node", peer.Name)
		}
		for j, path := range peer.Paths {
			if j > 0 && peer.Paths[j-1].Prefix.Compare(path.Prefix) >= 0 || path.Prefix != path.Prefix.Masked() {
				wrong("%s hears %s out of order", peer.Name, path)
			}
			behind := false
			for a := range serves {
				behind = behind || serves[a] && path.Prefix.Contains(a)
			}
			drains := slices.Contains(path.Communities, GracefulShutdown)
			switch {
			case !behind:
				wrong("%s hears of %s, behind which this node can serve nothing", peer.Name, path)
			case leaves && !drains && !(restart && known.GracefulRestart):
				wrong("%s hears of %s without being asked for other paths, though the node leaves", peer.Name, path)
			case !leaves && drains:
				wrong("%s is asked to avoid %s for nothing", peer.Name, path)
			case drains && s.Leaving >= known.DrainWait && !(node.Cordoned && s.LeaveOnCordon && !node.Excluded && !s.Members[0].Draining):
				wrong("%s still hears of %s after its wait", peer.Name, path)
			case !slices.Contains(peer.Families, lb.FamilyOf(path.Prefix.Addr())):
				wrong("%s hears of %s, which its session does not carry", peer.Name, path)
			case known.Internal && path.Prepend > 0, !known.Internal && path.LocalPref > 0:
				wrong("%s hears of %s with what is not for it", peer.Name, path)
			}
		}
	}
	for _, d := range decisions {
		if d.Via == announce.BGP && !d.Announce && serves[d.VIP] && !leaves && d.Reason != lb.NoPeer && d.Reason != lb.NodeNotSelected &&
			d.Reason != lb.NoEndpoints && d.Reason != lb.NoLocalEndpoint { // which are about those of its Services that are advertised
			wrong("%s is served here and not announced: %s", d.VIP, d)
		}
	}
	return out
}

// randomSnapshot has few names and addresses, so that much of it meets.
func randomSnapshot(dice *rand.Rand) lb.Snapshot {
	chance := func(n int) bool { return dice.IntN(n) == 0 }
	pick := func(list ...string) []lb.Selector {
		if chance(2) {
			return nil
		}
		return []lb.Selector{{{Key: "x", Op: lb.In, Values: []string{list[dice.IntN(len(list))]}}}}
	}
	node := func(name lb.NodeName) lb.Node {
		return lb.Node{Name: name, Labels: map[string]string{"x": []string{"a", "b"}[dice.IntN(2)]}, Excluded: chance(8), Cordoned: chance(6)}
	}
	s := lb.Snapshot{
		Self: "n1", Forwards: !chance(5), LeaveOnCordon: chance(2), Leaving: time.Duration(dice.IntN(4)) * time.Second,
		Nodes:      map[lb.NodeName]lb.Node{"n1": node("n1"), "n2": node("n2")},
		Members:    []lb.Member{{Node: "n1", Ready: true, Draining: chance(5)}, {Node: "n2", Ready: !chance(4)}},
		Programmed: map[netip.Addr]bool{},
		Pools: []lb.Pool{{Name: "p", Labels: map[string]string{"x": "a"}, Ranges: []lb.Range{{From: address("192.0.2.0"), To: address("192.0.2.7")}}},
			{Name: "q", Labels: map[string]string{"x": "b"}, Ranges: []lb.Range{{From: address("2001:db8::"), To: address("2001:db8::7")}}}},
	}
	for i := range 3 {
		svc := lb.Service{Key: lb.ServiceKey{Namespace: "d", Name: fmt.Sprint(i)}, Labels: map[string]string{"x": []string{"a", "b"}[dice.IntN(2)]},
			Ports: []lb.Port{{Protocol: lb.TCP, Port: 80}}, ExternalTrafficPolicy: []lb.TrafficPolicy{lb.Cluster, lb.Local}[dice.IntN(2)]}
		for range dice.IntN(3) {
			a := []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(dice.IntN(8))}), address("2001:db8::1")}[dice.IntN(2)]
			svc.Ingress = append(svc.Ingress, lb.Ingress{Addr: a, Mode: lb.ModeProxy})
			s.Programmed[a] = !chance(3)
		}
		for range dice.IntN(3) {
			s.Endpoints.Set(svc.Key, append(s.Endpoints.Of(svc.Key), lb.Endpoint{Protocol: lb.TCP, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(dice.IntN(4))}), 80),
				Node: []lb.NodeName{"n1", "n2"}[dice.IntN(2)], Ready: chance(2), Serving: true, Terminating: chance(2)}))
		}
		s.Services = append(s.Services, svc)
	}
	for _, name := range []string{"p1", "p2"} {
		s.BGPPeers = append(s.BGPPeers, lb.BGPPeer{Name: name, NodeSelectors: pick("a", "b"), Addr: netip.AddrFrom4([4]byte{10, 9, 9, byte(dice.IntN(2))}),
			Internal: chance(2), DualStack: chance(2), GracefulRestart: chance(2), DrainWait: time.Duration(dice.IntN(4)) * time.Second})
	}
	for _, name := range []string{"a", "b"} {
		ad := lb.BGPAdvertisement{Name: name, NodeSelectors: pick("a", "b"), ServiceSelectors: pick("a", "b"), PoolSelectors: pick("a", "b"),
			Length: 29 + dice.IntN(4), LengthV6: 125 + dice.IntN(4), LocalPref: uint32(dice.IntN(3)), Prepend: uint8(dice.IntN(3)), Weighted: chance(2), Communities: []uint32{uint32(dice.IntN(3))}}
		if chance(3) {
			ad.Peers = []string{"p1"}
		}
		s.BGP = append(s.BGP, ad)
	}
	return s
}
