package v1beta1

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// peer returns a peer that is valid but for what change does to it.
func peer(change func(*BGPPeerSpec)) *BGPPeer {
	p := &BGPPeer{
		TypeMeta:   metav1.TypeMeta{APIVersion: Group + "/" + Version, Kind: "BGPPeer"},
		ObjectMeta: metav1.ObjectMeta{Name: "tor", Namespace: "fairlead-system"},
		Spec:       BGPPeerSpec{MyASN: 64512, PeerASN: 64513, PeerAddress: "192.0.2.1", PeerPort: 179},
	}
	change(&p.Spec)
	return p
}

func bgp(spec BGPAdvertisementSpec) *BGPAdvertisement {
	return &BGPAdvertisement{
		TypeMeta:   metav1.TypeMeta{APIVersion: Group + "/" + Version, Kind: "BGPAdvertisement"},
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "fairlead-system"},
		Spec:       spec,
	}
}

func bfd(spec BFDProfileSpec) *BFDProfile {
	return &BFDProfile{
		TypeMeta:   metav1.TypeMeta{APIVersion: Group + "/" + Version, Kind: "BFDProfile"},
		ObjectMeta: metav1.ObjectMeta{Name: "fast", Namespace: "fairlead-system"},
		Spec:       spec,
	}
}

func aliases(list ...CommunityAlias) *Community {
	return &Community{
		TypeMeta:   metav1.TypeMeta{APIVersion: Group + "/" + Version, Kind: "Community"},
		ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "fairlead-system"},
		Spec:       CommunitySpec{Communities: list},
	}
}

func seconds(n float64) *metav1.Duration {
	return &metav1.Duration{Duration: time.Duration(n * float64(time.Second))}
}

