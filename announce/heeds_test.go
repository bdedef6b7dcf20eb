package announce

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/fairlead-lb/fairlead/lb"
)

// TestWhatIsNotHeededChangesNoDecision gives two Services that share an address random endpoints again and again.
func TestWhatIsNotHeededChangesNoDecision(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	coin := func() bool { return dice.IntN(2) == 0 }
	random := func() (list []lb.Endpoint) {
		for i := range dice.IntN(4) {
			e := endpoint([]lb.NodeName{"n1", "n2", "n3"}[dice.IntN(3)], coin(), coin())
			e.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 1, byte(i)}), 8080)
			e.Serving = coin()
			if dice.IntN(4) == 0 {
				e.PortName = "another"
			}
			list = append(list, e)
		}
		slices.SortFunc(list, lb.Endpoint.Compare)
		return list
	}
	heeded := map[bool]int{}
	for range 2000 {
		s := routed()
		s.L2 = three().L2
		s.BGP[0].Weighted = true
		s.Services = []lb.Service{service(dns, lb.Cluster, vip), service(web, lb.Cluster, vip, vip2)}
		for i := range s.Services {
			if coin() {
				s.Services[i].ExternalTrafficPolicy = lb.Local
			}
		}
		claim([]lb.NodeName{"n1", "n2"}[dice.IntN(2)], 3)(&s)
		s.Endpoints.Set(dns, random())
		s.Endpoints.Set(web, random())
		before, was := Plan(s), s.Endpoints.Of(web)
		s.Endpoints.Set(web, random())
		heeds := Heeds(&s.Services[1], was, s.Endpoints.Of(web))
		heeded[heeds]++
		if now := Plan(s); !heeds && !reflect.DeepEqual(before, now) {
			t.Fatalf("policy %s, endpoints\n%+v\nand\n%+v:\n%v\n%v", s.Services[1].ExternalTrafficPolicy, was, s.Endpoints.Of(web), before, now)
		}
	}
	if heeded[true] < 200 || heeded[false] < 200 {
		t.Errorf("heeded and not: %v", heeded)
	}
}
