package explain

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/internal/view"
	"github.com/fairlead-lb/fairlead/lb"
)

// directly has every node serve the Service of facts by direct server return; its pods are on n1 and n2.
func directly(f *Facts) {
	for node, s := range f.Speakers {
		first := view.Server{Listener: "192.0.2.200:80/TCP", Service: "shop/web", Scheduler: datapath.Maglev, Direct: true}
		second := view.Server{Listener: "192.0.2.200:80/TCP tunnelled", Service: "shop/web", Scheduler: datapath.Maglev, Tunnelled: true}
		for pod, on := range map[string]lb.NodeName{"10.244.0.1:8080": "n1", "10.244.0.2:8080": "n2"} {
			d := view.Destination{Addr: netip.MustParseAddrPort(pod), Weight: 1, Method: string(datapath.Tunnel), Conns: 2}
			if on == node {
				d.Method = string(datapath.NAT)
				second.Destinations = append(second.Destinations, d)
			}
			first.Destinations = append(first.Destinations, d)
		}
		s.Datapath.Servers = []view.Server{first}
		if len(second.Destinations) > 0 {
			s.Datapath.Servers = append(s.Datapath.Servers, second)
		}
		f.Speakers[node] = s
	}
}

func TestBothTiersAreShown(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(f *Facts)
		want string
		says []string
	}{
		{"nobody asks for it", func(*Facts) {}, well, nil},
		{"all is well", directly, well + "; dsr yes", []string{
			"tier 1, n1: 192.0.2.200:80/TCP chooses by mh, 1 pods here, and through tunnels 1 to n2; 4 connections",
			"tier 1, n3: 192.0.2.200:80/TCP chooses by mh, 0 pods here, and through tunnels 1 to n1, 1 to n2; 4 connections",
			"tier 2, n2: what other nodes tunnel for 192.0.2.200:80/TCP goes to 1 pods here",
		}},
		{"a tunnel is blocked", func(f *Facts) {
			s := f.Speakers["n1"]
			s.Datapath.LeftOut = []view.LeftOut{{Service: "shop/web", Reason: lb.DSRUnavailable, Message: "node n2 cannot take part"}, {Service: "shop/other", Reason: lb.DSRUnavailable}}
			s.Datapath.NoTunnel = []view.NoTunnel{{Node: "n2", Reason: lb.TunnelBlocked, Message: "packets of IP protocol 4 are not answered"}, {Node: "n9", Reason: lb.TunnelBlocked, Message: "elsewhere"}}
			f.Speakers["n1"] = s
		}, well + "; dsr no DSRUnavailable", []string{"tunnel n1 to n2: TunnelBlocked: packets of IP protocol 4", "n1: node n2 cannot take part"}},
		{"not known yet", func(f *Facts) {
			directly(f)
			for node, ways := range map[lb.NodeName][]view.Tunnel{
				"n3": {{Node: "n1", Host: netip.MustParseAddr("192.0.2.11")}, {Node: "n2", ToHost: "passes", ToPod: "passes"}},
				"n2": {{Node: "n1", Host: netip.MustParseAddr("192.0.2.11"), ToHost: "passes"}},
			} {
				s := f.Speakers[node]
				s.Datapath.Tunnels = ways
				f.Speakers[node] = s
			}
		}, well + "; dsr yes", []string{"tunnel n3 to n1 (192.0.2.11): no answer yet", "tunnel n2 to n1 (192.0.2.11): its datapath takes nothing yet"}},
	} {
		f := facts(t, objects())
		tc.edit(f)
		c := f.Service(lb.ServiceKey{Namespace: "shop", Name: "web"})[0]
		if got := verdicts(c); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
		evidence := strings.Join(c.Steps[len(c.Steps)-1].Evidence, "\n")
		for _, want := range tc.says {
			if !strings.Contains(evidence, want) {
				t.Errorf("%s: %q is not in\n%s", tc.name, want, evidence)
			}
		}
		for _, no := range []string{"elsewhere", "shop/other", "n3 to n2"} {
			if strings.Contains(evidence, no) {
				t.Errorf("%s: %q is in\n%s", tc.name, no, evidence)
			}
		}
		if cause := c.Cause(); cause != nil && cause.Next == "" {
			t.Errorf("%s: nothing says what to do", tc.name)
		}
	}
}
