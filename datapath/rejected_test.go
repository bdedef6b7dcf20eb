package datapath_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// TestServesOutside: what a load balancer outside may be told of a Service whose servers the kernel holds so far.
func TestServesOutside(t *testing.T) {
	keep := func(s *datapath.State, f func(*datapath.VirtualServer) bool) {
		s.Servers = slices.DeleteFunc(slices.Clone(s.Servers), func(v *datapath.VirtualServer) bool { return !f(v) })
	}
	atClusterIP := func(v *datapath.VirtualServer) bool { return v.Addr.Addr() == netip.MustParseAddr(cip) }
	atNodePort := func(s *datapath.State) {
		keep(s, func(v *datapath.VirtualServer) bool { return v.NodePort() && !v.Inside })
	}
	insideOnly := shop(local, func(s *lb.Service) {
		s.Ports[0].NodePort, s.ExternalIPs, s.Ingress[0].Mode = 0, nil, lb.ModeProxy
	})
	foreign := full(insideOnly, here)
	foreign.Services, foreign.Others = nil, foreign.Services
	for name, tc := range map[string]struct {
		wanted lb.Snapshot
		change func(*datapath.State)
		want   bool
	}{
		"all of it":                           {full(shop(local), here), nil, true},
		"nothing yet":                         {full(shop(local), here), func(s *datapath.State) { *s = datapath.State{} }, false},
		"endpoints elsewhere only":            {full(shop(local), there), nil, false},
		"the ClusterIP where nothing else is": {full(shop(local), there), func(s *datapath.State) { keep(s, atClusterIP) }, true},
		"no address for the outside":          {foreign, nil, true},
		"that of another Service by then":     {full(shop(local), here), func(s *datapath.State) { s.Servers = rename(s.Servers) }, false},
		"something that the kernel refuses":   {full(shop(local), here), func(s *datapath.State) { *s = lacking(*s) }, false},
		"a scheduler that the kernel lacks": {full(shop(local), here), func(s *datapath.State) {
			s.Refused = []datapath.Refused{datapath.SchedulerMissing(shop().Key, "lc")}
		}, true},
		"node port only":                       {full(shop(local), here), atNodePort, true},
		"node port only, no endpoint here":     {full(shop(local), there), atNodePort, false},
		"node port at each address of n1":      {full(shop(local), here), func(s *datapath.State) { atNodePort(s); move(s, node) }, true},
		"node port at an address of elsewhere": {full(shop(local), here), func(s *datapath.State) { atNodePort(s); move(s, "192.0.2.12") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			state := datapath.Desired(tc.wanted)
			if tc.change != nil {
				tc.change(&state)
			}
			svc := slices.Concat(tc.wanted.Services, tc.wanted.Others)[0]
			if got := state.ServesOutside(&svc, lb.IPv4, tc.wanted.Addrs); got != tc.want {
				t.Errorf("%v, want %v, by\n%s", got, tc.want, state)
			}
			if state.ServesOutside(&svc, lb.IPv6, tc.wanted.Addrs) {
				t.Errorf("serves IPv6, by\n%s", state)
			}
		})
	}
}

// rename gives the servers to another Service.
func rename(servers []*datapath.VirtualServer) (out []*datapath.VirtualServer) {
	for _, v := range servers {
		other := *v
		other.Service.Name = "another"
		out = append(out, &other)
	}
	return out
}

// move puts the servers at another address.
func move(s *datapath.State, addr string) {
	for i, v := range s.Servers {
		at := *v
		at.Addr = netip.AddrPortFrom(netip.MustParseAddr(addr), v.Addr.Port())
		s.Servers[i] = &at
	}
}

// lacking returns what is reached where the kernel does not take the last server.
func lacking(s datapath.State) datapath.State {
	r := datapath.Rejected{{Server: *s.Servers[len(s.Servers)-1], Err: errors.New("no memory")}}
	return s.Without(r).Lacking(nil, r)
}
