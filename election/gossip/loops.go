package gossip

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-lb/fairlead/lb"
)

const (
	joinSoon    = 500 * time.Millisecond // between attempts until one succeeds
	joinLater   = 5 * time.Second        // and afterwards, for members that are missing
	resendDelay = 200 * time.Millisecond // after a send that failed
)

// joinLoop looks for peers that are not members, forever.
func (g *Gossip) joinLoop(ctx context.Context) {
	var listed time.Time // since when we know whom to look for
	for {
		missing, err := g.missing(ctx)
		if err != nil {
			g.o.Log.Debug("peers not listed", "err", err)
		}
		if listed.IsZero() && (err == nil || len(missing) > 0) {
			listed = time.Now()
		}
		g.join(ctx, missing)
		if !listed.IsZero() && (len(missing) == 0 || time.Since(listed) >= g.o.SettleTimeout) {
			g.settle()
		}
		pause := joinSoon
		if g.hasSettled() {
			pause = joinLater
		}
		select {
		case <-ctx.Done():
			return
		case <-g.rejoin:
		case <-time.After(pause/2 + rand.N(pause)): // members that start together must not move in step
		}
	}
}

// join asks each of the peers to exchange states; one that answers has told us all it knows.
func (g *Gossip) join(ctx context.Context, peers []netip.AddrPort) {
	var group errgroup.Group
	group.SetLimit(16)
	for _, addr := range peers {
		group.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			if _, err := g.list.Join([]string{addr.String()}); err != nil {
				g.o.Log.Debug("peer not joined", "addr", addr, "err", err)
				return nil
			}
			g.settle()
			return nil
		})
	}
	_ = group.Wait()
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

// missing returns the peers that are not members. With an error, those are the ones known from earlier.
func (g *Gossip) missing(ctx context.Context) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, joinLater)
	defer cancel()
	peers, err := g.o.Peers(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.table.prune(time.Now())
	for addr := range g.table.peers { // the directory may be away, or not know them yet
		peers = append(peers, addr)
	}
	alive := map[netip.AddrPort]bool{g.o.Bind: true}
	for _, addr := range g.table.alive {
		alive[addr] = true
	}
	slices.SortFunc(peers, netip.AddrPort.Compare)
	peers = slices.Compact(peers)
	return slices.DeleteFunc(peers, func(a netip.AddrPort) bool { return alive[a] }), err
}

// wakeSender makes sendLoop look for members that lack our record.
func (g *Gossip) wakeSender() {
	select {
	case g.resend <- struct{}{}:
	default:
	}
}

// sendLoop brings our record to every member that does not have it yet. Each member has its own send, so that one that hangs
// holds up nobody else.
func (g *Gossip) sendLoop(ctx context.Context, group *errgroup.Group) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.resend:
		}
		g.mu.Lock()
		self := g.table.self
		for node, addr := range g.table.alive {
			if g.busy[node] || g.sent[node] == self.stamp {
				continue
			}
			g.busy[node] = true
			group.Go(func() error { g.send(ctx, node, addr, self); return nil })
		}
		g.mu.Unlock()
	}
}

// send sends our record to one member and has sendLoop look again afterwards, at once or, if it failed, after a while.
func (g *Gossip) send(ctx context.Context, node lb.NodeName, addr netip.AddrPort, self record) {
	to := &memberlist.Node{Name: string(node), Addr: addr.Addr().AsSlice(), Port: addr.Port()}
	err := g.list.SendReliable(to, encode(self))
	if err != nil {
		g.o.Log.Debug("record not sent", "node", node, "err", err)
		sleep(ctx, resendDelay)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.busy, node)
	if err == nil {
		g.sent[node] = self.stamp
	}
	g.wakeSender()
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
