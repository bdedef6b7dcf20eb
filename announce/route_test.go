package announce

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/lb"
)

// routed returns three nodes that announce vip to peer tor by BGP alone, seen by node n1.
func routed() lb.Snapshot {
	s := three()
	s.L2 = nil
	s.BGP = []lb.BGPAdvertisement{{Name: "all", Length: 32, LengthV6: 128}}
	s.BGPPeers = []lb.BGPPeer{{Name: "tor", Addr: netip.MustParseAddr("192.0.2.1"), MyASN: 64512, PeerASN: 64513, DrainWait: 5 * time.Second}}
	return s
}

func bgpAds(list ...lb.BGPAdvertisement) func(*lb.Snapshot) {
	return func(s *lb.Snapshot) {
		s.BGP = list
		for i := range s.BGP {
			s.BGP[i].Length, s.BGP[i].LengthV6 = 32, 128
		}
	}
}

func bgpPeers(list ...lb.BGPPeer) func(*lb.Snapshot) {
	return func(s *lb.Snapshot) {
		s.BGPPeers = list
		for i := range s.BGPPeers {
			s.BGPPeers[i].Addr = netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i)})
		}
	}
}

func leaving(d time.Duration) func(*lb.Snapshot) { return func(s *lb.Snapshot) { s.Leaving = d } }

// forwarder has somebody else forward, who is asked at a port.
func forwarder(s *lb.Snapshot) {
	s.Programmed, s.Forwards = nil, false
	s.Services[0].ExternalTrafficPolicy, s.Services[0].HealthCheckNodePort = lb.Local, 30123
	s.Endpoints.Set(web, []lb.Endpoint{endpoint("n1", true, false)})
}

func restartable(s *lb.Snapshot) { s.BGPPeers[0].GracefulRestart = true }

