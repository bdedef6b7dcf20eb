package admission

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

// tor is a peer, tors are where it is for.
func tor(name, at string, nodes ...string) *Peer {
	p := &Peer{Object: &v1beta1.BGPPeer{Spec: v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: 64513, PeerAddress: at}}, Parsed: lb.BGPPeer{Name: name, Addr: netip.MustParseAddr(at)}}
	p.Object.Namespace, p.Object.Name = home, name
	if len(nodes) > 0 {
		p.Parsed.NodeSelectors = []lb.Selector{{{Key: "name", Op: lb.In, Values: nodes}}}
		p.Object.Spec.NodeSelectors = []metav1.LabelSelector{{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "name", Operator: metav1.LabelSelectorOpIn, Values: nodes}}}}
	}
	return p
}

func unnumbered(name, iface string) *Peer {
	p := tor(name, "192.0.2.1")
	p.Object.Spec.PeerAddress, p.Object.Spec.Interface = "", iface
	p.Parsed.Addr, p.Parsed.Interface = netip.Addr{}, iface
	return p
}

func (p *Peer) with(change func(*v1beta1.BGPPeerSpec)) *Peer {
	change(&p.Object.Spec)
	p.Parsed.VRF = p.Object.Spec.VRF
	return p
}

// route is an advertisement of prefixes of full length.
func route(name string, change func(*v1beta1.BGPAdvertisementSpec, *lb.BGPAdvertisement)) *Advertisement {
	a := &Advertisement{Object: &v1beta1.BGPAdvertisement{}, Parsed: lb.BGPAdvertisement{Name: name, Length: 32, LengthV6: 128}}
	a.Object.Namespace, a.Object.Name = home, name
	change(&a.Object.Spec, &a.Parsed)
	return a
}

func prefer(pref uint32) func(*v1beta1.BGPAdvertisementSpec, *lb.BGPAdvertisement) {
	return func(s *v1beta1.BGPAdvertisementSpec, p *lb.BGPAdvertisement) { s.LocalPref, p.LocalPref = pref, pref }
}

func aggregate(length int32) func(*v1beta1.BGPAdvertisementSpec, *lb.BGPAdvertisement) {
	return func(s *v1beta1.BGPAdvertisementSpec, p *lb.BGPAdvertisement) {
		s.AggregationLength, p.Length = &length, int(length)
	}
}

func profile(name string, change func(*v1beta1.BFDProfileSpec)) *v1beta1.BFDProfile {
	p := &v1beta1.BFDProfile{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: name}}
	change(&p.Spec)
	return p
}

func community(name string, pairs ...string) *v1beta1.Community {
	c := &v1beta1.Community{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: name}}
	for i := 0; i < len(pairs); i += 2 {
		c.Spec.Communities = append(c.Spec.Communities, v1beta1.CommunityAlias{Name: pairs[i], Value: pairs[i+1]})
	}
	return c
}

