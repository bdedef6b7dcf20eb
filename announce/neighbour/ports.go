package neighbour

import (
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// nameOf returns the present name of the port's link, "" if it has gone. The caller holds mu.
func (r *Responder) nameOf(p *port) string {
	for name, l := range r.links {
		if l.Index == p.index {
			return name
		}
	}
	return ""
}

// closeStale closes the sockets of links that are gone or down.
func (r *Responder) closeStale() {
	r.mu.Lock()
	var stale []*port
	for _, p := range r.ports {
		if r.nameOf(p) == "" {
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
		if r.ports[l.Index] != nil {
			continue
		}
		w, err := r.codec.Listen(l)
		if err != nil {
			r.o.Log.Warn("socket not opened", "protocol", r.name, "iface", name, "err", err)
			r.metrics.errors.WithLabelValues(name).Inc()
			r.openAt = now.Add(retryOpen)
			continue
		}
		p := &port{index: l.Index, wire: w}
		r.ports[l.Index] = p
		readers.Go(func() error { r.read(p); return nil })
		r.scheduleAll(name, now)
		opened = true
	}
	if opened {
		r.publish()
		r.o.Changed()
	}
}

// scheduleAll starts everything wanted on iface; what was announced there before is not probed again. The caller holds mu.
func (r *Responder) scheduleAll(iface string, now time.Time) {
	for addr, t := range r.want {
		if _, taken := r.strangers[addr]; !taken && slices.Contains(t.Interfaces, iface) {
			at := place{addr, iface}
			r.schedule.start(at, now, t.Probe && !r.schedule.announced(at))
		}
	}
}

// lose closes a port and forgets it; it is opened again a moment later if its link is still wanted.
func (r *Responder) lose(p *port, broken bool) {
	r.mu.Lock()
	mine := r.ports[p.index] == p
	if mine {
		delete(r.ports, p.index)
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
	for index, p := range r.ports {
		_ = p.wire.Close()
		delete(r.ports, index)
	}
	r.publish()
}

// join has the questions for an address delivered. A failure is made up for at the next announcement.
func (r *Responder) join(at place) {
	r.mu.Lock()
	_, wanted := r.schedule.entries[at]
	p := r.ports[r.links[at.iface].Index]
	r.mu.Unlock()
	if !wanted || p == nil {
		return
	}
	if err := p.wire.Join(at.addr); err != nil {
		r.metrics.errors.WithLabelValues(at.iface).Inc()
		r.o.Log.Warn("group not joined", "protocol", r.name, "iface", at.iface, "vip", at.addr, "err", err)
	}
}

// leaveGroups undoes join for what Set has withdrawn and nobody has wanted again since.
func (r *Responder) leaveGroups() {
	r.mu.Lock()
	left := slices.DeleteFunc(r.left, func(l leaving) bool {
		if l.port == nil || r.ports[l.port.index] != l.port {
			return true // the socket's end was the end of its memberships
		}
		_, wanted := r.schedule.entries[place{l.addr, r.nameOf(l.port)}]
		return wanted
	})
	r.left = nil
	r.mu.Unlock()
	for _, l := range left {
		if err := l.port.wire.Leave(l.addr); err != nil {
			r.o.Log.Debug("group not left", "protocol", r.name, "vip", l.addr, "err", err)
		}
	}
}
