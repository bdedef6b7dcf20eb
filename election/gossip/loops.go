package gossip

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	joinSoon    = 500 * time.Millisecond // between attempts until one succeeds
	joinLater   = 5 * time.Second        // and afterwards, for members that are missing
	retryRest   = 100 * time.Millisecond // between two attempts that Rejoin makes at one address
	retryFew    = 5                      // attempts that Rejoin makes while a member is missing: TCP repeats a lost SYN only after a second
	healPause   = 5 * time.Millisecond   // between the exchanges that it takes until two that took each other for dead agree
	healTries   = 5
	joinAtOnce  = 16 // addresses that joinLoop tries at the same time
	askTheAlive = 2  // how many living members Rejoin asks; one may be dead and not noticed yet
)

// joinLoop looks for peers that are not members, forever.
func (g *Gossip) joinLoop(ctx context.Context) {
	var listed time.Time // since when we know whom to look for
	for {
		g.useKeys() // a member that was lost may count no longer
		missing, known, err := g.missing(ctx)
		if err != nil {
			g.o.Log.Debug("peers not listed", "err", err)
		}
		if listed.IsZero() && (known || len(missing) > 0) {
			listed = time.Now()
		}
		met := g.join(ctx, missing)
		if met || !listed.IsZero() && (len(missing) == 0 || time.Since(listed) >= g.o.SettleTimeout) {
			g.settle()
		}
		pause := joinSoon
		if g.hasSettled() {
			pause = joinLater
		}
		if !sleep(ctx, pause/2+rand.N(pause)) { // members that start together must not move in step
			return
		}
	}
}

// join exchanges states with each of the peers and reports whether one of them has answered. It waits for all of them: the
// first to answer may be as new as this member, and know nothing of what a slower one has.
func (g *Gossip) join(ctx context.Context, peers []netip.AddrPort) bool {
	var met atomic.Bool
	var group errgroup.Group
	group.SetLimit(joinAtOnce)
	for _, addr := range peers {
		group.Go(func() error {
			if g.tryExchange(ctx, addr) {
				met.Store(true)
			}
			return nil
		})
	}
	_ = group.Wait()
	return met.Load()
}

// exchangeLoop makes the exchanges that Rejoin asks for, each on its own, so that a dead member delays nobody.
func (g *Gossip) exchangeLoop(ctx context.Context, group *errgroup.Group) {
	again := time.NewTimer(0)
	defer again.Stop()
	left := 0 // attempts, after the one that is due
	for {
		living := false // the first attempt asks some of these too
		select {
		case <-ctx.Done():
			return
		case <-g.rejoin:
			left, living = retryFew, true
		case <-again.C:
		}
		if left == 0 {
			continue
		}
		left--
		for _, addr := range g.toRejoin(time.Now(), living) {
			group.Go(func() error { g.tryExchange(ctx, addr); return nil })
		}
		if !g.misses() {
			left = 0
		}
		again.Reset(retryRest)
	}
}

// misses reports whether a member has been lost without goodbye.
func (g *Gossip) misses() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.table.lost) > 0
}

// toRejoin returns the addresses to try now: those of all lost members, and of some living ones if they are to be asked too.
func (g *Gossip) toRejoin(now time.Time, living bool) []netip.AddrPort {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []netip.AddrPort
	if living {
		for _, addr := range g.table.alive { // in random order
			if out = append(out, addr); len(out) == askTheAlive {
				break
			}
		}
	}
	for _, l := range g.table.lost {
		out = append(out, l.addr)
	}
	out = slices.DeleteFunc(out, func(a netip.AddrPort) bool { return now.Sub(g.tried[a]) < retryRest })
	for a, at := range g.tried {
		if now.Sub(at) >= retryRest {
			delete(g.tried, a)
		}
	}
	for _, a := range out {
		g.tried[a] = now
	}
	return out
}

// tryExchange reports whether the member at addr has answered.
func (g *Gossip) tryExchange(ctx context.Context, addr netip.AddrPort) bool {
	if ctx.Err() != nil {
		return false
	}
	if err := g.exchange(addr); err != nil {
		g.o.Log.Debug("peer not joined", "addr", addr, "err", err)
		return false
	}
	return true
}

// exchange asks the member at addr to exchange states; when it has answered, it has told us all it knows. Two that took each
// other for dead contradict that in the first exchange, and believe each other in the second one.
func (g *Gossip) exchange(addr netip.AddrPort) error {
	for try := range healTries {
		start := time.Now()
		if _, err := g.list.Join([]string{addr.String()}); err != nil {
			return fmt.Errorf("exchanging gossip with %s: %w", addr, err)
		}
		g.mu.Lock()
		if start.After(g.table.asked) {
			g.table.asked = start
		}
		alive := g.table.livesAt(addr)
		g.mu.Unlock()
		if alive {
			break
		}
		time.Sleep(time.Duration(try) * healPause)
	}
	return nil
}

// settle opens [Gossip.Members]: the peers are known, or given up.
func (g *Gossip) settle() {
	g.mu.Lock()
	opened := !g.settled
	g.settled = true
	g.mu.Unlock()
	if opened {
		g.o.Changed()
	}
}

func (g *Gossip) hasSettled() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.settled
}

// missing returns the peers that are not members. With an error, those are the ones known from earlier. Known says that there is a list
// of peers, whether or not some are missing: they may have found this member before it looked for them.
func (g *Gossip) missing(ctx context.Context) (missing []netip.AddrPort, known bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, joinLater)
	defer cancel()
	peers, err := g.o.Peers(ctx)
	known = err == nil || len(peers) > 0
	peers = slices.Clone(peers) // they are the callee's
	g.mu.Lock()
	defer g.mu.Unlock()
	g.table.prune(time.Now())
	if err == nil {
		g.listed = map[netip.Addr]bool{}
	}
	for _, addr := range peers {
		g.listed[addr.Addr()] = true
	}
	for _, l := range g.table.lost { // the directory may be away, or not know them yet
		peers = append(peers, l.addr)
	}
	slices.SortFunc(peers, netip.AddrPort.Compare)
	peers = slices.Compact(peers)
	return slices.DeleteFunc(peers, func(a netip.AddrPort) bool { return a == g.o.Bind || g.table.livesAt(a) }), known, err
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
