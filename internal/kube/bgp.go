package kube

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

// What counts where a BGPPeer or a BFDProfile says nothing. The times are RFC 4271's (section 10), but for connectTime, which is short
// so that a session is back soon, and FRR's for BFD.
const (
	defaultPeerPort    = 179
	defaultHoldTime    = 90 * time.Second
	defaultConnectTime = time.Second
	defaultRestartTime = 120 * time.Second
	defaultDrainWait   = 5 * time.Second

	defaultBFDInterval   = 300 // milliseconds
	defaultBFDMultiplier = 3
	defaultBFDMinTTL     = 254
)

// BGPPeer converts p. The refusal says what is wrong with the object and what it names among the profiles; the peer is Unusable
// only where its own spec is wrong. One whose profile is missing is not watched by BFD. The password of a passwordSecret is
// not filled in.
func BGPPeer(p *v1beta1.BGPPeer, profiles map[string]lb.BFDProfile) (lb.BGPPeer, lb.Refusal) {
	s := &p.Spec
	if r := invalid(p.Validate()); !r.OK() {
		return lb.BGPPeer{Name: p.Name, NodeSelectors: selectors(s.NodeSelectors), Unusable: r}, r
	}
	out := lb.BGPPeer{
		Name: p.Name, NodeSelectors: selectors(s.NodeSelectors), Addr: parseValid(s.PeerAddress), Interface: s.Interface,
		Port: s.PeerPort, VRF: s.VRF, Source: parseValid(s.SourceAddress), MyASN: s.MyASN, PeerASN: s.PeerASN, Internal: s.Internal(),
		RouterID: parseValid(s.RouterID), DualStack: s.DualStackAddressFamily || s.Interface != "", HoldTime: defaultHoldTime,
		ConnectRetry: duration(s.ConnectTime, defaultConnectTime), Password: s.Password, MultiHop: s.EBGPMultiHop,
		GracefulRestart: s.EnableGracefulRestart, DrainWait: duration(s.DrainWait, defaultDrainWait),
	}
	if out.Port == 0 {
		out.Port = defaultPeerPort
	}
	if s.LocalASN != 0 {
		out.MyASN = s.LocalASN
	}
	if out.Internal {
		out.PeerASN = s.MyASN
	}
	switch {
	case s.HoldTime != nil:
		out.HoldTime = s.HoldTime.Duration
	case s.KeepaliveTime != nil:
		out.HoldTime = max(3*s.KeepaliveTime.Duration, 3*time.Second)
	}
	out.Keepalive = duration(s.KeepaliveTime, (out.HoldTime / 3).Truncate(time.Second))
	if s.TTLSecurity != nil {
		out.TTLSecurity = *s.TTLSecurity
	}
	if s.MaxPrefixes != nil {
		out.MaxPrefixes = *s.MaxPrefixes
	}
	if s.EnableGracefulRestart {
		out.RestartTime = duration(s.RestartTime, defaultRestartTime)
	}
	if s.BFDProfile == "" {
		return out, lb.Refusal{}
	}
	profile, ok := profiles[s.BFDProfile]
	if !ok {
		return out, lb.Refusal{Reason: lb.UnknownBFDProfile,
			Message: fmt.Sprintf("spec.bfdProfile is %q, but there is no such BFDProfile: the peer is not watched; create it or correct the name", s.BFDProfile)}
	}
	out.BFD = &profile
	return out, lb.Refusal{}
}

// parseValid reads an address that has been validated, or "".
func parseValid(text string) netip.Addr {
	addr, _ := netip.ParseAddr(text)
	return addr
}

func duration(d *metav1.Duration, otherwise time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	return d.Duration
}

