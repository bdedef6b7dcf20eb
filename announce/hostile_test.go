package announce

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// TestHostileService: with 20,000 ports and 10 endpoints behind each, which all terminate but the last one, a plan costs a look at every record, not
// one for each port.
func TestHostileService(t *testing.T) {
	s := routed()
	s.L2 = three().L2
	s.BGP[0].Weighted = true
	svc := service(web, lb.Local, vip)
	svc.Ports = nil
	var list []lb.Endpoint
	for p := range 20000 {
		port := lb.Port{Name: fmt.Sprintf("p%05d", p), Protocol: lb.TCP, Port: uint16(1 + p)}
		svc.Ports = append(svc.Ports, port)
		for i := range 10 {
			last := p == 19999 && i == 9
			e := endpoint([]lb.NodeName{"n1", "n2", "n3"}[(p+i)%3], last, !last)
			e.PortName, e.Addr = port.Name, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 1, byte(i)}), port.Port)
			list = append(list, e)
		}
	}
	s.Services = []lb.Service{svc}
	s.Endpoints.Set(web, list)
	start := time.Now()
	decisions := Plan(s)
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("took %s", took)
	}
	for _, d := range decisions {
		if d.Announce || d.Reason != lb.NoLocalEndpoint {
			t.Errorf("%s, want NoLocalEndpoint: the ready one is on n2", d)
		}
	}
	if len(decisions) != 2 {
		t.Errorf("%d decisions, want one for layer 2 and one for BGP", len(decisions))
	}
}
