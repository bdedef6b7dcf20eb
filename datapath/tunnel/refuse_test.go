package tunnel

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead-lb/fairlead/lb"
)

func TestRefusals(t *testing.T) {
	four := Peer{Node: "n2", Self: host(1), Host: host(2), Asked: true}
	six := Peer{Node: "n2", Self: addr("2001:db8::1"), Host: addr("2001:db8::2"), Asked: true}
	overlay := addr("10.244.1.0")
	for _, tc := range []struct {
		name    string
		results []Result
		want    lb.Reason // for n2
		says    string
	}{
		{"nothing is known", []Result{{Peer: four}}, "", ""},
		{"all is well", []Result{{Peer: four, ToHost: Passes, ToPod: Passes}}, "", ""},
		{"no pod is known", []Result{{Peer: four, ToHost: Passes}}, "", ""},
		{"blocked, no pod is known", []Result{{Peer: four, ToHost: Blocked}}, lb.TunnelBlocked, "protocol 4 to node n2 (192.0.2.2)"},
		{"declined, no pod is known", []Result{{Peer: four, ToHost: Declined}}, lb.TunnelDeclined, "node n2"},
		{"blocked", []Result{{Peer: four, ToHost: Blocked, ToPod: Blocked}}, lb.TunnelBlocked, "protocol 4 to node n2 (192.0.2.2)"},
		{"blocked one way", []Result{{Peer: four, ToHost: Blocked, ToPod: Blocked, Heard: true}}, lb.TunnelBlocked, "its own arrive here"},
		{"IPv6 blocked", []Result{{Peer: four, ToHost: Passes, ToPod: Passes}, {Peer: six, ToHost: Blocked, ToPod: Blocked}}, lb.TunnelBlocked, "protocol 41 to node n2 (2001:db8::2)"},
		{"pods shut", []Result{{Peer: four, ToHost: Passes, ToPod: Blocked, Source: host(1)}}, lb.TunnelBlockedToPods, "its pod 10.244.0.2"},
		{"source not known", []Result{{Peer: four, ToHost: Passes, ToPod: Blocked}}, lb.TunnelBlockedToPods, ""},
		{"overlay", []Result{{Peer: four, ToHost: Passes, ToPod: Blocked, Source: overlay}}, lb.TunnelSource, "10.244.1.0"},
		{"an overlay that works", []Result{{Peer: four, ToHost: Passes, ToPod: Passes, Source: overlay}}, "", ""},
		{"declined", []Result{{Peer: four, ToHost: Passes, ToPod: Declined}}, lb.TunnelDeclined, "node n2"},
	} {
		for i := range tc.results {
			tc.results[i].Pod = pod(2)
		}
		got := Refusals(tc.results, []netip.Addr{host(1)})
		r := got["n2"]
		if r.Reason != tc.want || !strings.Contains(r.Message, tc.says) || (tc.want == "") != (len(got) == 0) {
			t.Errorf("%s: %v, want %q with %q", tc.name, got, tc.want, tc.says)
		}
		if strings.HasSuffix(r.Message, ".") {
			t.Errorf("%s: %q is a whole sentence; it follows \"because\"", tc.name, r.Message)
		}
	}
}

func TestLacks(t *testing.T) {
	for _, tc := range []struct {
		engine  string
		modules []string
		want    lb.Reason
		says    string
	}{
		{"ipvs", nil, "", ""},
		{"nft", nil, lb.EngineWithoutTunnel, "engine is nft"},
		{"nft", []string{"ipip"}, lb.EngineWithoutTunnel, "datapath.engine to ipvs"},
		{"ipvs", []string{"ipip", "ip_vs_mh"}, lb.TunnelModules, "ipip, ip_vs_mh"},
	} {
		if got := Lacks(tc.engine, tc.modules); got.Reason != tc.want || !strings.Contains(got.Message, tc.says) {
			t.Errorf("%s without %v: %v, want %q with %q", tc.engine, tc.modules, got, tc.want, tc.says)
		}
	}
}
