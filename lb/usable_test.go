package lb_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead-lb/fairlead/lb"
)

// ep makes an endpoint on node whose state is spelled in letters: r ready, s serving, t terminating.
func ep(addr, node, state string) lb.Endpoint {
	e := lb.Endpoint{Protocol: lb.TCP, Addr: netip.MustParseAddrPort(addr + ":80"), Node: lb.NodeName(node)}
	for _, c := range state {
		switch c {
		case 'r':
			e.Ready = true
		case 's':
			e.Serving = true
		case 't':
			e.Terminating = true
		}
	}
	return e
}

func addrs(eps []lb.Endpoint) []string {
	var out []string
	for _, e := range eps {
		out = append(out, e.Addr.Addr().String())
	}
	return out
}

func TestUsable(t *testing.T) {
	for name, tc := range map[string]struct {
		endpoints []lb.Endpoint
		policy    lb.TrafficPolicy
		want      []string
	}{
		"S11 ready ones only": {
			[]lb.Endpoint{ep("10.0.0.1", "n1", "rs"), ep("10.0.0.2", "n2", ""), ep("10.0.0.3", "n2", "st")}, lb.Cluster, []string{"10.0.0.1"}},
		"S11 none ready: serving and terminating": {
			[]lb.Endpoint{ep("10.0.0.1", "n1", ""), ep("10.0.0.3", "n2", "st")}, lb.Cluster, []string{"10.0.0.3"}},
		"S12 Local ignores other nodes": {
			[]lb.Endpoint{ep("10.0.0.1", "n1", "rs"), ep("10.0.0.2", "n2", "rs")}, lb.Local, []string{"10.0.0.1"}},
		"S12 Local falls back although another node is ready": {
			[]lb.Endpoint{ep("10.0.0.1", "n1", "st"), ep("10.0.0.2", "n2", "rs")}, lb.Local, []string{"10.0.0.1"}},
		"S13 terminating and not serving is never used": {
			[]lb.Endpoint{ep("10.0.0.1", "n1", "t")}, lb.Cluster, nil},
		"S13 serving alone is not enough": {
			[]lb.Endpoint{ep("10.0.0.1", "n1", "s")}, lb.Cluster, nil},
		"S16 ready wins over terminating (publishNotReadyAddresses)": {
			[]lb.Endpoint{ep("10.0.0.1", "n1", "rt")}, lb.Cluster, []string{"10.0.0.1"}},
		"none": {nil, lb.Cluster, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := addrs(lb.Usable(tc.endpoints, tc.policy, "n1"))
			if d := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("usable endpoints (-want +got):\n%s", d)
			}
		})
	}
}

func TestOfPortMatchesNameAndProtocol(t *testing.T) {
	tcp, udp := ep("10.0.0.1", "n1", "r"), ep("10.0.0.1", "n1", "r")
	tcp.PortName, udp.PortName, udp.Protocol = "dns", "dns", lb.UDP
	got := lb.OfPort([]lb.Endpoint{tcp, udp}, lb.Port{Name: "dns", Protocol: lb.UDP, Port: 53})
	if d := cmp.Diff([]lb.Endpoint{udp}, got, cmp.Comparer(func(a, b lb.Endpoint) bool { return a == b })); d != "" {
		t.Errorf("endpoints of dns/UDP (-want +got):\n%s", d)
	}
}

func TestSelector(t *testing.T) {
	labels := map[string]string{"app": "shop", "tier": "web"}
	for name, tc := range map[string]struct {
		selector lb.Selector
		want     bool
	}{
		"empty matches all":         {nil, true},
		"In":                        {lb.Selector{{Key: "app", Op: lb.In, Values: []string{"shop", "bank"}}}, true},
		"In, other value":           {lb.Selector{{Key: "app", Op: lb.In, Values: []string{"bank"}}}, false},
		"In, absent":                {lb.Selector{{Key: "zone", Op: lb.In, Values: []string{"a"}}}, false},
		"NotIn, absent":             {lb.Selector{{Key: "zone", Op: lb.NotIn, Values: []string{"a"}}}, true},
		"NotIn, present":            {lb.Selector{{Key: "app", Op: lb.NotIn, Values: []string{"shop"}}}, false},
		"Exists":                    {lb.Selector{{Key: "tier", Op: lb.Exists}}, true},
		"DoesNotExist":              {lb.Selector{{Key: "tier", Op: lb.DoesNotExist}}, false},
		"all requirements must fit": {lb.Selector{{Key: "app", Op: lb.Exists}, {Key: "zone", Op: lb.Exists}}, false},
		"unknown operator":          {lb.Selector{{Key: "app", Op: "Near"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.selector.Matches(labels); got != tc.want {
				t.Errorf("Matches = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestPoolAdmits(t *testing.T) {
	web := lb.Service{
		Key:             lb.ServiceKey{Namespace: "shop", Name: "web"},
		Labels:          map[string]string{"app": "web"},
		NamespaceLabels: map[string]string{"team": "shop"},
	}
	team := lb.Selector{{Key: "team", Op: lb.In, Values: []string{"shop"}}}
	other := lb.Selector{{Key: "app", Op: lb.In, Values: []string{"db"}}}
	for name, tc := range map[string]struct {
		pool lb.Pool
		want bool
	}{
		"no restriction":                     {lb.Pool{}, true},
		"namespace by name":                  {lb.Pool{Namespaces: []string{"shop"}}, true},
		"another namespace":                  {lb.Pool{Namespaces: []string{"bank"}}, false},
		"name fails, selector fits":          {lb.Pool{Namespaces: []string{"bank"}, NamespaceSelector: []lb.Selector{team}}, true},
		"namespace fits, service does not":   {lb.Pool{Namespaces: []string{"shop"}, ServiceSelectors: []lb.Selector{other}}, false},
		"service selectors are alternatives": {lb.Pool{ServiceSelectors: []lb.Selector{other, {}}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.pool.Admits(web); got != tc.want {
				t.Errorf("Admits = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestL2AdvertisementCovers(t *testing.T) {
	pool := lb.Pool{Name: "public", Labels: map[string]string{"net": "dmz"}}
	svc := lb.Service{Labels: map[string]string{"app": "web"}}
	dmz := lb.Selector{{Key: "net", Op: lb.In, Values: []string{"dmz"}}}
	for name, tc := range map[string]struct {
		ad   lb.L2Advertisement
		want bool
	}{
		"everything":            {lb.L2Advertisement{}, true},
		"by name":               {lb.L2Advertisement{Pools: []string{"public"}}, true},
		"by pool label":         {lb.L2Advertisement{Pools: []string{"other"}, PoolSelectors: []lb.Selector{dmz}}, true},
		"another pool":          {lb.L2Advertisement{Pools: []string{"other"}}, false},
		"pool fits, svc doesnt": {lb.L2Advertisement{ServiceSelectors: []lb.Selector{dmz}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.ad.Covers(pool, svc); got != tc.want {
				t.Errorf("Covers = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestRangeContainsOnlyItsFamily(t *testing.T) {
	r := lb.Range{From: netip.MustParseAddr("192.0.2.10"), To: netip.MustParseAddr("192.0.2.20")}
	for addr, want := range map[string]bool{"192.0.2.10": true, "192.0.2.20": true, "192.0.2.21": false, "::ffff:192.0.2.15": false, "2001:db8::1": false} {
		if got := r.Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s contains %s = %v, want %v", r, addr, got, want)
		}
	}
}