func TestBothValidatorsAgreeOnPeers(t *testing.T) {
	spec := func(change func(s *BGPPeerSpec)) validated { return peer(change) }
	for name, c := range map[string]verdict{
		"peer":                    {object: spec(func(s *BGPPeerSpec) {})},
		"largest numbers":         {object: spec(func(s *BGPPeerSpec) { s.MyASN, s.PeerASN, s.LocalASN = math.MaxUint32, 4200000000, 4200000001 })},
		"internal":                {object: spec(func(s *BGPPeerSpec) { s.PeerASN = 64512 })},
		"dynamic internal":        {object: spec(func(s *BGPPeerSpec) { s.PeerASN, s.DynamicASN = 0, "internal" })},
		"dynamic external":        {object: spec(func(s *BGPPeerSpec) { s.PeerASN, s.DynamicASN, s.LocalASN = 0, "external", 65000 })},
		"unnumbered":              {object: spec(func(s *BGPPeerSpec) { s.PeerAddress, s.Interface, s.TTLSecurity = "", "eth1", new(uint8(1)) })},
		"IPv6":                    {object: spec(func(s *BGPPeerSpec) { s.PeerAddress, s.SourceAddress = "2001:db8::1", "2001:DB8::2" })},
		"IPv4 link-local":         {object: spec(func(s *BGPPeerSpec) { s.PeerAddress = "169.254.255.1" })},
		"all else":                {object: spec(everything)},
		"hold for ever":           {object: spec(func(s *BGPPeerSpec) { s.HoldTime, s.KeepaliveTime = seconds(0), seconds(0) })},
		"longest hold":            {object: spec(func(s *BGPPeerSpec) { s.HoldTime, s.KeepaliveTime = seconds(65535), seconds(21845) })},
		"empty secret":            {object: spec(func(s *BGPPeerSpec) { s.Password, s.PasswordSecret = "x", &SecretReference{} })},
		"single protocol":         {object: spec(func(s *BGPPeerSpec) { s.DisableMP = true })},
		"no own number":           {object: spec(func(s *BGPPeerSpec) { s.MyASN = 0 }), wrong: "spec.myASN"},
		"no number":               {object: spec(func(s *BGPPeerSpec) { s.PeerASN = 0 }), wrong: "spec.peerASN", message: "exactly one"},
		"two numbers":             {object: spec(func(s *BGPPeerSpec) { s.DynamicASN = "external" }), wrong: "spec.peerASN", message: "exactly one"},
		"other dynamics":          {object: spec(func(s *BGPPeerSpec) { s.PeerASN, s.DynamicASN = 0, "any" }), wrong: "spec.dynamicASN", message: `"any"`},
		"local to internal":       {object: spec(func(s *BGPPeerSpec) { s.PeerASN, s.LocalASN = 64512, 65000 }), wrong: "spec.localASN", message: "external peers only"},
		"local to dynamic":        {object: spec(func(s *BGPPeerSpec) { s.PeerASN, s.DynamicASN, s.LocalASN = 0, "internal", 65000 }), wrong: "spec.localASN"},
		"local is the peer's":     {object: spec(func(s *BGPPeerSpec) { s.LocalASN = 64513 }), wrong: "spec.localASN"},
		"nowhere":                 {object: spec(func(s *BGPPeerSpec) { s.PeerAddress = "" }), wrong: "spec.peerAddress", message: "exactly one"},
		"two places":              {object: spec(func(s *BGPPeerSpec) { s.Interface = "eth1" }), wrong: "spec.peerAddress", message: "exactly one"},
		"name":                    {object: spec(func(s *BGPPeerSpec) { s.PeerAddress = "tor.example" }), wrong: "spec.peerAddress", message: "192.0.2.1"},
		"link-local":              {object: spec(func(s *BGPPeerSpec) { s.PeerAddress = "fe80::1" }), wrong: "spec.peerAddress", message: "set interface"},
		"zone":                    {object: spec(func(s *BGPPeerSpec) { s.PeerAddress = "fe80::1%eth0" }), wrong: "spec.peerAddress"},
		"group":                   {object: spec(func(s *BGPPeerSpec) { s.PeerAddress = "224.0.0.5" }), wrong: "spec.peerAddress"},
		"any address":             {object: spec(func(s *BGPPeerSpec) { s.PeerAddress = "::" }), wrong: "spec.peerAddress"},
		"mapped address":          {object: spec(func(s *BGPPeerSpec) { s.PeerAddress = "::ffff:192.0.2.1" }), wrong: "spec.peerAddress"},
		"long interface":          {object: spec(func(s *BGPPeerSpec) { s.PeerAddress, s.Interface = "", "interface0123456" }), wrong: "spec.interface"},
		"source of a name":        {object: spec(func(s *BGPPeerSpec) { s.SourceAddress = "here" }), wrong: "spec.sourceAddress"},
		"source of other family":  {object: spec(func(s *BGPPeerSpec) { s.SourceAddress = "2001:db8::2" }), wrong: "spec.sourceAddress", message: "family"},
		"source on a link":        {object: spec(func(s *BGPPeerSpec) { s.PeerAddress, s.Interface, s.SourceAddress = "", "eth1", "2001:db8::2" }), wrong: "spec.sourceAddress"},
		"hold of two":             {object: spec(func(s *BGPPeerSpec) { s.HoldTime = seconds(2) }), wrong: "spec.holdTime", message: "3s to 65535s"},
		"hold of half a second":   {object: spec(func(s *BGPPeerSpec) { s.HoldTime = seconds(9.5) }), wrong: "spec.holdTime", message: "whole"},
		"hold too long":           {object: spec(func(s *BGPPeerSpec) { s.HoldTime = seconds(65536) }), wrong: "spec.holdTime"},
		"keepalive too long":      {object: spec(func(s *BGPPeerSpec) { s.HoldTime, s.KeepaliveTime = seconds(9), seconds(10) }), wrong: "spec.keepaliveTime", message: "holdTime"},
		"keepalive never":         {object: spec(func(s *BGPPeerSpec) { s.KeepaliveTime = seconds(0) }), wrong: "spec.keepaliveTime", message: "holdTime of 0s"},
		"keepalive, longest":      {object: spec(func(s *BGPPeerSpec) { s.KeepaliveTime = seconds(21846) }), wrong: "spec.keepaliveTime"},
		"connect at once":         {object: spec(func(s *BGPPeerSpec) { s.ConnectTime = seconds(0) }), wrong: "spec.connectTime"},
		"connect in fractions":    {object: spec(func(s *BGPPeerSpec) { s.ConnectTime = seconds(1.5) }), wrong: "spec.connectTime"},
		"router ID of IPv6":       {object: spec(func(s *BGPPeerSpec) { s.RouterID = "2001:db8::1" }), wrong: "spec.routerID", message: "0.0.0.0"},
		"router ID of nothing":    {object: spec(func(s *BGPPeerSpec) { s.RouterID = "0.0.0.0" }), wrong: "spec.routerID"},
		"long password":           {object: spec(func(s *BGPPeerSpec) { s.Password = strings.Repeat("x", 81) }), wrong: "spec.password"},
		"two passwords":           {object: spec(func(s *BGPPeerSpec) { s.Password, s.PasswordSecret = "x", &SecretReference{Name: "tor"} }), wrong: "spec.password", message: "not both"},
		"internal multihop":       {object: spec(func(s *BGPPeerSpec) { s.PeerASN, s.EBGPMultiHop = 64512, true }), wrong: "spec.ebgpMultiHop", message: "external"},
		"multihop on a link":      {object: spec(func(s *BGPPeerSpec) { s.PeerAddress, s.Interface, s.EBGPMultiHop = "", "eth1", true }), wrong: "spec.ebgpMultiHop"},
		"multihop and security":   {object: spec(func(s *BGPPeerSpec) { s.EBGPMultiHop, s.TTLSecurity = true, new(uint8(3)) }), wrong: "spec.ebgpMultiHop", message: "ttlSecurity"},
		"security of 0":           {object: spec(func(s *BGPPeerSpec) { s.TTLSecurity = new(uint8(0)) }), wrong: "spec.ttlSecurity"},
		"security of 255":         {object: spec(func(s *BGPPeerSpec) { s.TTLSecurity = new(uint8(255)) }), wrong: "spec.ttlSecurity"},
		"security over a link":    {object: spec(func(s *BGPPeerSpec) { s.PeerAddress, s.Interface, s.TTLSecurity = "", "eth1", new(uint8(2)) }), wrong: "spec.ttlSecurity"},
		"no prefixes":             {object: spec(func(s *BGPPeerSpec) { s.MaxPrefixes = new(uint32(0)) }), wrong: "spec.maxPrefixes"},
		"restart without restart": {object: spec(func(s *BGPPeerSpec) { s.RestartTime = seconds(60) }), wrong: "spec.restartTime", message: "enableGracefulRestart"},
		"restart too long":        {object: spec(func(s *BGPPeerSpec) { s.EnableGracefulRestart, s.RestartTime = true, seconds(4096) }), wrong: "spec.restartTime"},
		"drain too long":          {object: spec(func(s *BGPPeerSpec) { s.DrainWait = seconds(301) }), wrong: "spec.drainWait"},
		"both and one":            {object: spec(func(s *BGPPeerSpec) { s.DisableMP, s.DualStackAddressFamily = true, true }), wrong: "spec.disableMP", message: "dualStackAddressFamily"},
		"long device":             {object: spec(func(s *BGPPeerSpec) { s.VRF = "vrf-0123456789ab" }), wrong: "spec.vrf"},
		"peer's nodes":            {object: spec(func(s *BGPPeerSpec) { s.NodeSelectors = []metav1.LabelSelector{badSelector()} }), wrong: "spec.nodeSelectors[0].matchExpressions[0].operator", goOnly: true},
	} {
		t.Run(name, c.check)
	}
}

