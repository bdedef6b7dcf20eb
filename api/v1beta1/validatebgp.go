package v1beta1

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The bounds of the durations of a BGPPeer, those of the wire: RFC 4271 section 4.2, RFC 4724 section 3.
const (
	MaxHoldTime    = 65535 * time.Second
	MaxRestartTime = 4095 * time.Second
	MaxDrainWait   = 5 * time.Minute

	minHoldTime  = 3 * time.Second
	maxASPrepend = 10
)

// Validate returns what is wrong with the peer itself, as [IPAddressPool.Validate] does. What schema and CEL cannot say is
// whether the label selectors can be evaluated.
func (p *BGPPeer) Validate() field.ErrorList {
	spec, s := field.NewPath("spec"), &p.Spec
	var errs field.ErrorList
	refuse := func(wrong bool, name string, value any, message string) {
		if wrong {
			errs = append(errs, field.Invalid(spec.Child(name), value, message))
		}
	}
	refuse(s.MyASN == 0, "myASN", s.MyASN, "use 1 to 4294967295")
	refuse((s.PeerASN != 0) == (s.DynamicASN != ""), "peerASN", s.PeerASN, "set exactly one of peerASN and dynamicASN")
	if s.DynamicASN != "" && s.DynamicASN != DynamicInternal && s.DynamicASN != DynamicExternal {
		errs = append(errs, field.NotSupported(spec.Child("dynamicASN"), s.DynamicASN, []string{DynamicInternal, DynamicExternal}))
	}
	refuse(s.LocalASN != 0 && (s.Internal() || s.PeerASN == s.LocalASN), "localASN", s.LocalASN,
		"a local AS is shown to external peers only: peerASN must be neither myASN nor localASN, dynamicASN must be external")
	errs = append(errs, s.validateAddresses(spec)...)
	refuse(s.EBGPMultiHop && s.Internal(), "ebgpMultiHop", true, "counts for external peers only; an internal one may be several hops away without it")
	refuse(s.EBGPMultiHop && s.Interface != "", "ebgpMultiHop", true, "an unnumbered peer is on the link of its interface; delete ebgpMultiHop or interface")
	if s.TTLSecurity != nil {
		refuse(s.EBGPMultiHop, "ebgpMultiHop", true, "ttlSecurity says already how many hops away the peer may be; delete ebgpMultiHop")
		refuse(*s.TTLSecurity != 1 && s.Interface != "", "ttlSecurity", *s.TTLSecurity, "an unnumbered peer is on the link of its interface; use 1")
		refuse(*s.TTLSecurity < 1 || *s.TTLSecurity > 254, "ttlSecurity", *s.TTLSecurity, "use 1 for a peer on the link, at most 254")
	}
	refuse(s.MaxPrefixes != nil && *s.MaxPrefixes == 0, "maxPrefixes", 0, "use 1 or more, or delete it for no limit")
	refuse(len(s.Password) > 80, "password", "", "TCP-MD5 takes at most 80 bytes")
	refuse(s.Password != "" && s.SecretName() != "", "password", "", "set password or passwordSecret, not both")
	errs = append(errs, s.validateTimers(spec)...)
	refuse(s.DisableMP && s.DualStackAddressFamily, "disableMP", true,
		"contradicts dualStackAddressFamily; delete it: without dualStackAddressFamily a session carries the family of its own addresses only")
	refuse(len(s.VRF) > 15, "vrf", s.VRF, "the name of a device has at most 15 bytes")
	return append(errs, validateSelectors(spec.Child("nodeSelectors"), s.NodeSelectors)...)
}

// Internal reports whether the session is internal (iBGP).
func (s *BGPPeerSpec) Internal() bool {
	return s.DynamicASN == DynamicInternal || s.DynamicASN == "" && s.PeerASN == s.MyASN
}

// SecretName is the name in passwordSecret, "" if there is none.
func (s *BGPPeerSpec) SecretName() string {
	if s.PasswordSecret == nil {
		return ""
	}
	return s.PasswordSecret.Name
}

