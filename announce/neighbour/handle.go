package neighbour

import (
	"time"
)

// maxFrame holds every packet of the protocols that is not malformed, with options that we have no use for.
const maxFrame = 2048

// read handles the packets of one port until its socket ends.
func (r *Responder) read(p *port) {
	buf, reply := make([]byte, maxFrame), make([]byte, 0, maxFrame)
	for {
		n, err := p.wire.Read(buf)
		if err != nil {
			r.o.Log.Debug("socket ended", "protocol", r.name, "index", p.index, "err", err)
			r.lose(p, true)
			return
		}
		r.handle(p, buf[:n], reply)
	}
}

// handle answers a frame and watches for strangers. reply is room for the answer.
func (r *Responder) handle(p *port, frame, reply []byte) {
	v := r.view.Load()
	s := v.stations[p.index]
	if s == nil {
		return
	}
	verdict := r.codec.Judge(frame, s.owned, s.link.MAC, reply)
	if verdict.Asks {
		s.requests.Inc()
	}
	if c := verdict.Claim; c.Addr.IsValid() && !v.macs[c.MAC] {
		if _, ok := s.owned[c.Addr]; ok && !c.Probe {
			r.contend(p, c)
		}
		if _, ok := s.probing[c.Addr]; ok && !r.o.Speaker(c.MAC) {
			r.yield(p, c)
		}
	}
	if verdict.Reply == nil {
		return
	}
	r.mu.Lock() // as in send: what Set has withdrawn meanwhile is not answered
	defer r.mu.Unlock()
	if s = r.view.Load().stations[p.index]; s == nil {
		return
	}
	verdict = r.codec.Judge(frame, s.owned, s.link.MAC, reply)
	if verdict.Reply != nil && r.mayAnswer() && r.write(p, verdict.Reply) {
		r.metrics.responses.WithLabelValues(s.link.Name).Inc()
	}
}

// contend reports a claim to an announced address, and counters a stranger's.
func (r *Responder) contend(p *port, c Claim) {
	speaker := r.o.Speaker(c.MAC)
	now := time.Now()
	r.mu.Lock()
	iface := r.nameOf(p)
	at := place{c.Addr, iface}
	if !r.schedule.announced(at) {
		r.mu.Unlock()
		return
	}
	r.metrics.conflicts.WithLabelValues(iface).Inc()
	last, before := r.reported[c.Addr]
	report := !before || now.Sub(last) >= conflictEvery
	if report {
		r.reported[c.Addr] = now
	}
	last, before = r.defended[c.Addr]
	if !speaker && (!before || now.Sub(last) >= defendEvery) && r.open(iface) && r.mayAnswer() {
		r.defended[c.Addr] = now
		r.announce(at)
	}
	r.mu.Unlock()
	if report {
		r.o.Conflict(Conflict{Addr: c.Addr, Interface: iface, MAC: c.MAC})
	}
}

// yield ends the probing of an address that a stranger has, on all links, and reports it. One that probes for it itself is not
// reported: the next attempt will show who has it.
func (r *Responder) yield(p *port, c Claim) {
	now := time.Now()
	r.mu.Lock()
	iface := r.nameOf(p)
	if !r.schedule.probed(place{c.Addr, iface}) {
		r.mu.Unlock()
		return
	}
	r.metrics.conflicts.WithLabelValues(iface).Inc()
	r.strangers[c.Addr] = stranger{mac: c.MAC, until: again(c, now)}
	for name := range r.links {
		if at := (place{c.Addr, name}); r.schedule.probed(at) {
			r.schedule.stop(at)
			r.left = append(r.left, leaving{r.ports[r.links[name].Index], c.Addr})
		}
	}
	r.publish()
	r.mu.Unlock()
	if !c.Probe {
		r.o.Conflict(Conflict{Addr: c.Addr, Interface: iface, MAC: c.MAC})
	}
	r.o.Changed()
	r.notify()
}
