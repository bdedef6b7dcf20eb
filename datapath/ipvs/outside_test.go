package ipvs

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// TestServesOutside: a Service with node ports alone, policy Local, is served for the outside once a Sync has brought it about, also by an engine
// that finds in the kernel what an earlier one left, of which the kernel does not tell whose it is.
func TestServesOutside(t *testing.T) {
	host := netip.MustParseAddr("192.0.2.11")
	svc := lb.Service{Key: lb.ServiceKey{Namespace: "shop", Name: "web"}, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
		ExternalTrafficPolicy: lb.Local, Ports: []lb.Port{{Name: "http", Protocol: lb.TCP, Port: 80, NodePort: 30080}}}
	wanted := func(at lb.NodeName) datapath.State {
		s := lb.Snapshot{Self: "n1", Forwards: true, Forwarding: lb.Forwarding{Full: true}, Others: []lb.Service{svc}, Addrs: []netip.Addr{host},
			Nodes: map[lb.NodeName]lb.Node{"n1": {Name: "n1", Addrs: []netip.Addr{host}}}}
		s.Endpoints.Set(svc.Key, []lb.Endpoint{{PortName: "http", Protocol: lb.TCP, Addr: netip.MustParseAddrPort("10.0.1.1:8080"), Node: at, Ready: true, Serving: true}})
		return datapath.Desired(s)
	}
	n := &node{}
	e := n.engine()
	failing := func() error { return errors.New("operation not permitted") }
	for _, step := range []struct {
		name   string
		new    bool
		refuse func() error
		at     lb.NodeName
		want   bool
	}{
		{"an engine that fails", true, failing, "n1", false},
		{"and works", false, nil, "n1", true},
		{"the endpoint is elsewhere", false, nil, "n2", false},
		{"it is here again", false, nil, "n1", true},
		{"nothing is new", false, nil, "n1", true},
		{"the engine fails later on", false, failing, "n1", true},
		{"another engine, which fails", true, failing, "n1", false},
		{"and works", false, nil, "n1", true},
	} {
		if step.new {
			e = n.engine()
		}
		n.refuse = step.refuse
		reached, err := e.Sync(context.Background(), wanted(step.at), t0)
		if (err != nil) != (step.refuse != nil) {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := reached.ServesOutside(&svc, lb.IPv4, []netip.Addr{host}); got != step.want {
			t.Errorf("%s: %v, want %v; reached\n%s", step.name, got, step.want, reached)
		}
	}
}