func (s *BGPPeerSpec) validateAddresses(spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	refuse := func(name string, value any, message string) {
		errs = append(errs, field.Invalid(spec.Child(name), value, message))
	}
	if (s.PeerAddress != "") == (s.Interface != "") {
		refuse("peerAddress", s.PeerAddress, "set exactly one of peerAddress and interface")
	}
	peer, err := netip.ParseAddr(s.PeerAddress)
	if s.PeerAddress != "" && (err != nil || !canPeer(peer)) {
		refuse("peerAddress", s.PeerAddress, "must be the address of a host such as 192.0.2.1 or 2001:db8::1; in place of a link-local IPv6 address set interface")
	}
	if len(s.Interface) > 15 {
		refuse("interface", s.Interface, "the name of an interface has at most 15 bytes")
	}
	if s.SourceAddress != "" {
		source, err := netip.ParseAddr(s.SourceAddress)
		switch {
		case err != nil || source.Zone() != "" || source.Is4In6():
			refuse("sourceAddress", s.SourceAddress, "must be an IPv4 or IPv6 address such as 192.0.2.1 or 2001:db8::1")
		case s.Interface != "":
			refuse("sourceAddress", s.SourceAddress, "an unnumbered session starts at the interface's link-local address; delete sourceAddress or interface")
		case peer.IsValid() && peer.Is4() != source.Is4():
			refuse("sourceAddress", s.SourceAddress, "must be of the IP family of peerAddress")
		}
	}
	if id, err := netip.ParseAddr(s.RouterID); s.RouterID != "" && (err != nil || !id.Is4() || id.IsUnspecified()) {
		refuse("routerID", s.RouterID, "must be written as an IPv4 address other than 0.0.0.0, such as 192.0.2.11")
	}
	return errs
}

func canPeer(a netip.Addr) bool {
	return a.Zone() == "" && !a.Is4In6() && (a.IsGlobalUnicast() || a.IsLoopback() || a.IsLinkLocalUnicast() && a.Is4())
}

func (s *BGPPeerSpec) validateTimers(spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	check := func(name string, d *metav1.Duration, least, most time.Duration, whole bool, message string) {
		if d != nil && (d.Duration < least || d.Duration > most || whole && d.Duration%time.Second != 0) {
			errs = append(errs, field.Invalid(spec.Child(name), d.Duration.String(), message))
		}
	}
	const hold = "must be 0s or a whole number of seconds from 3s to 65535s; write it like 9s or 90s"
	check("holdTime", s.HoldTime, 0, MaxHoldTime, true, hold)
	if s.HoldTime != nil && s.HoldTime.Duration > 0 && s.HoldTime.Duration < minHoldTime && s.HoldTime.Duration%time.Second == 0 {
		errs = append(errs, field.Invalid(spec.Child("holdTime"), s.HoldTime.Duration.String(), hold))
	}
	check("keepaliveTime", s.KeepaliveTime, 0, MaxHoldTime/3, true, "must be a whole number of seconds from 0s to 21845s; write it like 3s or 30s")
	if k := s.KeepaliveTime; k != nil {
		switch {
		case s.HoldTime != nil && k.Duration > s.HoldTime.Duration:
			errs = append(errs, field.Invalid(spec.Child("keepaliveTime"), k.Duration.String(), "must not exceed holdTime"))
		case k.Duration == 0 && (s.HoldTime == nil || s.HoldTime.Duration != 0):
			errs = append(errs, field.Invalid(spec.Child("keepaliveTime"), "0s", "never to send anything needs a holdTime of 0s"))
		}
	}
	check("connectTime", s.ConnectTime, time.Second, MaxHoldTime, true, "must be a whole number of seconds from 1s to 65535s; write it like 5s")
	check("restartTime", s.RestartTime, time.Second, MaxRestartTime, true, "must be a whole number of seconds from 1s to 4095s; write it like 120s")
	if s.RestartTime != nil && !s.EnableGracefulRestart {
		errs = append(errs, field.Invalid(spec.Child("restartTime"), s.RestartTime.Duration.String(), "counts with enableGracefulRestart only; set that to true or delete restartTime"))
	}
	check("drainWait", s.DrainWait, 0, MaxDrainWait, false, "must be a duration from 0s to 5m; write it like 500ms or 10s")
	return errs
}

