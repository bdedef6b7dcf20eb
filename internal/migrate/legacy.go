package migrate

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/internal/manifest"
)

// legacyPool is a pool from before MetalLB 0.13, when it said itself how it is announced. The names of the fields are those
// of the kind AddressPool; those of the ConfigMap are translated.
type legacyPool struct {
	Protocol          string                `json:"protocol"`
	Addresses         []string              `json:"addresses"`
	AutoAssign        *bool                 `json:"autoAssign"`
	AvoidBuggyIPs     bool                  `json:"avoidBuggyIPs"`
	BGPAdvertisements []legacyAdvertisement `json:"bgpAdvertisements"`
}

type legacyAdvertisement struct {
	AggregationLength   *int32   `json:"aggregationLength"`
	AggregationLengthV6 *int32   `json:"aggregationLengthV6"`
	LocalPref           uint32   `json:"localPref"`
	Communities         []string `json:"communities"`
}

// addressPool converts an object of the kind AddressPool.
func (m *migration) addressPool(o manifest.Object) {
	var in struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              legacyPool     `json:"spec"`
		Status            map[string]any `json:"status"`
	}
	if wrong := o.Decode(&in); len(wrong) > 0 {
		m.refuse(wrong)
		return
	}
	m.pool(o, o.GetName(), in.Spec)
}

// pool converts a pool of whichever origin into an IPAddressPool and its advertisements.
func (m *migration) pool(from manifest.Object, name string, in legacyPool) {
	pool := &v1beta1.IPAddressPool{Spec: v1beta1.IPAddressPoolSpec{Addresses: in.Addresses, AutoAssign: in.AutoAssign, AvoidBuggyIPs: in.AvoidBuggyIPs}}
	m.head(pool, "IPAddressPool", name)
	if from.Group() == Group {
		m.metadata(from, pool)
	}
	var ads []Object
	switch in.Protocol {
	case "layer2":
		if len(in.BGPAdvertisements) > 0 {
			m.note(Refused, "spec.bgpAdvertisements", "of pool %s says how it is announced by BGP, but its protocol is layer2; delete it or change the protocol. The pool was left out", name)
			return
		}
		ads = append(ads, m.named("L2Advertisement", name, &v1beta1.L2Advertisement{Spec: v1beta1.L2AdvertisementSpec{IPAddressPools: []string{name}}}))
	case "bgp":
		if len(in.BGPAdvertisements) == 0 {
			in.BGPAdvertisements = make([]legacyAdvertisement, 1)
		}
		for i, a := range in.BGPAdvertisements {
			of := name
			if i > 0 {
				of = fmt.Sprintf("%s-%d", name, i+1)
			}
			ads = append(ads, m.named("BGPAdvertisement", of, &v1beta1.BGPAdvertisement{Spec: v1beta1.BGPAdvertisementSpec{
				IPAddressPools: []string{name}, AggregationLength: a.AggregationLength, AggregationLengthV6: a.AggregationLengthV6,
				LocalPref: a.LocalPref, Communities: a.Communities}}))
		}
	default:
		m.note(Refused, "spec.protocol", "of pool %s is %q, neither layer2 nor bgp; the pool was left out", name, in.Protocol)
		return
	}
	if !m.write(pool) {
		return
	}
	var titles []string
	for _, ad := range ads {
		if m.write(ad) {
			titles = append(titles, kindOf(ad)+" "+ad.GetName())
		}
	}
	m.note(Changed, "", "pool %s becomes IPAddressPool %s with %s", name, name, strings.Join(titles, ", "))
}

func (m *migration) named(kind, name string, o Object) Object {
	m.head(o, kind, name)
	return o
}

// legacyConfig is the configuration from before MetalLB 0.13, the key config of a ConfigMap.
type legacyConfig struct {
	Peers       []configPeer      `json:"peers"`
	Communities map[string]string `json:"bgp-communities"`
	Pools       []configPool      `json:"address-pools"`
	Profiles    []configProfile   `json:"bfd-profiles"`
}