func TestDecideBGP(t *testing.T) {
	facts := Facts{
		Namespace: home,
		Pools: []lb.Pool{{Name: "p", Ranges: []lb.Range{{From: netip.MustParseAddr("192.0.2.0"), To: netip.MustParseAddr("192.0.2.127")}}},
			{Name: "odd", Ranges: []lb.Range{{From: netip.MustParseAddr("198.51.100.10"), To: netip.MustParseAddr("198.51.100.20")}}}},
		BGP: BGP{
			Peers: []Peer{*tor("tor", "192.0.2.1"), *tor("n1-only", "192.0.2.9", "n1").with(func(s *v1beta1.BGPPeerSpec) { s.BFDProfile = "fast" }), *unnumbered("link", "eth1")},
			Advertisements: []Advertisement{*route("base", func(s *v1beta1.BGPAdvertisementSpec, p *lb.BGPAdvertisement) {
				prefer(100)(s, p)
				s.Communities = []string{"vpn"}
			})},
			Profiles:    []string{"fast"},
			Communities: []v1beta1.Community{*community("c", "vpn", "1:2")},
			Nodes:       []lb.Node{{Name: "n1", Labels: map[string]string{"name": "n1"}}, {Name: "n2", Labels: map[string]string{"name": "n2"}}},
		},
	}
	peer := func(old, now *Peer) Request { return Request{Operation: Update, Peer: Change[Peer]{old, now}} }
	ads := func(old, now *Advertisement) Request {
		return Request{Operation: Update, BGPAdvertisement: Change[Advertisement]{old, now}}
	}
	gone := func(at *metav1.Time) Request {
		p := profile("fast", func(*v1beta1.BFDProfileSpec) {})
		p.DeletionTimestamp = at
		return Request{Operation: Delete, BFDProfile: Change[v1beta1.BFDProfile]{Old: p}}
	}
	slow := func(s *v1beta1.BGPPeerSpec) { s.DrainWait = &metav1.Duration{Duration: time.Second} }
	for name, c := range map[string]struct {
		r    Request
		want string // what it says begins with; "" = nothing
	}{
		"peer":                    {peer(nil, tor("new", "192.0.2.2")), ""},
		"same address":            {peer(nil, tor("new", "192.0.2.1")), "refused PeerConflict spec.peerAddress: Invalid value: \"192.0.2.1\": BGPPeer \"tor\" has the same address in the same VRF on node n1"},
		"same address elsewhere":  {peer(nil, tor("new", "192.0.2.9", "n2")), ""},
		"same address, other VRF": {peer(nil, tor("new", "192.0.2.1").with(func(s *v1beta1.BGPPeerSpec) { s.VRF = "red" })), ""},
		"same address as before":  {peer(tor("new", "192.0.2.1"), tor("new", "192.0.2.1").with(slow)), "warned PeerConflict wrong as before"},
		"same interface":          {peer(tor("x", "192.0.2.3"), unnumbered("new", "eth1")), "refused PeerConflict spec.interface: Invalid value: \"eth1\": BGPPeer \"link\""},
		"nothing changed":         {peer(tor("new", "192.0.2.1"), tor("new", "192.0.2.1")), ""},
		"itself":                  {peer(tor("tor", "192.0.2.1"), tor("tor", "192.0.2.1").with(slow)), ""},
		"wrong field":             {peer(nil, tor("new", "192.0.2.2").with(func(s *v1beta1.BGPPeerSpec) { s.MyASN = 0 })), "refused InvalidSpec spec.myASN"},
		"wrong field as before":   {peer(tor("new", "192.0.2.2").with(func(s *v1beta1.BGPPeerSpec) { s.MyASN = 0 }), tor("new", "192.0.2.2").with(func(s *v1beta1.BGPPeerSpec) { s.MyASN = 0; slow(s) })), "warned InvalidSpec wrong as before"},
		"unknown profile":         {peer(nil, tor("new", "192.0.2.2").with(func(s *v1beta1.BGPPeerSpec) { s.BFDProfile = "none" })), "warned UnknownBFDProfile spec.bfdProfile"},
		"secret elsewhere": {peer(nil, tor("new", "192.0.2.2").with(func(s *v1beta1.BGPPeerSpec) {
			s.PasswordSecret = &v1beta1.SecretReference{Name: "s", Namespace: "default"}
		})), "refused PasswordUnavailable spec.passwordSecret.namespace"},
		"one identifier of two nodes": {peer(nil, tor("new", "192.0.2.2").with(func(s *v1beta1.BGPPeerSpec) { s.RouterID = "9.9.9.9" })), "warned PeerConflict spec.routerID is \"9.9.9.9\" on several nodes (n1, n2)"},
		"one identifier of one":       {peer(nil, tor("new", "192.0.2.2", "n1").with(func(s *v1beta1.BGPPeerSpec) { s.RouterID = "9.9.9.9" })), ""},
		"peer in the wrong place": {func() Request {
			p := tor("new", "192.0.2.1")
			p.Object.Namespace = "default"
			return peer(nil, p)
		}(), "warned WrongNamespace"},

		"the same preference":  {ads(nil, route("new", prefer(100))), ""},
		"other preference":     {ads(nil, route("new", prefer(200))), "refused AdvertisementConflict spec.localPref: Invalid value: 200: BGPAdvertisement \"base\""},
		"preference as before": {ads(route("new", prefer(200)), route("new", prefer(300))), "warned AdvertisementConflict wrong as before"},
		"other pool": {ads(nil, route("new", func(s *v1beta1.BGPAdvertisementSpec, p *lb.BGPAdvertisement) {
			prefer(1)(s, p)
			p.Pools = []string{"none"}
		})), ""},
		"other length": {ads(nil, route("new", func(s *v1beta1.BGPAdvertisementSpec, p *lb.BGPAdvertisement) { prefer(1)(s, p); aggregate(30)(s, p) })), ""},
		"other peer": {ads(nil, route("new", func(s *v1beta1.BGPAdvertisementSpec, p *lb.BGPAdvertisement) {
			prefer(1)(s, p)
			p.Peers = []string{"x"}
		})), ""},
		"with Services": {ads(nil, route("new", func(s *v1beta1.BGPAdvertisementSpec, p *lb.BGPAdvertisement) {
			prefer(1)(s, p)
			p.ServiceSelectors = make([]lb.Selector, 1)
		})), ""},
		"other MED": {ads(nil, route("new", func(s *v1beta1.BGPAdvertisementSpec, p *lb.BGPAdvertisement) {
			prefer(100)(s, p)
			p.MED = new(uint32(0))
		})), "refused AdvertisementConflict spec.med"},
		"as wide as the pool": {ads(nil, route("new", func(s *v1beta1.BGPAdvertisementSpec, p *lb.BGPAdvertisement) {
			aggregate(25)(s, p)
			p.Pools = []string{"p"}
		})), ""},
		"wider than the pool": {ads(nil, route("new", func(s *v1beta1.BGPAdvertisementSpec, p *lb.BGPAdvertisement) {
			aggregate(24)(s, p)
			p.Pools = []string{"p"}
		})), "refused InvalidSpec spec.aggregationLength: Invalid value: 24"},
		"wider than a range": {ads(nil, route("new", aggregate(29))), "refused InvalidSpec spec.aggregationLength: Invalid value: 29: the prefixes would stand for addresses that IPAddressPool \"odd\" does not hold, whose entry 198.51.100.10-198.51.100.20 has no block larger than a /30"},
		"wide as before":     {ads(route("new", aggregate(29)), route("new", func(s *v1beta1.BGPAdvertisementSpec, p *lb.BGPAdvertisement) { aggregate(29)(s, p); s.LocalPref = 7 })), "warned InvalidSpec wrong as before"},
		"unknown pool": {ads(nil, route("new", func(s *v1beta1.BGPAdvertisementSpec, p *lb.BGPAdvertisement) {
			s.IPAddressPools = []string{"none"}
			prefer(100)(s, p)
		})), "warned UnknownPool"},
		"unknown peer": {ads(nil, route("new", func(s *v1beta1.BGPAdvertisementSpec, p *lb.BGPAdvertisement) {
			s.Peers = []string{"none"}
			prefer(100)(s, p)
		})), "warned NoPeer spec.peers[0]"},
		"unknown community": {ads(nil, route("new", func(s *v1beta1.BGPAdvertisementSpec, p *lb.BGPAdvertisement) {
			s.Communities = []string{"vpn", "1:1", "none"}
			prefer(100)(s, p)
		})), "warned UnknownCommunity spec.communities[2]"},
		"echo":                  {Request{Operation: Create, BFDProfile: Change[v1beta1.BFDProfile]{New: profile("new", func(s *v1beta1.BFDProfileSpec) { s.EchoMode = new(true) })}}, "refused InvalidSpec spec.echoMode"},
		"echo interval":         {Request{Operation: Create, BFDProfile: Change[v1beta1.BFDProfile]{New: profile("new", func(s *v1beta1.BFDProfileSpec) { s.EchoInterval = new(uint32(50)) })}}, "warned InvalidSpec spec.echoInterval"},
		"profile in use":        {gone(nil), "refused InUse metadata.name: Invalid value: \"fast\": BGPPeer \"n1-only\""},
		"profile going":         {gone(&metav1.Time{}), ""},
		"profile not in use":    {Request{Operation: Delete, BFDProfile: Change[v1beta1.BFDProfile]{Old: profile("slow", func(*v1beta1.BFDProfileSpec) {})}}, ""},
		"names":                 {Request{Operation: Create, Community: Change[v1beta1.Community]{New: community("d", "other", "1:2", "vpn", "1:2")}}, ""},
		"name of another value": {Request{Operation: Create, Community: Change[v1beta1.Community]{New: community("d", "vpn", "1:3")}}, "refused InvalidSpec spec.communities[0].name"},
		"name in use":           {Request{Operation: Delete, Community: Change[v1beta1.Community]{Old: community("c", "vpn", "1:2")}}, "refused InUse spec.communities: Invalid value: \"vpn\": BGPAdvertisement \"base\""},
		"name in use dropped":   {Request{Operation: Update, Community: Change[v1beta1.Community]{Old: community("c", "vpn", "1:2", "x", "1:1"), New: community("c", "x", "1:1")}}, "refused InUse"},
		"name not in use":       {Request{Operation: Update, Community: Change[v1beta1.Community]{Old: community("c", "vpn", "1:2", "x", "1:1"), New: community("c", "vpn", "1:2")}}, ""},
		"name kept elsewhere":   {Request{Operation: Delete, Community: Change[v1beta1.Community]{Old: community("other", "vpn", "1:2")}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := Decide(c.r, facts)
			var said []string
			for _, r := range d.Refusals {
				said = append(said, fmt.Sprintf("refused %s %v", r.Reason, r.Err))
			}
			for _, w := range d.Warnings {
				said = append(said, fmt.Sprintf("warned %s %s", w.Reason, w.Message))
			}
			if got := strings.Join(said, "\n"); len(said) > 1 && !strings.Contains(c.want, "\n") || (c.want == "") != (got == "") || !strings.HasPrefix(got, c.want) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	facts.BGP.Advertisements = append(facts.BGP.Advertisements, *route("wide", func(s *v1beta1.BGPAdvertisementSpec, p *lb.BGPAdvertisement) {
		aggregate(24)(s, p)
		p.Pools = []string{"n"}
	}))
	for _, c := range []struct {
		old, now *Pool
		warned   bool
	}{
		{nil, named("n", "203.0.113.0/24"), false}, {nil, named("n", "203.0.113.0/25"), true},
		{named("n", "203.0.113.0/24"), named("n", "203.0.113.0/25"), true}, {named("n", "203.0.113.0/26"), named("n", "203.0.113.0/25"), false},
	} {
		d := Decide(Request{Operation: Update, OldPool: c.old, NewPool: c.now}, facts)
		if got := len(d.Warnings) == 1 && strings.Contains(d.Warnings[0].Message, `BGPAdvertisement "wide"`); !d.Allowed() || got != c.warned {
			t.Errorf("pool %v to %v: %+v", c.old, c.now.Object.Spec.Addresses, d)
		}
	}
	ending := facts
	ending.Terminating = true
	if d := Decide(gone(nil), ending); !d.Allowed() {
		t.Errorf("while the namespace ends: %v", d)
	}
}

// largestBlock is what a search through all blocks finds.
func TestLargestBlock(t *testing.T) {
	for _, text := range []string{"192.0.2.0-192.0.2.255", "192.0.2.1-192.0.2.255", "192.0.2.10-192.0.2.20", "192.0.2.7-192.0.2.7", "0.0.0.0-255.255.255.255", "192.0.2.127-192.0.2.129", "192.0.2.200-192.0.3.10",
		"2001:db8::1-2001:db8::9", "2001:db8::-2001:db8::ffff"} {
		from, to, _ := strings.Cut(text, "-")
		r := lb.Range{From: netip.MustParseAddr(from), To: netip.MustParseAddr(to)}
		got := largestBlock(r)
		if !r.Contains(got.Addr()) || !r.Contains(lastOf(got)) {
			t.Errorf("%s: %s sticks out", text, got)
		}
		for a, n := r.From, 0; got.Bits() > 0 && a.Compare(r.To) <= 0 && a.IsValid() && n < 70000; a, n = a.Next(), n+1 {
			larger := netip.PrefixFrom(a, got.Bits()-1)
			if larger.Masked().Addr() == a && r.Contains(lastOf(larger)) {
				t.Errorf("%s: found %s, but there is %s", text, got, larger)
			}
		}
	}
}