func TestPlanRoutes(t *testing.T) {
	const yes, asks = "192.0.2.200 BGP to tor", "192.0.2.200 BGP to tor asking for other paths: "
	no := func(r lb.Reason) string { return "192.0.2.200 BGP no: " + string(r) }
	for name, c := range map[string]struct {
		change []func(*lb.Snapshot)
		want   string // what the decision's String begins with
	}{
		"cluster":                  {nil, yes},
		"asleep":                   {[]func(*lb.Snapshot){func(s *lb.Snapshot) { s.Fenced = true }}, yes},
		"others have claimed it":   {[]func(*lb.Snapshot){claim("n2", 5)}, yes},
		"settling":                 {[]func(*lb.Snapshot){settling}, yes},
		"no link of the subnet":    {[]func(*lb.Snapshot){func(s *lb.Snapshot) { s.Links = nil }}, yes},
		"local without endpoint":   {[]func(*lb.Snapshot){local}, no(lb.NoLocalEndpoint)},
		"local with endpoint":      {[]func(*lb.Snapshot){local, endpoints(endpoint("n1", true, false))}, yes},
		"local, not ready":         {[]func(*lb.Snapshot){local, endpoints(lb.Endpoint{PortName: "p", Protocol: lb.TCP, Node: "n1"}, endpoint("n2", true, false))}, no(lb.NoLocalEndpoint)},
		"local, terminating alone": {[]func(*lb.Snapshot){local, endpoints(endpoint("n1", false, true))}, yes},
		"local, ready elsewhere":   {[]func(*lb.Snapshot){local, endpoints(endpoint("n1", false, true), endpoint("n2", true, false))}, no(lb.NoLocalEndpoint)},
		"no endpoints":             {[]func(*lb.Snapshot){endpoints()}, no(lb.NoEndpoints)},
		"not programmed":           {[]func(*lb.Snapshot){func(s *lb.Snapshot) { s.Programmed = nil }}, no(lb.NotProgrammed)},
		"announce only":            {[]func(*lb.Snapshot){func(s *lb.Snapshot) { s.Programmed, s.Forwards = nil, false }}, yes},
		"forwarder not asked yet":  {[]func(*lb.Snapshot){forwarder}, no(lb.ForwarderNotReady)},
		"forwarder that cannot":    {[]func(*lb.Snapshot){forwarder, func(s *lb.Snapshot) { s.HealthChecks = map[lb.ServiceKey]lb.HealthCheck{web: {Why: "503"}} }}, no(lb.ForwarderNotReady)},
		"forwarder that can":       {[]func(*lb.Snapshot){forwarder, func(s *lb.Snapshot) { s.HealthChecks = map[lb.ServiceKey]lb.HealthCheck{web: {OK: true}} }}, yes},
		"not a member":             {[]func(*lb.Snapshot){only("n2", "n3")}, no(lb.NotAMember)},
		"unknown node":             {[]func(*lb.Snapshot){func(s *lb.Snapshot) { delete(s.Nodes, "n1") }}, no(lb.NodeUnavailable)},
		"no network":               {[]func(*lb.Snapshot){node("n1", func(n *lb.Node) { n.NetworkUnavailable = true })}, no(lb.NodeUnavailable)},
		"datapath":                 {[]func(*lb.Snapshot){member("n1", func(m *lb.Member) { m.Ready = false })}, no(lb.DatapathNotReady)},
		"node not selected":        {[]func(*lb.Snapshot){bgpAds(lb.BGPAdvertisement{NodeSelectors: name("n2")})}, no(lb.NodeNotSelected)},
		"pool not covered":         {[]func(*lb.Snapshot){bgpAds(lb.BGPAdvertisement{Pools: []string{"other"}})}, "192.0.2.200 L2 no: NotAdvertised: neither"},
		"service not covered":      {[]func(*lb.Snapshot){bgpAds(lb.BGPAdvertisement{ServiceSelectors: []lb.Selector{{{Key: "app", Op: lb.In, Values: []string{"dns"}}}}})}, "192.0.2.200 L2 no: NotAdvertised"},
		"no peers at all":          {[]func(*lb.Snapshot){bgpPeers()}, no(lb.NoPeer) + ": there is no BGPPeer"},
		"no peer for the node":     {[]func(*lb.Snapshot){bgpPeers(lb.BGPPeer{Name: "tor", NodeSelectors: name("n2")})}, no(lb.NoPeer)},
		"no peer of the name":      {[]func(*lb.Snapshot){bgpAds(lb.BGPAdvertisement{Name: "a", Peers: []string{"spine"}})}, no(lb.NoPeer) + ": spec.peers of BGPAdvertisement a"},
		"a session of one family":  {[]func(*lb.Snapshot){func(s *lb.Snapshot) { s.BGPPeers[0].Addr = netip.MustParseAddr("2001:db8::1") }}, no(lb.NoPeer) + ": no session carries IPv4"},
		"a session of both": {[]func(*lb.Snapshot){func(s *lb.Snapshot) {
			s.BGPPeers[0].Addr, s.BGPPeers[0].DualStack = netip.MustParseAddr("2001:db8::1"), true
		}}, yes},
		"other lengths may differ":    {[]func(*lb.Snapshot){bgpAds(lb.BGPAdvertisement{Name: "a", LocalPref: 200}, lb.BGPAdvertisement{Name: "b"}), func(s *lb.Snapshot) { s.BGP[0].Length = 24 }}, yes},
		"a peer of two":               {[]func(*lb.Snapshot){bgpPeers(lb.BGPPeer{Name: "spine"}, lb.BGPPeer{Name: "tor"}), bgpAds(lb.BGPAdvertisement{Peers: []string{"tor"}})}, yes},
		"excluded a moment ago":       {[]func(*lb.Snapshot){node("n1", excluded)}, asks},
		"excluded":                    {[]func(*lb.Snapshot){node("n1", excluded), leaving(5 * time.Second)}, no(lb.NodeExcluded)},
		"excluded before the start":   {[]func(*lb.Snapshot){node("n1", excluded), leaving(LongGone)}, no(lb.NodeExcluded)},
		"being deleted":               {[]func(*lb.Snapshot){node("n1", func(n *lb.Node) { n.Deleting = true }), leaving(time.Minute)}, no(lb.NodeUnavailable)},
		"cordoned, and stays":         {[]func(*lb.Snapshot){node("n1", cordoned)}, yes},
		"cordoned, and leaves":        {[]func(*lb.Snapshot){node("n1", cordoned), leave}, asks},
		"cordoned, and gone":          {[]func(*lb.Snapshot){node("n1", cordoned), leave, leaving(time.Minute)}, no(lb.NodeCordoned)},
		"cordoned, and alone":         {[]func(*lb.Snapshot){node("n1", cordoned), leave, leaving(time.Minute), only("n1")}, asks},
		"cordoned, others failed":     {[]func(*lb.Snapshot){node("n1", cordoned), leave, leaving(time.Minute), only("n1", "n2"), member("n2", func(m *lb.Member) { m.Failing = []netip.Addr{vip} })}, asks},
		"cordoned, others without":    {[]func(*lb.Snapshot){node("n1", cordoned), leave, leaving(time.Minute), local, endpoints(endpoint("n1", true, false))}, asks},
		"cordoned, others apart":      {[]func(*lb.Snapshot){node("n1", cordoned), leave, leaving(time.Minute), bgpPeers(lb.BGPPeer{Name: "tor", NodeSelectors: name("n1")})}, asks},
		"excluded, and alone":         {[]func(*lb.Snapshot){node("n1", excluded), leaving(time.Minute), only("n1")}, no(lb.NodeExcluded)},
		"shutting down":               {[]func(*lb.Snapshot){member("n1", draining)}, asks},
		"shut down":                   {[]func(*lb.Snapshot){member("n1", draining), leaving(time.Minute)}, no(lb.NodeDraining)},
		"restarting":                  {[]func(*lb.Snapshot){member("n1", draining), leaving(time.Minute), restartable}, yes},
		"restarting, but cordoned":    {[]func(*lb.Snapshot){member("n1", draining), leaving(time.Minute), restartable, node("n1", cordoned)}, no(lb.NodeDraining)},
		"restarting, but excluded":    {[]func(*lb.Snapshot){member("n1", draining), leaving(time.Second), restartable, node("n1", excluded)}, asks},
		"pool deleted, not named":     {[]func(*lb.Snapshot){func(s *lb.Snapshot) { s.Pools = nil }}, yes},
		"pool deleted, named":         {[]func(*lb.Snapshot){func(s *lb.Snapshot) { s.Pools = nil }, bgpAds(lb.BGPAdvertisement{Pools: []string{"main"}})}, yes},
		"pool deleted, other named":   {[]func(*lb.Snapshot){func(s *lb.Snapshot) { s.Pools = nil }, bgpAds(lb.BGPAdvertisement{Pools: []string{"other"}})}, "192.0.2.200 L2 no: NotAdvertised"},
		"advertisements that differ":  {[]func(*lb.Snapshot){bgpAds(lb.BGPAdvertisement{Name: "a", LocalPref: 200}, lb.BGPAdvertisement{Name: "b"})}, yes + " BGPAdvertisements a and b disagree about localPref"},
		"advertisements to different": {[]func(*lb.Snapshot){bgpPeers(lb.BGPPeer{Name: "spine"}, lb.BGPPeer{Name: "tor"}), bgpAds(lb.BGPAdvertisement{Peers: []string{"tor"}, LocalPref: 9}, lb.BGPAdvertisement{Peers: []string{"spine"}})}, "192.0.2.200 BGP to spine,tor"},
	} {
		t.Run(name, func(t *testing.T) {
			s := routed()
			for _, change := range c.change {
				change(&s)
			}
			got := Plan(s)
			if len(got) != 1 || !strings.HasPrefix(got[0].String(), c.want) || strings.HasSuffix(c.want, "to tor") && got[0].String() != c.want {
				t.Errorf("got  %v\nwant %s", got, c.want)
			}
			if len(got) == 1 && (got[0].Announce != (len(got[0].Tell) > 0) || got[0].Announce != (got[0].Reason == "") || !got[0].Announce && got[0].Message == "") {
				t.Errorf("a decision that contradicts itself: %+v", got[0])
			}
		})
	}
}

