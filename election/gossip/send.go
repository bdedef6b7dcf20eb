package gossip

import (
	"context"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-lb/fairlead/lb"
)

const (
	sendRest  = 100 * time.Millisecond // between two reliable sends to one member
	retrySend = 200 * time.Millisecond // after one that failed

	// smallRecord is the size in bytes up to which a record goes into a datagram as a whole: it fits into every link's MTU
	// together with memberlist's and the network's headers. Larger ones go as the difference to what the member has, which
	// may become several fragments: 16 KiB are the claims of a takeover of 2,500 addresses.
	smallRecord   = 1100
	maxDifference = 16 << 10
)

type target struct {
	node lb.NodeName
	addr netip.AddrPort
	base record // what the member has of ours
}

func (t target) member() *memberlist.Node {
	return &memberlist.Node{Name: string(t.node), Addr: t.addr.Addr().AsSlice(), Port: t.addr.Port()}
}

// wakeSender makes sendLoop look for members that lack our record.
func (g *Gossip) wakeSender() {
	select {
	case g.resend <- struct{}{}:
	default:
	}
}

// sendLoop brings our record to every member that does not have it yet, twice: at once by datagrams, which take a moment and
// may be lost, and over a connection to each. Each connection has its own goroutine, so that a member that hangs holds up
// nobody else, and rests afterwards: what changes meanwhile goes by datagram, and together over the next one.
func (g *Gossip) sendLoop(ctx context.Context, group *errgroup.Group) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.resend:
		}
		self, fast, slow := g.targets()
		whole := encode(self)
		g.sendDatagrams(self, whole, fast)
		for _, t := range slow {
			group.Go(func() error { g.send(ctx, t, self, whole); return nil })
		}
	}
}

// targets returns our record and the members that lack it: who gets it by datagram, and who over a connection. The latter
// are busy from now on.
func (g *Gossip) targets() (self record, fast, slow []target) {
	g.mu.Lock()
	defer g.mu.Unlock()
	self = g.table.self
	news := g.told != self.stamp
	g.told = self.stamp
	for node, addr := range g.table.alive {
		t := target{node, addr, g.sent[node]}
		if t.base.stamp == self.stamp {
			continue
		}
		if news {
			fast = append(fast, t)
		}
		if !g.busy[node] {
			g.busy[node] = true
			slow = append(slow, t)
		}
	}
	return self, fast, slow
}

// sendDatagrams sends our record to each member as one datagram, if it can be made small enough.
func (g *Gossip) sendDatagrams(self record, whole []byte, to []target) {
	differences := map[stamp][]byte{} // by base; most members have the same one
	for _, t := range to {
		b := whole
		if len(whole) > smallRecord {
			if t.base.incarnation != self.incarnation {
				continue // it has nothing that a difference could lead from
			}
			d, ok := differences[t.base.stamp]
			if !ok {
				d = encode(self.since(t.base))
				differences[t.base.stamp] = d
			}
			if b = d; len(b) > maxDifference {
				continue
			}
		}
		if err := g.list.SendBestEffort(t.member(), b); err != nil {
			g.o.Log.Debug("datagram not sent", "node", t.node, "err", err)
		}
	}
}

// send sends our record over a connection to one member, and has sendLoop look again after a rest.
func (g *Gossip) send(ctx context.Context, t target, self record, whole []byte) {
	err := g.list.SendReliable(t.member(), whole)
	rest := sendRest
	if err != nil {
		g.o.Log.Debug("record not sent", "node", t.node, "err", err)
		rest = retrySend
	} else {
		g.mu.Lock()
		if g.table.alive[t.node] == t.addr {
			g.sent[t.node] = self
		}
		g.mu.Unlock()
	}
	sleep(ctx, rest)
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.busy, t.node)
	g.wakeSender()
}

// sayGoodbye tells the living members by datagram that this process ends on purpose.
func (g *Gossip) sayGoodbye() {
	g.mu.Lock()
	g.table.sayGoodbye()
	g.mu.Unlock()
	self, fast, _ := g.targets()
	g.sendDatagrams(self, encode(self), fast)
}
