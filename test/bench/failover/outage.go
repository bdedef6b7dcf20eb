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
	lead       = 300 * time.Millisecond // of connections before the event
	steady     = 40                     // connections to the new owner end a trial
	longestCut = 30 * time.Second       // a longer outage counts as this long
)

// outages has cut called while the client connects to the addresses, which old answers for, until all of them have been
// answered for by others for a while. It returns the outage of each in milliseconds.
func outages(addrs []netip.Addr, old lb.NodeName, cut func()) map[netip.Addr]float64 {
	ctx, cancel := context.WithTimeout(context.Background(), lead+longestCut)
	defer cancel()
	out := map[netip.Addr]float64{}
	var mu sync.Mutex
	var clients sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(len(addrs)))
	moved := func() {
		if left.Add(-1) == 0 {
			cancel()
		}
	}
	for _, addr := range addrs {
		try := untilMoved(probe.TCP(bed.Service(addr)), old, moved)
		clients.Go(func() {
			r := probe.Repeat(ctx, try, spacing, patience, lead+longestCut)
			mu.Lock()
			defer mu.Unlock()
			out[addr] = max(0, r.LongestGap-float64(spacing.Milliseconds()))
		})
	}
	time.Sleep(lead)
	cut()
	clients.Wait()
	return out
}

// untilMoved returns try, and calls done once after steady answers from another node than old.
func untilMoved(try probe.Attempt, old lb.NodeName, done func()) probe.Attempt {
	var others atomic.Int64
	return func(ctx context.Context) (string, error) {
		name, err := try(ctx)
		if err == nil && name != string(old) && others.Add(1) == steady {
			done()
		}
		return name, err
	}
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
