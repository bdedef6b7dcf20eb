package datapath

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead-lb/fairlead/lb"
)

func TestNodePortsOnly(t *testing.T) {
	list := func(texts ...string) (out []netip.Addr) {
		for _, text := range texts {
			out = append(out, netip.MustParseAddr(text))
		}
		return out
	}
	ranges := func(texts ...string) (out []netip.Prefix) {
		for _, text := range texts {
			out = append(out, netip.MustParsePrefix(text))
		}
		return out
	}
	for name, tt := range map[string]struct {
		rules lb.Forwarding
		want  []netip.Addr
	}{
		"no restriction":          {lb.Forwarding{Full: true}, nil},
		"ranges of IPv4":          {lb.Forwarding{Full: true, NodePorts: ranges("192.0.2.0/24")}, list("192.0.2.11")},
		"ranges of both":          {lb.Forwarding{Full: true, NodePorts: ranges("198.51.100.0/24", "2001:db8::/32")}, list("198.51.100.11", "2001:db8::11")},
		"the Node's own":          {lb.Forwarding{Full: true, NodePortsPrimary: true}, list("192.0.2.11", "2001:db8::11")},
		"a range that holds none": {lb.Forwarding{Full: true, NodePorts: ranges("203.0.113.0/24")}, nil},
	} {
		s := lb.Snapshot{Self: "n1", Forwarding: tt.rules, Addrs: list("127.0.0.1", "192.0.2.11", "198.51.100.11", "2001:db8::11"),
			Nodes: map[lb.NodeName]lb.Node{"n1": {Name: "n1", Addrs: list("192.0.2.11", "2001:db8::11")}}}
		if got := NodePortsOnly(s); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}
