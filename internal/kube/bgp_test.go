package kube

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

func seconds(n int) *metav1.Duration {
	return &metav1.Duration{Duration: time.Duration(n) * time.Second}
}

func testPeer(name string, edit func(*v1beta1.BGPPeerSpec)) *v1beta1.BGPPeer {
	p := &v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: name},
		Spec: v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: 64513, PeerAddress: "192.0.2.1"}}
	edit(&p.Spec)
	return p
}

func TestBGPPeer(t *testing.T) {
	fast := lb.BFDProfile{Receive: 50 * time.Millisecond, Transmit: 50 * time.Millisecond, Multiplier: 3, MinTTL: 254}
	plain := func(edit func(*lb.BGPPeer)) lb.BGPPeer {
		p := lb.BGPPeer{Name: "tor", Addr: addr("192.0.2.1"), Port: 179, MyASN: 64512, PeerASN: 64513, HoldTime: 90 * time.Second, Keepalive: 30 * time.Second,
			ConnectRetry: time.Second, DrainWait: 5 * time.Second}
		edit(&p)
		return p
	}
	for name, c := range map[string]struct {
		edit   func(*v1beta1.BGPPeerSpec)
		want   lb.BGPPeer
		reason lb.Reason
	}{
		"plain": {func(s *v1beta1.BGPPeerSpec) {}, plain(func(p *lb.BGPPeer) {}), ""},
		"internal": {func(s *v1beta1.BGPPeerSpec) { s.PeerASN, s.DynamicASN = 0, "internal" },
			plain(func(p *lb.BGPPeer) { p.PeerASN, p.Internal = 64512, true }), ""},
		"any external": {func(s *v1beta1.BGPPeerSpec) { s.PeerASN, s.DynamicASN = 0, "external" }, plain(func(p *lb.BGPPeer) { p.PeerASN = 0 }), ""},
		"local AS":     {func(s *v1beta1.BGPPeerSpec) { s.LocalASN = 65000 }, plain(func(p *lb.BGPPeer) { p.MyASN = 65000 }), ""},
		"unnumbered": {func(s *v1beta1.BGPPeerSpec) { s.PeerAddress, s.Interface = "", "eth1" },
			plain(func(p *lb.BGPPeer) { p.Addr, p.Interface, p.DualStack = lb.BGPPeer{}.Addr, "eth1", true }), ""},
		"keepalive alone": {func(s *v1beta1.BGPPeerSpec) { s.KeepaliveTime = seconds(3) },
			plain(func(p *lb.BGPPeer) { p.HoldTime, p.Keepalive = 9*time.Second, 3*time.Second }), ""},
		"hold alone": {func(s *v1beta1.BGPPeerSpec) { s.HoldTime = seconds(10) },
			plain(func(p *lb.BGPPeer) { p.HoldTime, p.Keepalive = 10*time.Second, 3*time.Second }), ""},
		"for ever": {func(s *v1beta1.BGPPeerSpec) { s.HoldTime = seconds(0) }, plain(func(p *lb.BGPPeer) { p.HoldTime, p.Keepalive = 0, 0 }), ""},
		"restart": {func(s *v1beta1.BGPPeerSpec) { s.EnableGracefulRestart = true },
			plain(func(p *lb.BGPPeer) { p.GracefulRestart, p.RestartTime = true, 120*time.Second }), ""},
		"everything": {func(s *v1beta1.BGPPeerSpec) {
			s.PeerPort, s.SourceAddress, s.VRF, s.RouterID, s.ConnectTime, s.DrainWait = 1790, "192.0.2.11", "red", "10.0.0.1", seconds(7), seconds(0)
			s.TTLSecurity, s.MaxPrefixes, s.Password, s.BFDProfile, s.DualStackAddressFamily = ptr(uint8(2)), ptr(uint32(9)), "secret", "fast", true
		}, plain(func(p *lb.BGPPeer) {
			p.Port, p.Source, p.VRF, p.RouterID, p.ConnectRetry, p.DrainWait = 1790, addr("192.0.2.11"), "red", addr("10.0.0.1"), 7*time.Second, 0
			p.TTLSecurity, p.MaxPrefixes, p.Password, p.BFD, p.DualStack = 2, 9, "secret", &fast, true
		}), ""},
		"unknown profile": {func(s *v1beta1.BGPPeerSpec) { s.BFDProfile = "slow" }, plain(func(p *lb.BGPPeer) {}), lb.UnknownBFDProfile},
	} {
		t.Run(name, func(t *testing.T) {
			got, refusal := BGPPeer(testPeer("tor", c.edit), map[string]lb.BFDProfile{"fast": fast})
			if diff := cmp.Diff(c.want, got, compareAddrs); diff != "" || refusal.Reason != c.reason {
				t.Errorf("refusal %v, want %q (-want +got):\n%s", refusal, c.reason, diff)
			}
		})
	}
	got, refusal := BGPPeer(testPeer("tor", func(s *v1beta1.BGPPeerSpec) { s.HoldTime = seconds(1) }), nil)
	if refusal.Reason != lb.InvalidSpec || got.Unusable != refusal || got.MyASN != 0 {
		t.Errorf("a peer with a wrong field is %+v, %v", got, refusal)
	}
}