type configPool struct {
	Name              string                `json:"name"`
	Protocol          string                `json:"protocol"`
	Addresses         []string              `json:"addresses"`
	AutoAssign        *bool                 `json:"auto-assign"`
	AvoidBuggyIPs     bool                  `json:"avoid-buggy-ips"`
	BGPAdvertisements []configAdvertisement `json:"bgp-advertisements"`
}

type configAdvertisement struct {
	AggregationLength   *int32   `json:"aggregation-length"`
	AggregationLengthV6 *int32   `json:"aggregation-length-v6"`
	LocalPref           uint32   `json:"localpref"`
	Communities         []string `json:"communities"`
}

type configPeer struct {
	MyASN         uint32           `json:"my-asn"`
	PeerASN       uint32           `json:"peer-asn"`
	PeerAddress   string           `json:"peer-address"`
	SourceAddress string           `json:"source-address"`
	PeerPort      uint16           `json:"peer-port"`
	HoldTime      string           `json:"hold-time"`
	KeepaliveTime string           `json:"keepalive-time"`
	RouterID      string           `json:"router-id"`
	NodeSelectors []configSelector `json:"node-selectors"`
	Password      string           `json:"password"`
	BFDProfile    string           `json:"bfd-profile"`
	EBGPMultiHop  bool             `json:"ebgp-multihop"`
}

type configSelector struct {
	MatchLabels      map[string]string                 `json:"match-labels"`
	MatchExpressions []metav1.LabelSelectorRequirement `json:"match-expressions"`
}

type configProfile struct {
	Name             string  `json:"name"`
	ReceiveInterval  *uint32 `json:"receive-interval"`
	TransmitInterval *uint32 `json:"transmit-interval"`
	DetectMultiplier *uint32 `json:"detect-multiplier"`
	EchoInterval     *uint32 `json:"echo-interval"`
	EchoMode         *bool   `json:"echo-mode"`
	PassiveMode      *bool   `json:"passive-mode"`
	MinimumTTL       *uint32 `json:"minimum-ttl"`
}

// configMap converts the legacy configuration, and says what becomes of MetalLB's other ConfigMaps.
func (m *migration) configMap(o manifest.Object) {
	var in struct {
		Data map[string]string `json:"data"`
	}
	o.Decode(&in) // what is unknown in it is metadata
	text, legacy := in.Data["config"]
	switch {
	case o.GetName() == "bgpextras" || in.Data["extras"] != "":
		m.note(Refused, "data.extras", "are lines for FRR, which Fairlead does not use; say in BGPPeers and BGPAdvertisements what they did")
		return
	case in.Data["excludel2.yaml"] != "":
		m.note(Ignored, "", "a speaker of Fairlead announces an address on those interfaces only whose subnet holds it; to leave others out, list interfaces in the L2Advertisement")
		return
	case !legacy:
		m.note(Ignored, "", "it is no configuration of MetalLB")
		return
	}
	var c legacyConfig
	if wrong := manifest.DecodeText([]byte(text), &c); len(wrong) > 0 {
		for _, e := range wrong {
			m.note(Refused, strings.TrimSuffix("data.config: "+e.Field, ": "), "%s; nothing of the configuration was converted; correct or delete it", e.Message)
		}
		return
	}
	if len(c.Pools)+len(c.Profiles)+len(c.Communities)+len(c.Peers) == 0 {
		m.note(Ignored, "data.config", "it says nothing")
	}
	m.config(o, c)
}

