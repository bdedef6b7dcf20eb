package speaker

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

func TestTheBusiestServicesHaveSeriesOfTheirOwn(t *testing.T) {
	listener := func(s string) datapath.Listener {
		return datapath.Listener{Addr: netip.MustParseAddrPort(s), Protocol: lb.TCP}
	}
	a, b, c := listener("192.0.2.1:80"), listener("192.0.2.2:80"), listener("192.0.2.3:80")
	servers := []*datapath.VirtualServer{
		{Listener: a, Service: lb.ServiceKey{Namespace: "shop", Name: "a"}},
		{Listener: b, Service: lb.ServiceKey{Namespace: "shop", Name: "b"}},
		{Listener: c, Service: lb.ServiceKey{Namespace: "shop", Name: "c"}},
	}
	counts := []datapath.Count{{Listener: a, Conns: 1, Bytes: 10}, {Listener: a, Conns: 2, Bytes: 20}, {Listener: b, Conns: 9, Bytes: 5},
		{Listener: c, Conns: 1, Bytes: 1}, {Listener: listener("192.0.2.9:80"), Conns: 100}}
	for limit, want := range map[int][]serviceTraffic{
		3: {{"shop/b", 9, 5}, {"shop/a", 3, 30}, {"shop/c", 1, 1}},
		1: {{"shop/b", 9, 5}, {otherServices, 4, 31}},
	} {
		if d := cmp.Diff(want, perService(counts, servers, limit), cmp.AllowUnexported(serviceTraffic{})); d != "" {
			t.Errorf("limit %d (-want +got):\n%s", limit, d)
		}
	}
}

func TestDifferencesNameWhatTheKernelLacks(t *testing.T) {
	one := datapath.VirtualServer{Listener: datapath.Listener{Addr: netip.MustParseAddrPort("192.0.2.1:80"), Protocol: lb.TCP}, Verdict: datapath.Forward}
	two := one
	two.Listener.Addr = netip.MustParseAddrPort("192.0.2.2:80")
	changed := one
	changed.Verdict = datapath.Drop
	want := datapath.State{Servers: []*datapath.VirtualServer{&one, &two}}
	got := differences(want, datapath.State{Servers: []*datapath.VirtualServer{&changed}})
	if len(got) != 2 || got[1] != "192.0.2.2:80/TCP is missing" {
		t.Errorf("differences: %q", got)
	}
	if got := differences(want, want); got != nil {
		t.Errorf("differences of what is equal: %q", got)
	}
}
