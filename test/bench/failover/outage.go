package main

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
	"github.com/fairlead-lb/fairlead/test/bed"
	"github.com/fairlead-lb/fairlead/test/probe"
)

// How the client connects.
const (
	spacing    = 5 * time.Millisecond
	patience   = 900 * time.Millisecond // less than the second after which TCP sends a SYN again
	lead       = 500 * time.Millisecond // of connections before the event
	steady     = 40                     // connections to the new owner end a trial
	longestCut = 30 * time.Second       // a longer outage counts as this long
)

// outages has cut called while the client connects to the addresses, which old answers for, until all of them have been
// answered for by others for a while. It returns what the client saw of each.
func outages(addrs []netip.Addr, old lb.NodeName, cut func()) map[netip.Addr]*series {
	ctx, cancel := context.WithTimeout(context.Background(), lead+longestCut)
	defer cancel()
	var clients sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(len(addrs)))
	moved := func() {
		if left.Add(-1) == 0 {
			cancel()
		}
	}
	out := map[netip.Addr]*series{}
	for _, addr := range addrs {
		s := &series{old: old, moved: moved}
		out[addr] = s
		clients.Go(func() {
			probe.Repeat(ctx, s.noting(probe.TCP(bed.Service(addr))), spacing, patience, lead+longestCut)
			s.end = time.Now()
		})
	}
	time.Sleep(lead)
	event := time.Now()
	cut()
	clients.Wait()
	for _, s := range out {
		s.event = event
	}
	return out
}

// series is when connections to an address succeeded.
type series struct {
	old        lb.NodeName
	moved      func() // called once, after steady answers from others than old
	event, end time.Time

	mu        sync.Mutex
	successes []time.Time
	others    int
}

// noting returns try, and notes when it succeeded.
func (s *series) noting(try probe.Attempt) probe.Attempt {
	return func(ctx context.Context) (string, error) {
		name, err := try(ctx)
		if err != nil {
			return name, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.successes = append(s.successes, time.Now())
		if name != string(s.old) {
			if s.others++; s.others == steady {
				s.moved()
			}
		}
		return name, nil
	}
}

// gaps returns the longest time between two successes before the event, and the longest one that ended after it, both in
// milliseconds and less the spacing. If nothing succeeded after the event, that lasts to the end.
func (s *series) gaps() (before, after float64) {
	longest := func(gap float64, from, to time.Time) float64 {
		return max(gap, float64((to.Sub(from)-spacing).Microseconds())/1000)
	}
	for i, t := range s.successes {
		switch {
		case i == 0:
		case t.Before(s.event):
			before = longest(before, s.successes[i-1], t)
		default:
			after = longest(after, s.successes[i-1], t)
		}
	}
	if n := len(s.successes); n == 0 || s.successes[n-1].Before(s.event) {
		after = longest(after, s.event, s.end)
	}
	return before, after
}

// family names the family of an address.
func family(a netip.Addr) string {
	if a.Is6() {
		return "ipv6"
	}
	return "ipv4"
}

// victim returns a node and what it owns, one address of each family, if there is a node that owns both; otherwise a node and
// one address. Trials take the nodes in turn.
func victim(owners map[netip.Addr]int, trial int) (int, []netip.Addr) {
	owned := map[int]map[string]netip.Addr{}
	most := 0
	for _, addr := range slices.SortedFunc(maps.Keys(owners), netip.Addr.Compare) {
		i := owners[addr]
		if owned[i] == nil {
			owned[i] = map[string]netip.Addr{}
		}
		owned[i][family(addr)] = addr
		most = max(most, len(owned[i]))
	}
	maps.DeleteFunc(owned, func(_ int, a map[string]netip.Addr) bool { return len(a) < most })
	nodes := slices.Sorted(maps.Keys(owned))
	node := nodes[trial%len(nodes)]
	return node, slices.SortedFunc(maps.Values(owned[node]), netip.Addr.Compare)
}