func TestBFDProfile(t *testing.T) {
	got, refusal := BFDProfile(&v1beta1.BFDProfile{})
	if want := (lb.BFDProfile{Receive: 300 * time.Millisecond, Transmit: 300 * time.Millisecond, Multiplier: 3, MinTTL: 254}); got != want || !refusal.OK() {
		t.Errorf("an empty profile is %+v, %v", got, refusal)
	}
	got, refusal = BFDProfile(&v1beta1.BFDProfile{Spec: v1beta1.BFDProfileSpec{ReceiveInterval: ptr(uint32(50)), TransmitInterval: ptr(uint32(60)), DetectMultiplier: ptr(uint32(5)),
		PassiveMode: ptr(true), MinimumTTL: ptr(uint32(250)), EchoMode: ptr(false), EchoInterval: ptr(uint32(70))}})
	if want := (lb.BFDProfile{Receive: 50 * time.Millisecond, Transmit: 60 * time.Millisecond, Multiplier: 5, Passive: true, MinTTL: 250}); got != want || !refusal.OK() {
		t.Errorf("a full profile is %+v, %v", got, refusal)
	}
	got, refusal = BFDProfile(&v1beta1.BFDProfile{Spec: v1beta1.BFDProfileSpec{DetectMultiplier: ptr(uint32(1)), EchoMode: ptr(true)}})
	if got.Multiplier != 3 || refusal.Reason != lb.InvalidSpec || !strings.Contains(refusal.Message, "echoMode") {
		t.Errorf("a wrong profile is %+v, %v", got, refusal)
	}
}

func testCommunity(name string, pairs ...string) v1beta1.Community {
	c := v1beta1.Community{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: name}}
	for i := 0; i < len(pairs); i += 2 {
		c.Spec.Communities = append(c.Spec.Communities, v1beta1.CommunityAlias{Name: pairs[i], Value: pairs[i+1]})
	}
	return c
}

func TestBGPAdvertisement(t *testing.T) {
	aliases, wrong := Aliases(&v1beta1.CommunityList{Items: []v1beta1.Community{
		testCommunity("b", "no-export", "65535:65281", "vpn", "1:9"), testCommunity("a", "vpn", "large:1:2:3", "odd", "x")}})
	if diff := cmp.Diff(map[string][]uint32{"no-export": {65535, 65281}, "vpn": {1, 2, 3}}, aliases); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if wrong["a"].Reason != lb.InvalidSpec || !strings.Contains(wrong["b"].Message, `Community "a"`) {
		t.Errorf("objects: %v", wrong)
	}
	a := &v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: v1beta1.BGPAdvertisementSpec{
		AggregationLength: ptr(int32(24)), LocalPref: 200, Communities: []string{"no-export", "7:8", "vpn", "65535:65281", "large:1:1:1", "nobody"},
		IPAddressPools: []string{"p"}, Peers: []string{"tor"}, MED: ptr(uint32(5)), ASPathPrepend: 2, WeightByEndpoints: true}}
	got, refusal := BGPAdvertisement(a, aliases)
	want := lb.BGPAdvertisement{Name: "a", Pools: []string{"p"}, Peers: []string{"tor"}, Length: 24, LengthV6: 128, LocalPref: 200, MED: ptr(uint32(5)), Prepend: 2, Weighted: true,
		Communities: []uint32{7<<16 | 8, 65535<<16 | 65281}, Large: [][3]uint32{{1, 1, 1}, {1, 2, 3}}}
	if diff := cmp.Diff(want, got); diff != "" || refusal.Reason != lb.UnknownCommunity || !strings.Contains(refusal.Message, "communities[5]") {
		t.Errorf("refusal %v (-want +got):\n%s", refusal, diff)
	}
	a.Spec.ServiceSelectors, a.Spec.Communities = make([]metav1.LabelSelector, 1), []string{"1:2:3"}
	if got, refusal = BGPAdvertisement(a, aliases); got.Length != 32 || len(got.Communities) > 0 || refusal.Reason != lb.InvalidSpec {
		t.Errorf("stored before the rules: %+v, %v", got, refusal)
	}
}

func testSecret(name string, kind corev1.SecretType, password string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: name}, Type: kind, Data: map[string][]byte{"username": []byte("x"), "password": []byte(password)}}
}