// everything sets what goes together.
func everything(s *BGPPeerSpec) {
	s.HoldTime, s.KeepaliveTime, s.ConnectTime, s.DrainWait = seconds(9), seconds(3), seconds(5), seconds(0.5)
	s.RouterID, s.PasswordSecret, s.BFDProfile, s.VRF = "192.0.2.11", &SecretReference{Name: "tor", Namespace: "fairlead-system"}, "fast", "red"
	s.EnableGracefulRestart, s.RestartTime, s.MaxPrefixes, s.TTLSecurity = true, seconds(4095), new(uint32(math.MaxUint32)), new(uint8(254))
	s.DualStackAddressFamily, s.NodeSelectors = true, make([]metav1.LabelSelector, 64)
}

func TestBothValidatorsAgreeOnBGP(t *testing.T) {
	for name, c := range map[string]verdict{
		"advertisement": {object: bgp(BGPAdvertisementSpec{})},
		"full": {object: bgp(BGPAdvertisementSpec{AggregationLength: new(int32(24)), AggregationLengthV6: new(int32(64)), LocalPref: math.MaxUint32,
			Communities: []string{"65535:65535", "0:0", "large:4294967295:0:1", "vpn-only"}, Peers: []string{"tor"}, MED: new(uint32(0)), ASPathPrepend: 10, WeightByEndpoints: true})},
		"services of full length": {object: bgp(BGPAdvertisementSpec{AggregationLength: new(int32(32)), ServiceSelectors: make([]metav1.LabelSelector, 1)})},
		"services together":       {object: bgp(BGPAdvertisementSpec{AggregationLength: new(int32(31)), ServiceSelectors: make([]metav1.LabelSelector, 1)}), wrong: "spec.serviceSelectors", message: "aggregationLength at 32"},
		"services together, v6":   {object: bgp(BGPAdvertisementSpec{AggregationLengthV6: new(int32(64)), ServiceSelectors: make([]metav1.LabelSelector, 1)}), wrong: "spec.serviceSelectors"},
		"length 0":                {object: bgp(BGPAdvertisementSpec{AggregationLength: new(int32(0))}), wrong: "spec.aggregationLength"},
		"length 33":               {object: bgp(BGPAdvertisementSpec{AggregationLength: new(int32(33))}), wrong: "spec.aggregationLength", message: "1 to 32"},
		"length 129":              {object: bgp(BGPAdvertisementSpec{AggregationLengthV6: new(int32(129))}), wrong: "spec.aggregationLengthV6"},
		"community too large":     {object: bgp(BGPAdvertisementSpec{Communities: []string{"1:1", "65536:1"}}), wrong: "spec.communities[1]", message: "65535"},
		"community of three":      {object: bgp(BGPAdvertisementSpec{Communities: []string{"1:2:3"}}), wrong: "spec.communities[0]"},
		"large of two":            {object: bgp(BGPAdvertisementSpec{Communities: []string{"large:1:2"}}), wrong: "spec.communities[0]"},
		"large too large":         {object: bgp(BGPAdvertisementSpec{Communities: []string{"large:1:2:4294967296"}}), wrong: "spec.communities[0]"},
		"community with a sign":   {object: bgp(BGPAdvertisementSpec{Communities: []string{"+1:2"}}), wrong: "spec.communities[0]"},
		"community twice":         {object: bgp(BGPAdvertisementSpec{Communities: []string{"1:1", "1:1"}}), wrong: "spec.communities[1]"},
		"too many communities":    {object: bgp(BGPAdvertisementSpec{Communities: many(64, "1:%d")}), wrong: "spec.communities"},
		"peer twice":              {object: bgp(BGPAdvertisementSpec{Peers: []string{"a", "a"}}), wrong: "spec.peers[1]"},
		"prepend":                 {object: bgp(BGPAdvertisementSpec{ASPathPrepend: 11}), wrong: "spec.asPathPrepend"},
		"nodes":                   {object: bgp(BGPAdvertisementSpec{NodeSelectors: []metav1.LabelSelector{badSelector()}}), wrong: "spec.nodeSelectors[0].matchExpressions[0].operator", goOnly: true},

		"profile":           {object: bfd(BFDProfileSpec{})},
		"full profile":      {object: bfd(BFDProfileSpec{ReceiveInterval: new(uint32(10)), TransmitInterval: new(uint32(60000)), DetectMultiplier: new(uint32(2)), EchoInterval: new(uint32(50)), EchoMode: new(false), PassiveMode: new(true), MinimumTTL: new(uint32(254))})},
		"receive":           {object: bfd(BFDProfileSpec{ReceiveInterval: new(uint32(9))}), wrong: "spec.receiveInterval", message: "milliseconds"},
		"transmit":          {object: bfd(BFDProfileSpec{TransmitInterval: new(uint32(60001))}), wrong: "spec.transmitInterval"},
		"multiplier":        {object: bfd(BFDProfileSpec{DetectMultiplier: new(uint32(1))}), wrong: "spec.detectMultiplier"},
		"echo":              {object: bfd(BFDProfileSpec{EchoMode: new(true)}), wrong: "spec.echoMode", message: "GoBGP"},
		"echo interval":     {object: bfd(BFDProfileSpec{EchoInterval: new(uint32(5))}), wrong: "spec.echoInterval"},
		"TTL":               {object: bfd(BFDProfileSpec{MinimumTTL: new(uint32(255))}), wrong: "spec.minimumTtl"},
		"names":             {object: aliases(CommunityAlias{"vpn-only", "1234:1"}, CommunityAlias{"with spaces", "large:1:2:3"})},
		"name of nothing":   {object: aliases(CommunityAlias{"", "1:1"}), wrong: "spec.communities[0].name"},
		"name like a value": {object: aliases(CommunityAlias{"1:1", "1:1"}), wrong: "spec.communities[0].name", message: "colon"},
		"name twice":        {object: aliases(CommunityAlias{"a", "1:1"}, CommunityAlias{"a", "1:2"}), wrong: "spec.communities[1]"},
		"value of a name":   {object: aliases(CommunityAlias{"a", "b"}), wrong: "spec.communities[0].value"},
	} {
		t.Run(name, c.check)
	}
}

// FuzzParseCommunity holds Go and CEL to the same verdict on any text.
func FuzzParseCommunity(f *testing.F) {
	for _, s := range []string{"1:2", "65535:65535", "00001:2", "000001:2", "large:1:2:3", "large:4294967296:1:1", ":", "1:", "large:", "LARGE:1:2:3", "1:2 ", "-1:2", "١:٢"} {
		f.Add(s)
	}
	server := newAPIServer(f, "communities")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 40 {
			return
		}
		n, err := ParseCommunity(text)
		if err == nil && len(n) != 2 && len(n) != 3 {
			t.Fatalf("%q is %v", text, n)
		}
		var errs field.ErrorList = server.validate(aliases(CommunityAlias{"a", text}))
		if (err != nil) != (len(errs) > 0) {
			t.Errorf("%q: Go says %v, the API server %v", text, err, errs)
		}
		if err == nil && len(n) == 2 {
			if again, err := ParseCommunity(fmt.Sprintf("%d:%d", n[0], n[1])); err != nil || again[0] != n[0] || again[1] != n[1] {
				t.Errorf("%q is %v, and then %v", text, n, again)
			}
		}
	})
}