// BFDProfile converts p. A value that is out of its range is the default.
func BFDProfile(p *v1beta1.BFDProfile) (lb.BFDProfile, lb.Refusal) {
	s := &p.Spec
	pick := func(n *uint32, least, most, otherwise uint32) uint32 {
		if n == nil || *n < least || *n > most {
			return otherwise
		}
		return *n
	}
	return lb.BFDProfile{
		Receive:    time.Duration(pick(s.ReceiveInterval, 10, 60000, defaultBFDInterval)) * time.Millisecond,
		Transmit:   time.Duration(pick(s.TransmitInterval, 10, 60000, defaultBFDInterval)) * time.Millisecond,
		Multiplier: uint8(pick(s.DetectMultiplier, 2, 255, defaultBFDMultiplier)),
		Passive:    s.PassiveMode != nil && *s.PassiveMode,
		MinTTL:     uint8(pick(s.MinimumTTL, 1, 254, defaultBFDMinTTL)),
	}, invalid(p.Validate())
}

// Aliases returns the values of all names, and, by object, what is wrong with it. Of two objects with the same name for
// different values the first by its own name has it.
func Aliases(list *v1beta1.CommunityList) (map[string][]uint32, map[string]lb.Refusal) {
	sorted := slices.Clone(list.Items)
	slices.SortFunc(sorted, func(a, b v1beta1.Community) int { return strings.Compare(a.Name, b.Name) })
	values, owner, refusals := map[string][]uint32{}, map[string]string{}, map[string]lb.Refusal{}
	for i := range sorted {
		c := &sorted[i]
		refusals[c.Name] = invalid(c.Validate())
		for j, alias := range c.Spec.Communities {
			value, err := v1beta1.ParseCommunity(alias.Value)
			if err != nil || strings.Contains(alias.Name, ":") {
				continue
			}
			if had, ok := values[alias.Name]; ok && owner[alias.Name] != c.Name {
				if !slices.Equal(had, value) && refusals[c.Name].OK() {
					refusals[c.Name] = lb.Refusal{Reason: lb.InvalidSpec, Message: fmt.Sprintf(
						"spec.communities[%d].name is %q, which Community %q has too, for another value; that one counts: rename one of them", j, alias.Name, owner[alias.Name])}
				}
				continue
			}
			values[alias.Name], owner[alias.Name] = value, c.Name
		}
	}
	return values, refusals
}

// BGPAdvertisement converts a, as [Pool] does: a community that cannot be read, or is a name without a value, is left out.
func BGPAdvertisement(a *v1beta1.BGPAdvertisement, aliases map[string][]uint32) (lb.BGPAdvertisement, lb.Refusal) {
	s := &a.Spec
	out := lb.BGPAdvertisement{
		Name: a.Name, Pools: s.IPAddressPools, PoolSelectors: selectors(s.IPAddressPoolSelectors), NodeSelectors: selectors(s.NodeSelectors),
		ServiceSelectors: selectors(s.ServiceSelectors), Peers: s.Peers, Length: length(s.AggregationLength, 32), LengthV6: length(s.AggregationLengthV6, 128),
		LocalPref: s.LocalPref, MED: s.MED, Prepend: min(s.ASPathPrepend, 10), Weighted: s.WeightByEndpoints,
	}
	if len(out.ServiceSelectors) > 0 {
		out.Length, out.LengthV6 = 32, 128
	}
	refusal := invalid(a.Validate())
	for i, text := range s.Communities {
		value, err := v1beta1.ParseCommunity(text)
		if !strings.Contains(text, ":") {
			value = aliases[text]
			if value == nil && refusal.OK() {
				refusal = lb.Refusal{Reason: lb.UnknownCommunity, Message: fmt.Sprintf(
					"spec.communities[%d] is %q, but no Community object has that name: the paths go without it; define it or correct the name", i, text)}
			}
		} else if err != nil {
			continue
		}
		switch len(value) {
		case 2:
			out.Communities = append(out.Communities, value[0]<<16|value[1])
		case 3:
			out.Large = append(out.Large, [3]uint32(value))
		}
	}
	slices.Sort(out.Communities)
	out.Communities = slices.Compact(out.Communities)
	slices.SortFunc(out.Large, func(a, b [3]uint32) int { return slices.Compare(a[:], b[:]) })
	out.Large = slices.Compact(out.Large)
	return out, refusal
}

// length is the configured one, or that of a single address where it is out of range.
func length(n *int32, full int) int {
	if n == nil || *n < 1 || int(*n) > full {
		return full
	}
	return int(*n)
}

