package healthnodeport

import (
	"fmt"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// TestHostileService: with 20,000 ports and 10 endpoints behind each, a count costs a look at every endpoint, not one for each port.
func TestHostileService(t *testing.T) {
	var svc lb.Service
	var list []lb.Endpoint
	for p := range 20000 {
		port := lb.Port{Name: fmt.Sprintf("p%05d", p), Protocol: lb.TCP, Port: uint16(1 + p)}
		svc.Ports = append(svc.Ports, port)
		for i := range 10 {
			list = append(list, endpoint(fmt.Sprintf("10.244.1.%d:%d", i, port.Port), func(e *lb.Endpoint) { e.PortName = port.Name }))
		}
	}
	start := time.Now()
	if got := localEndpoints(svc, list, lb.IPv4, "n1"); got != 10 {
		t.Errorf("%d endpoints, want 10", got)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %s", took)
	}
}
