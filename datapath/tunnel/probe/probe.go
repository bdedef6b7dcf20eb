package probe

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-lb/fairlead/datapath/tunnel"
	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/lb"
)

// pace is the least time between two rounds of asks, which saves going through all peers for each.
const pace = 50 * time.Millisecond

// reopen is how long after a socket could not be opened, or has failed, it is tried again.
const reopen = 10 * time.Second

// Options configures a [Probe].
type Options struct {
	Node       lb.NodeName
	Log        *slog.Logger
	Registerer prometheus.Registerer
	Changed    func()                      // a Passage in Results has changed; must not block
	Pods       func(lb.Family) tunnel.Pods // some endpoints that this node takes tunnelled packets for; must not block nor call back
}

// Probe asks and answers while Run runs. Its methods may be called from any goroutine.
type Probe struct {
	o       Options
	wake    chan struct{}
	sent    prometheus.Counter
	errors  prometheus.Counter
	dropped *prometheus.CounterVec

	mu      sync.Mutex // guards the following
	prober  *tunnel.Prober
	wanted  map[lb.Family]bool
	sockets map[lb.Family]*net.IPConn
	openAt  time.Time
	sources map[netip.Addr]netip.Addr // with which packets leave, by destination
}

// New returns a Probe that asks nobody yet: it needs keys and peers.
func New(o Options) (*Probe, error) {
	if o.Node == "" || o.Log == nil || o.Registerer == nil || o.Changed == nil || o.Pods == nil {
		return nil, errors.New("probe: all options are required")
	}
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "fairlead", Subsystem: "tunnel", Name: name, Help: help}
	}
	p := &Probe{o: o, wake: make(chan struct{}, 1), prober: tunnel.New(o.Node, rand.Uint64()), sockets: map[lb.Family]*net.IPConn{},
		sources: map[netip.Addr]netip.Addr{},
		sent:    prometheus.NewCounter(counter("probes_sent_total", "Questions and answers that were sent to other speakers through the tunnel.")),
		errors:  prometheus.NewCounter(counter("probe_errors_total", "Failures to open a socket for them, or to send one.")),
		dropped: prometheus.NewCounterVec(counter("probes_dropped_total", "Probes that were received and not taken, by cause."), []string{"cause"}),
	}
	o.Registerer.MustRegister(p.sent, p.errors, p.dropped)
	return p, nil
}

// SetKeys replaces the keys, of which the first signs.
func (p *Probe) SetKeys(keys []keyring.Key) {
	out := make([]tunnel.Key, 0, len(keys))
	for _, k := range keys {
		out = append(out, tunnel.Key{ID: uint8(k.ID), Secret: k.Tunnel()})
	}
	p.mu.Lock()
	p.prober.SetKeys(out)
	p.mu.Unlock()
	p.notify()
}

// Set replaces the peers, and says whether this node can unpack what they tunnel to it.
func (p *Probe) Set(peers []tunnel.Peer, able bool) {
	p.mu.Lock()
	p.wanted = map[lb.Family]bool{}
	for _, x := range peers {
		p.wanted[lb.FamilyOf(x.Host)] = true
	}
	p.prober.SetPeers(peers, time.Now())
	p.prober.SetAble(able)
	p.mu.Unlock()
	p.notify()
}

// Results returns what is known about the peers that are asked, sorted by node and family.
func (p *Probe) Results() []tunnel.Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.prober.Results(time.Now())
	sources := make(map[netip.Addr]netip.Addr, len(out)) // without those that are no longer asked
	for i, r := range out {
		out[i].Source = p.sources[r.Pod]
		sources[r.Pod] = out[i].Source
	}
	p.sources = sources
	return out
}

func (p *Probe) notify() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx is done, and returns nil.
func (p *Probe) Run(ctx context.Context) error {
	var readers errgroup.Group // of functions that do not fail
	for ctx.Err() == nil {
		next := p.tick(&readers)
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	p.mu.Lock()
	p.wanted = nil
	p.closeUnwanted()
	p.mu.Unlock()
	return readers.Wait()
}

// tick opens and closes sockets and sends what is due. It returns when that is to be done again.
func (p *Probe) tick(readers *errgroup.Group) time.Time {
	now := time.Now()
	p.mu.Lock()
	p.closeUnwanted()
	p.openMissing(readers, now)
	asks, next := []tunnel.Datagram(nil), p.openAt
	if len(p.sockets) == len(p.wanted) { // what cannot be asked must not count as unanswered
		asks, next = p.prober.Tick(now)
	}
	if soonest := now.Add(pace); next.Before(soonest) {
		next = soonest
	}
	news := p.prober.News()
	p.mu.Unlock()
	for _, d := range asks {
		from := source(d.To)
		p.mu.Lock()
		p.sources[d.To] = from
		p.mu.Unlock()
		p.send(d)
	}
	if news {
		p.o.Changed()
	}
	return next
}

// closeUnwanted closes the sockets of families without peers. The caller holds mu.
func (p *Probe) closeUnwanted() {
	for family, c := range p.sockets {
		if !p.wanted[family] {
			_ = c.Close() // whatever it says, it is closed; its reader ends
			delete(p.sockets, family)
		}
	}
}

// openMissing opens the sockets that there should be. The caller holds mu.
func (p *Probe) openMissing(readers *errgroup.Group, now time.Time) {
	if now.Before(p.openAt) {
		return
	}
	for family := range p.wanted {
		if p.sockets[family] != nil {
			continue
		}
		c, err := listen(family)
		if err != nil {
			p.openAt = now.Add(reopen)
			p.errors.Inc()
			p.o.Log.Warn("tunnels are not probed", "family", family, "err", err)
			continue
		}
		p.sockets[family] = c
		readers.Go(func() error { p.read(family, c); return nil })
	}
}

// read takes probes until the socket ends.
func (p *Probe) read(family lb.Family, c *net.IPConn) {
	buf := make([]byte, tunnel.MaxSize)
	for {
		n, _, err := c.ReadFromIP(buf)
		if err != nil {
			p.lose(family, c, err)
			return
		}
		p.mu.Lock()
		answer, drop := p.prober.Receive(buf[:n], family, time.Now(), p.o.Pods)
		news, hurry := p.prober.News(), p.prober.Hurry()
		p.mu.Unlock()
		if hurry {
			p.notify()
		}
		if drop != "" {
			p.dropped.WithLabelValues(string(drop)).Inc()
		}
		if answer.To.IsValid() {
			p.send(answer)
		}
		if news {
			p.o.Changed()
		}
	}
}

// lose forgets a socket that has failed; it is opened again later. One that was closed is forgotten already.
func (p *Probe) lose(family lb.Family, c *net.IPConn, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sockets[family] != c {
		return
	}
	_ = c.Close()
	delete(p.sockets, family)
	p.openAt = time.Now().Add(reopen)
	p.errors.Inc()
	p.o.Log.Warn("tunnels are not probed", "family", family, "err", err)
}

// send sends a probe into the tunnel. What cannot be sent is as good as lost, and is counted.
func (p *Probe) send(d tunnel.Datagram) {
	p.mu.Lock()
	c := p.sockets[lb.FamilyOf(d.To)]
	p.mu.Unlock()
	if c == nil {
		return
	}
	if _, err := c.WriteToIP(d.Inner, &net.IPAddr{IP: d.To.AsSlice()}); err != nil {
		p.errors.Inc()
		p.o.Log.Debug("probe not sent", "to", d.To, "err", err)
		return
	}
	p.sent.Inc()
}
