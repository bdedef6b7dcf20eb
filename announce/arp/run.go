package arp

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// Run listens and announces until ctx is done; then it closes the sockets and returns nil.
func (r *Responder) Run(ctx context.Context) error {
	var readers errgroup.Group
	r.loop(ctx, &readers)
	return readers.Wait()
}

// loop keeps the sockets in step with the links and sends what the schedule says, until ctx is done.
func (r *Responder) loop(ctx context.Context, readers *errgroup.Group) {
	defer r.closeAll()
	var batch time.Time // no packets before
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
		}
		r.closeStale()
		now := time.Now()
		r.openMissing(readers, now)
		if !now.Before(batch) && r.announceDue(now) {
			batch = now.Add(pace)
		}
		timer.Reset(time.Until(r.nextWork(now, batch)))
	}
}

// nextWork returns when the loop has to look again if nothing wakes it.
func (r *Responder) nextWork(now, batch time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	limit := now.Add(refreshMin)
	if r.openAt.After(now) {
		limit = r.openAt
	}
	due, ok := r.schedule.next()
	if !ok || due.After(limit) {
		return limit
	}
	if due.Before(batch) {
		return batch
	}
	return due
}

// closeStale closes the sockets of links that are gone, down or changed.
func (r *Responder) closeStale() {
	r.mu.Lock()
	var stale []*port
	for name, p := range r.ports {
		l, ok := r.links[name]
		if !ok || l.Index != p.link.Index || l.MAC != p.link.MAC {
			stale = append(stale, p)
		}
	}
	r.mu.Unlock()
	for _, p := range stale {
		r.lose(p, false)
	}
}

// openMissing opens sockets for links that have none, unless an earlier attempt has failed a moment ago.
func (r *Responder) openMissing(readers *errgroup.Group, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Before(r.openAt) {
		return
	}
	opened := false
	for name, l := range r.links {
		if r.ports[name] != nil {
			continue
		}
		w, err := r.o.listen(l)
		if err != nil {
			r.o.Log.Warn("arp socket not opened", "iface", name, "err", err)
			r.metrics.errors.WithLabelValues(name).Inc()
			r.openAt = now.Add(retryOpen)
			continue
		}
		p := &port{link: l, wire: w}
		r.ports[name] = p
		readers.Go(func() error { r.read(p); return nil })
		r.scheduleAll(name)
		opened = true
	}
	if opened {
		r.publish()
		r.o.Changed()
	}
}

// scheduleAll starts the announcements of everything wanted on iface. The caller holds mu.
func (r *Responder) scheduleAll(iface string) {
	now := time.Now()
	for addr, t := range r.want {
		if addr.Is4() && slices.Contains(t.Interfaces, iface) {
			r.schedule.start(place{addr, iface}, now)
		}
	}
}

// lose closes a port and forgets it; it is opened again a moment later if its link is still wanted.
func (r *Responder) lose(p *port, broken bool) {
	r.mu.Lock()
	mine := r.ports[p.link.Name] == p
	if mine {
		delete(r.ports, p.link.Name)
		r.publish()
		if broken {
			r.openAt = time.Now().Add(reopen)
		}
	}
	r.mu.Unlock()
	if mine {
		_ = p.wire.Close() // whatever it says, it is closed
		r.o.Changed()
		r.notify()
	}
}

func (r *Responder) closeAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, p := range r.ports {
		_ = p.wire.Close()
		delete(r.ports, name)
	}
	r.publish()
}

// announceDue sends one batch of gratuitous packets and reports whether there were any.
func (r *Responder) announceDue(now time.Time) bool {
	r.mu.Lock()
	due := r.schedule.take(now, max(1, r.o.Rate*int(pace)/int(time.Second)))
	r.mu.Unlock()
	for _, p := range due {
		r.announce(p)
	}
	return len(due) > 0
}

// announce sends both gratuitous packets for one address. The lock is held while they are written, so that none leaves after
// Set has withdrawn the address and pulls the traffic back.
func (r *Responder) announce(at place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.ports[at.iface]
	if p == nil || !slices.Contains(r.want[at.addr].Interfaces, at.iface) {
		return
	}
	for _, packet := range Gratuitous(at.addr, p.link.MAC) {
		if r.write(p, packet) {
			r.metrics.gratuitous.WithLabelValues(at.iface).Inc()
		}
	}
}

func (r *Responder) write(p *port, packet Packet) bool {
	if _, err := p.wire.Write(packet.Append(make([]byte, 0, frameLen))); err != nil {
		r.metrics.errors.WithLabelValues(p.link.Name).Inc()
		r.o.Log.Debug("arp packet not sent", "iface", p.link.Name, "packet", packet, "err", err)
		return false
	}
	return true
}

// read handles the packets of one port until its socket ends.
func (r *Responder) read(p *port) {
	requests := r.metrics.requests.WithLabelValues(p.link.Name)
	buf := make([]byte, 128)
	for {
		n, err := p.wire.Read(buf)
		if err != nil {
			r.o.Log.Debug("arp socket ended", "iface", p.link.Name, "err", err)
			r.lose(p, true)
			return
		}
		packet, err := Parse(buf[:n])
		if err != nil {
			continue
		}
		if packet.Op == Request {
			requests.Inc()
		}
		r.handle(p, packet)
	}
}

// handle answers a packet and watches for strangers.
func (r *Responder) handle(p *port, packet Packet) {
	v := r.view.Load()
	owned := v.owned[p.link.Name]
	if Claims(packet, owned, p.link.MAC) && !v.macs[packet.SenderMAC] {
		r.conflict(p, packet)
	}
	if _, drop := Answer(packet, owned, p.link.MAC); drop != "" {
		return
	}
	r.mu.Lock() // as in announce: what Set has withdrawn meanwhile is not answered
	defer r.mu.Unlock()
	reply, drop := Answer(packet, r.view.Load().owned[p.link.Name], p.link.MAC)
	if drop == "" && r.write(p, reply) {
		r.metrics.responses.WithLabelValues(p.link.Name).Inc()
	}
}

// conflict counts and reports that packet's sender uses an address of ours.
func (r *Responder) conflict(p *port, packet Packet) {
	r.metrics.conflicts.WithLabelValues(p.link.Name).Inc()
	if r.mayReport(packet.SenderIP, time.Now()) {
		r.o.Conflict(Conflict{Addr: packet.SenderIP, Interface: p.link.Name, MAC: packet.SenderMAC})
	}
}

// mayReport reports whether the last conflict about addr is long enough ago, and notes this one if so.
func (r *Responder) mayReport(addr netip.Addr, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.reported[addr]; ok && now.Sub(last) < conflictEvery {
		return false
	}
	r.reported[addr] = now
	return true
}