func (m *migration) config(o manifest.Object, c legacyConfig) {
	for _, p := range c.Pools {
		m.configPool(o, p)
	}
	for i, p := range c.Profiles {
		out := m.named("BFDProfile", m.validName("BFD profile", fmt.Sprintf("data.config: bfd-profiles[%d].name", i), p.Name), &v1beta1.BFDProfile{Spec: v1beta1.BFDProfileSpec{
			ReceiveInterval: p.ReceiveInterval, TransmitInterval: p.TransmitInterval, DetectMultiplier: p.DetectMultiplier,
			EchoInterval: p.EchoInterval, EchoMode: p.EchoMode, PassiveMode: p.PassiveMode, MinimumTTL: p.MinimumTTL}})
		m.profile(o, out)
		m.becomes("BFD profile "+p.Name, out)
	}
	if len(c.Communities) > 0 {
		out := &v1beta1.Community{}
		for _, name := range slices.Sorted(maps.Keys(c.Communities)) {
			out.Spec.Communities = append(out.Spec.Communities, v1beta1.CommunityAlias{Name: name, Value: c.Communities[name]})
		}
		m.becomes("bgp-communities", m.named("Community", "communities", out))
	}
	for i, p := range c.Peers {
		m.configPeer(i, p)
	}
}

// becomes writes o and says from what it is.
func (m *migration) becomes(what string, o Object) {
	if m.write(o) {
		m.note(Changed, "", "%s becomes %s %s", what, kindOf(o), o.GetName())
	}
}

func (m *migration) configPool(o manifest.Object, p configPool) {
	out := legacyPool{Protocol: p.Protocol, Addresses: p.Addresses, AutoAssign: p.AutoAssign, AvoidBuggyIPs: p.AvoidBuggyIPs}
	for _, a := range p.BGPAdvertisements {
		out.BGPAdvertisements = append(out.BGPAdvertisements, legacyAdvertisement(a))
	}
	m.pool(o, m.validName("pool", "data.config: address-pools.name", p.Name), out)
}

func (m *migration) configPeer(i int, p configPeer) {
	out := &v1beta1.BGPPeer{Spec: v1beta1.BGPPeerSpec{MyASN: p.MyASN, PeerASN: p.PeerASN, PeerAddress: p.PeerAddress, SourceAddress: p.SourceAddress,
		PeerPort: p.PeerPort, RouterID: p.RouterID, Password: p.Password, BFDProfile: validName(p.BFDProfile), EBGPMultiHop: p.EBGPMultiHop}}
	for _, t := range []struct {
		name, text string
		into       **metav1.Duration
	}{{"hold-time", p.HoldTime, &out.Spec.HoldTime}, {"keepalive-time", p.KeepaliveTime, &out.Spec.KeepaliveTime}} {
		if t.text == "" {
			continue
		}
		d, err := time.ParseDuration(t.text)
		if err != nil {
			m.note(Refused, fmt.Sprintf("data.config: peers[%d].%s", i, t.name), "%q is no duration; write it like 90s. The peer was left out", t.text)
			return
		}
		*t.into = &metav1.Duration{Duration: d}
	}
	for _, s := range p.NodeSelectors {
		out.Spec.NodeSelectors = append(out.Spec.NodeSelectors, metav1.LabelSelector(s))
	}
	m.becomes(fmt.Sprintf("peer %s", p.PeerAddress), m.named("BGPPeer", fmt.Sprintf("peer-%d", i+1), out))
}

// validName returns a name that Kubernetes takes, and says so if it is another one.
func (m *migration) validName(what, at, name string) string {
	valid := validName(name)
	if valid != name {
		m.note(Changed, at, "%s %q is now called %q, since objects have such names; change what names it, such as the annotation address-pool of Services", what, name, valid)
	}
	return valid
}

// validName turns a name into one of an object: what is in no such name becomes a hyphen.
func validName(name string) string {
	if name == "" || len(validation.IsDNS1123Subdomain(name)) == 0 {
		return name
	}
	out := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
	if out = strings.Trim(out, "-."); out == "" || len(validation.IsDNS1123Subdomain(out)) > 0 {
		return "pool"
	}
	return out
}