func TestFactsOfBGP(t *testing.T) {
	secret := func(name, namespace string) func(*v1beta1.BGPPeerSpec) {
		return func(s *v1beta1.BGPPeerSpec) {
			s.PasswordSecret = &v1beta1.SecretReference{Name: name, Namespace: namespace}
		}
	}
	vpn := testCommunity("c", "vpn", "1:2")
	r := NewReader(newFake(
		testPeer("good", secret("good", home)), testPeer("absent", secret("absent", "")), testPeer("opaque", secret("opaque", "")), testPeer("long", secret("long", "")),
		testPeer("away", secret("good", "default")), testPeer("open", func(s *v1beta1.BGPPeerSpec) { s.BFDProfile = "fast" }),
		testSecret("good", corev1.SecretTypeBasicAuth, "hush"), testSecret("opaque", corev1.SecretTypeOpaque, "hush"), testSecret("long", corev1.SecretTypeBasicAuth, strings.Repeat("x", 81)),
		&v1beta1.BFDProfile{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "fast"}, Spec: v1beta1.BFDProfileSpec{TransmitInterval: ptr(uint32(20))}},
		&v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "z"}, Spec: v1beta1.BGPAdvertisementSpec{Communities: []string{"vpn"}}},
		&v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "a"}}, &vpn,
	), Options{Namespace: home})
	f, err := r.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range f.BGPPeers {
		got = append(got, p.Name+" "+p.Password+" "+string(p.Unusable.Reason))
		if p.Unusable.OK() != (p.Unusable.Message == "") {
			t.Errorf("%s: %v", p.Name, p.Unusable)
		}
	}
	want := []string{"absent  PasswordUnavailable", "away  PasswordUnavailable", "good hush ", "long  PasswordUnavailable", "opaque  PasswordUnavailable", "open  "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("peers (-want +got):\n%s", diff)
	}
	if p := f.BGPPeers[5]; p.BFD == nil || p.BFD.Transmit != 20*time.Millisecond {
		t.Errorf("BFD is %+v", p.BFD)
	}
	if len(f.BGP) != 2 || f.BGP[0].Name != "a" || !cmp.Equal(f.BGP[1].Communities, []uint32{1<<16 | 2}) {
		t.Errorf("advertisements: %+v", f.BGP)
	}
}

// A Secret in the cache keeps nothing but the password.
func TestSlimSecret(t *testing.T) {
	s := testSecret("tor", corev1.SecretTypeBasicAuth, "hush")
	if _, err := slim(s); err != nil || !cmp.Equal(s.Data, map[string][]byte{"password": []byte("hush")}) {
		t.Errorf("%v, %v", s.Data, err)
	}
}

func TestConditionsOfBGP(t *testing.T) {
	here := func(o client.Object) client.Object { o.SetNamespace(home); return o }
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "default", Name: name} }
	first, second := testCommunity("first", "vpn", "1:2"), testCommunity("second", "vpn", "1:3")
	c, api, recorder := newTestCluster(
		testPeer("good", func(s *v1beta1.BGPPeerSpec) { s.BFDProfile = "fast" }), testPeer("blind", func(s *v1beta1.BGPPeerSpec) { s.BFDProfile = "astray" }),
		testPeer("wrong", func(s *v1beta1.BGPPeerSpec) { s.MyASN = 0 }),
		here(&v1beta1.BFDProfile{ObjectMeta: named("fast")}), &v1beta1.BFDProfile{ObjectMeta: named("astray")},
		here(&v1beta1.BGPAdvertisement{ObjectMeta: named("good"), Spec: v1beta1.BGPAdvertisementSpec{Communities: []string{"vpn"}}}),
		here(&v1beta1.BGPAdvertisement{ObjectMeta: named("lost"), Spec: v1beta1.BGPAdvertisementSpec{Communities: []string{"nothing"}}}), &first, &second,
	)
	if err := c.WritePools(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, list := range []client.ObjectList{&v1beta1.BGPPeerList{}, &v1beta1.BGPAdvertisementList{}, &v1beta1.BFDProfileList{}, &v1beta1.CommunityList{}} {
		if err := api.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		add := func(kind, name string, conditions []metav1.Condition) {
			got[kind+" "+name] = meta.FindStatusCondition(conditions, ConditionReady).Reason
		}
		switch l := list.(type) {
		case *v1beta1.BGPPeerList:
			for _, o := range l.Items {
				add("peer", o.Name, o.Status.Conditions)
			}
		case *v1beta1.BGPAdvertisementList:
			for _, o := range l.Items {
				add("advertisement", o.Name, o.Status.Conditions)
			}
		case *v1beta1.BFDProfileList:
			for _, o := range l.Items {
				add("profile", o.Name, o.Status.Conditions)
			}
		case *v1beta1.CommunityList:
			for _, o := range l.Items {
				add("community", o.Name, o.Status.Conditions)
			}
		}
	}
	want := map[string]string{"peer good": "Ready", "peer blind": "UnknownBFDProfile", "peer wrong": "InvalidSpec", "profile fast": "Ready", "profile astray": "WrongNamespace",
		"advertisement good": "Ready", "advertisement lost": "UnknownCommunity", "community first": "Ready", "community second": "InvalidSpec"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(recorded(recorder)); n != 5 {
		t.Errorf("%d events, want one for each that is not ready", n)
	}
	if err := c.WritePools(t.Context(), nil); err != nil || len(recorded(recorder)) > 0 {
		t.Errorf("again: %v, or events", err)
	}
}