// bgp reads what there is to announce by BGP, and the peers with their passwords.
func (r *Reader) bgp(ctx context.Context) ([]lb.BGPAdvertisement, []lb.BGPPeer, error) {
	var advertisements v1beta1.BGPAdvertisementList
	var peers v1beta1.BGPPeerList
	var profiles v1beta1.BFDProfileList
	var communities v1beta1.CommunityList
	for _, list := range []client.ObjectList{&advertisements, &peers, &profiles, &communities} {
		if err := r.list(ctx, list, client.InNamespace(r.opts.Namespace)); err != nil {
			return nil, nil, err
		}
	}
	aliases, _ := Aliases(&communities) // the controller reports what is wrong with the objects
	ads := make([]lb.BGPAdvertisement, 0, len(advertisements.Items))
	for i := range advertisements.Items {
		a, _ := BGPAdvertisement(&advertisements.Items[i], aliases)
		ads = append(ads, a)
	}
	slices.SortFunc(ads, func(a, b lb.BGPAdvertisement) int { return strings.Compare(a.Name, b.Name) })
	byName := convertProfiles(&profiles)
	out := make([]lb.BGPPeer, 0, len(peers.Items))
	for i := range peers.Items {
		p, _ := BGPPeer(&peers.Items[i], byName)
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b lb.BGPPeer) int { return strings.Compare(a.Name, b.Name) })
	return ads, out, r.passwords(ctx, &peers, out)
}

func convertProfiles(list *v1beta1.BFDProfileList) map[string]lb.BFDProfile {
	out := map[string]lb.BFDProfile{}
	for i := range list.Items {
		out[list.Items[i].Name], _ = BFDProfile(&list.Items[i])
	}
	return out
}

// passwords fills in what the Secrets hold. A peer whose Secret gives none is unusable: without its password it would answer
// nothing, and to try it without one would be noise in its log.
func (r *Reader) passwords(ctx context.Context, objects *v1beta1.BGPPeerList, peers []lb.BGPPeer) error {
	references := map[string]*v1beta1.SecretReference{}
	for i := range objects.Items {
		if p := &objects.Items[i]; p.Spec.SecretName() != "" {
			references[p.Name] = p.Spec.PasswordSecret
		}
	}
	if len(references) == 0 {
		return nil
	}
	var secrets corev1.SecretList
	if err := r.list(ctx, &secrets, client.InNamespace(r.opts.Namespace)); err != nil {
		return err
	}
	for i := range peers {
		p := &peers[i]
		ref := references[p.Name]
		if ref == nil || !p.Unusable.OK() {
			continue
		}
		var why string
		if p.Password, why = passwordOf(ref, secrets.Items, r.opts.Namespace); why != "" {
			p.Unusable = lb.Refusal{Reason: lb.PasswordUnavailable, Message: why}
		}
	}
	return nil
}

// passwordOf returns the password that ref names, or why there is none.
func passwordOf(ref *v1beta1.SecretReference, secrets []corev1.Secret, namespace string) (password, why string) {
	if ref.Namespace != "" && ref.Namespace != namespace {
		return "", fmt.Sprintf("spec.passwordSecret.namespace is %q, but Fairlead reads Secrets of %q only; create it there and delete the field", ref.Namespace, namespace)
	}
	i := slices.IndexFunc(secrets, func(s corev1.Secret) bool { return s.Name == ref.Name })
	if i < 0 || secrets[i].Type != corev1.SecretTypeBasicAuth {
		return "", fmt.Sprintf("spec.passwordSecret names Secret %q, but there is none of type %s in namespace %q; create it, or correct the name", ref.Name, corev1.SecretTypeBasicAuth, namespace)
	}
	value := secrets[i].Data[corev1.BasicAuthPasswordKey]
	if len(value) == 0 || len(value) > 80 {
		return "", fmt.Sprintf("the key %s of Secret %q has %d bytes; TCP-MD5 takes 1 to 80", corev1.BasicAuthPasswordKey, ref.Name, len(value))
	}
	return string(value), ""
}
