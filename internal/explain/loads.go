package explain

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/internal/view"
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

// Load is how busy a Service is, on all nodes together. What speakers count begins when they start.
type Load struct {
	Service         string  `json:"service"`
	Opened          uint64  `json:"opened"` // connections
	Bytes           uint64  `json:"bytes"`  // of IP packets, both directions
	OpenedPerSecond float64 `json:"openedPerSecond"`
	BytesPerSecond  float64 `json:"bytesPerSecond"`
	Pods            int     `json:"pods"`  // that get new connections
	Nodes           int     `json:"nodes"` // that have carried connections of it
}

// Loads returns how busy the Services are, the busiest first: now, if there was a reading before, else in total. Rates are those
// of the time since then; a speaker that has not answered both times counts in none.
func (f *Facts) Loads(before *Facts, since time.Duration) []Load {
	by := map[string]*Load{}
	pods := map[string]map[netip.Addr]bool{}
	for _, node := range f.answered() {
		var was map[place]view.Destination
		if before != nil && slices.Contains(before.answered(), node) {
			was = before.places(node)
		}
		carriers := map[string]bool{}
		for _, srv := range f.Speakers[node].Datapath.Servers {
			if by[srv.Service] == nil {
				by[srv.Service], pods[srv.Service] = &Load{Service: srv.Service}, map[netip.Addr]bool{}
			}
			l := by[srv.Service]
			for _, d := range srv.Destinations {
				l.Opened, l.Bytes = l.Opened+d.Opened, l.Bytes+d.Bytes
				carriers[srv.Service] = carriers[srv.Service] || d.Opened > 0
				if d.Weight > 0 {
					pods[srv.Service][d.Addr.Addr()] = true
				}
				if was != nil {
					earlier := was[place{srv.Listener, d.Addr}]
					l.OpenedPerSecond += rate(earlier.Opened, d.Opened, since)
					l.BytesPerSecond += rate(earlier.Bytes, d.Bytes, since)
				}
			}
		}
		for service, carried := range carriers {
			if carried {
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
		return cmp.Or(cmp.Compare(b.BytesPerSecond, a.BytesPerSecond), cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Service, b.Service))
	})
	return out
}

// place is where a node counts.
type place struct {
	listener string
	pod      netip.AddrPort
}

func (f *Facts) places(node lb.NodeName) map[place]view.Destination {
	out := map[place]view.Destination{}
	for _, srv := range f.Speakers[node].Datapath.Servers {
		for _, d := range srv.Destinations {
			out[place{srv.Listener, d.Addr}] = d
		}
	}
	return out
}

// rate is the growth of a count per second. One that has fallen began anew, with a new speaker.
func rate(before, now uint64, since time.Duration) float64 {
	if now < before {
		before = 0
	}
	return float64(now-before) / since.Seconds()
}
