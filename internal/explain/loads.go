package explain

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/lb"
)

// Holder is an address and who has it.
type Holder struct {
	Address  netip.Addr `json:"address"`
	Services []string   `json:"services"`
}

// Holders returns who has the addresses of a pool, sorted by address.
func (f *Facts) Holders(pool string) ([]Holder, error) {
	if !slices.ContainsFunc(f.Kube.Pools, func(p lb.Pool) bool { return p.Name == pool }) {
		return nil, fmt.Errorf("looking at pool %s: there is no such IPAddressPool", pool)
	}
	by := map[netip.Addr][]string{}
	for _, s := range f.Kube.Services {
		for _, addr := range s.Addrs() {
			if f.poolOf(addr) == pool {
				by[addr] = append(by[addr], s.Key.String())
			}
		}
	}
	out := []Holder{}
	for _, addr := range slices.SortedFunc(maps.Keys(by), netip.Addr.Compare) {
		out = append(out, Holder{addr, by[addr]})
	}
	return out, nil
}

// Load is how busy a Service is.
type Load struct {
	Service     string `json:"service"`
	Connections int    `json:"connections"` // on all nodes together, as far as their kernels count them
	Pods        int    `json:"pods"`        // that get new connections
	Nodes       int    `json:"nodes"`       // that carry connections of it
}

// Loads returns how busy the Services are, the busiest first.
func (f *Facts) Loads() []Load {
	by := map[string]*Load{}
	pods := map[string]map[netip.Addr]bool{}
	for _, node := range f.answered() {
		here := map[string]int{}
		for _, srv := range f.Speakers[node].Datapath.Servers {
			if by[srv.Service] == nil {
				by[srv.Service], pods[srv.Service] = &Load{Service: srv.Service}, map[netip.Addr]bool{}
			}
			for _, d := range srv.Destinations {
				here[srv.Service] += d.Conns
				if d.Weight > 0 {
					pods[srv.Service][d.Addr.Addr()] = true
				}
			}
		}
		for service, n := range here {
			by[service].Connections += n
			if n > 0 {
				by[service].Nodes++
			}
		}
	}
	out := []Load{}
	for service, l := range by {
		l.Pods = len(pods[service])
		out = append(out, *l)
	}
	slices.SortFunc(out, func(a, b Load) int {
		return cmp.Or(cmp.Compare(b.Connections, a.Connections), strings.Compare(a.Service, b.Service))
	})
	return out
}