// An address that is advertised both ways has both decisions, and layer 2's is what it would be alone.
func TestPlanBothWays(t *testing.T) {
	for name, change := range map[string]func(*lb.Snapshot){
		"owner":        prefer("n1"),
		"not owner":    prefer("n2"),
		"no interface": func(s *lb.Snapshot) { s.Links = nil },
		"excluded":     node("n1", excluded),
		"fenced":       func(s *lb.Snapshot) { s.Fenced = true },
	} {
		t.Run(name, func(t *testing.T) {
			alone := three()
			change(&alone)
			both := routed()
			both.L2 = three().L2
			change(&both)
			got := Plan(both)
			if len(got) != 2 || got[1].Via != BGP {
				t.Fatalf("got %v", got)
			}
			if diff := cmp.Diff(Plan(alone), got[:1], cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("layer 2 (-alone +beside BGP):\n%s", diff)
			}
		})
	}
}

// Services that share an address are told of as long as one of them can be served, by the advertisements for those.
func TestPlanSharedRoute(t *testing.T) {
	s := routed()
	second := service(dns, lb.Local, vip)
	s.Services = append([]lb.Service{second}, s.Services...)
	app := func(v string) []lb.Selector { return []lb.Selector{{{Key: "app", Op: lb.In, Values: []string{v}}}} }
	bgpAds(lb.BGPAdvertisement{Name: "dns", ServiceSelectors: app("dns")}, lb.BGPAdvertisement{Name: "web", ServiceSelectors: app("web")})(&s)
	told := func() []string {
		var out []string
		for _, d := range Plan(s) {
			for _, t := range d.Tell {
				out = append(out, t.Ads...)
			}
		}
		return out
	}
	if got := told(); !slices.Equal(got, []string{"web"}) {
		t.Errorf("without an endpoint of dns: %v", got)
	}
	s.Endpoints.Set(dns, []lb.Endpoint{endpoint("n1", true, false)})
	if got := told(); !slices.Equal(got, []string{"dns", "web"}) {
		t.Errorf("with both: %v", got)
	}
	s.Endpoints.Set(web, nil)
	if got := told(); !slices.Equal(got, []string{"dns"}) {
		t.Errorf("without an endpoint of web: %v", got)
	}
}

func TestPeersOf(t *testing.T) {
	at := netip.MustParseAddr("192.0.2.1")
	got := PeersOf([]lb.BGPPeer{
		{Name: "a", Addr: at}, {Name: "b", Addr: at, NodeSelectors: name("n2")}, {Name: "c", Addr: at, VRF: "red"}, {Name: "d", Addr: at, Port: 1790},
		{Name: "e"}, {Name: "f"}, {Name: "g", Interface: "eth1"}, {Name: "h", Interface: "eth2"}, {Name: "i", Interface: "eth1"},
	}, map[string]string{"name": "n1"})
	var names []string
	for _, p := range got {
		names = append(names, p.Name+string(p.Unusable.Reason))
	}
	if want := []string{"a", "c", "dPeerConflict", "e", "f", "g", "h", "iPeerConflict"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}