// Validate returns what is wrong with the advertisement itself, as [IPAddressPool.Validate] does. What schema and CEL cannot
// say is whether the label selectors can be evaluated.
func (a *BGPAdvertisement) Validate() field.ErrorList {
	spec, s := field.NewPath("spec"), &a.Spec
	var errs field.ErrorList
	length := func(name string, n *int32, most int32) bool {
		if n != nil && (*n < 1 || *n > most) {
			errs = append(errs, field.Invalid(spec.Child(name), *n, fmt.Sprintf("use 1 to %d", most)))
		}
		return n == nil || *n == most
	}
	full, full6 := length("aggregationLength", s.AggregationLength, 32), length("aggregationLengthV6", s.AggregationLengthV6, 128)
	if len(s.ServiceSelectors) > 0 && !(full && full6) {
		errs = append(errs, field.Invalid(spec.Child("serviceSelectors"), fmt.Sprintf("%d selectors", len(s.ServiceSelectors)),
			"one prefix would stand for Services that match and others that do not; delete serviceSelectors, or leave aggregationLength at 32 and aggregationLengthV6 at 128"))
	}
	errs = append(errs, validateNames(spec.Child("communities"), s.Communities, 63, 253)...)
	for i, text := range s.Communities {
		if !strings.Contains(text, ":") {
			continue
		}
		if _, err := ParseCommunity(text); err != nil {
			errs = append(errs, field.Invalid(spec.Child("communities").Index(i), text,
				"must be a:b with numbers up to 65535, large:a:b:c with numbers up to 4294967295, or a name without colons from a Community object"))
		}
	}
	if s.ASPathPrepend > maxASPrepend {
		errs = append(errs, field.Invalid(spec.Child("asPathPrepend"), s.ASPathPrepend, "use 0 to 10"))
	}
	errs = append(errs, validateNames(spec.Child("ipAddressPools"), s.IPAddressPools, 256, 253)...)
	errs = append(errs, validateSelectors(spec.Child("ipAddressPoolSelectors"), s.IPAddressPoolSelectors)...)
	errs = append(errs, validateSelectors(spec.Child("nodeSelectors"), s.NodeSelectors)...)
	errs = append(errs, validateSelectors(spec.Child("serviceSelectors"), s.ServiceSelectors)...)
	return append(errs, validateNames(spec.Child("peers"), s.Peers, 64, 253)...)
}

// Validate returns what is wrong with the profile, as schema and CEL do.
func (p *BFDProfile) Validate() field.ErrorList {
	spec, s := field.NewPath("spec"), &p.Spec
	var errs field.ErrorList
	between := func(name string, n *uint32, least, most uint32, unit string) {
		if n != nil && (*n < least || *n > most) {
			errs = append(errs, field.Invalid(spec.Child(name), *n, fmt.Sprintf("use %d to %d%s", least, most, unit)))
		}
	}
	between("receiveInterval", s.ReceiveInterval, 10, 60000, " milliseconds")
	between("transmitInterval", s.TransmitInterval, 10, 60000, " milliseconds")
	between("detectMultiplier", s.DetectMultiplier, 2, 255, "")
	between("echoInterval", s.EchoInterval, 10, 60000, " milliseconds")
	between("minimumTtl", s.MinimumTTL, 1, 254, "")
	if s.EchoMode != nil && *s.EchoMode {
		errs = append(errs, field.Invalid(spec.Child("echoMode"), true,
			"there is no echo function (RFC 5880 section 6.4): GoBGP has no BFD at all, and ours, beside it, does not send echo packets; delete echoMode and set shorter receiveInterval and transmitInterval"))
	}
	return errs
}

// Validate returns what is wrong with the names and values, as schema and CEL do.
func (c *Community) Validate() field.ErrorList {
	path := field.NewPath("spec", "communities")
	var errs field.ErrorList
	if n := len(c.Spec.Communities); n > maxAliases {
		errs = append(errs, field.TooMany(path, n, maxAliases))
	}
	seen := map[string]bool{}
	for i, alias := range c.Spec.Communities {
		name := path.Index(i).Child("name")
		switch {
		case alias.Name == "":
			errs = append(errs, field.Invalid(name, alias.Name, "is empty; delete the entry or name it"))
		case len(alias.Name) > 253:
			errs = append(errs, field.TooLong(name, alias.Name, 253))
		case strings.Contains(alias.Name, ":"):
			errs = append(errs, field.Invalid(name, alias.Name, "must not contain a colon, by which values are told from names"))
		case seen[alias.Name]:
			errs = append(errs, field.Duplicate(path.Index(i), alias.Name))
		}
		seen[alias.Name] = true
		if _, err := ParseCommunity(alias.Value); err != nil {
			errs = append(errs, field.Invalid(path.Index(i).Child("value"), alias.Value, err.Error()))
		}
	}
	return errs
}

const maxAliases = 256
