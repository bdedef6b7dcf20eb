package neighbour

import (
	"context"
	"math/rand/v2"
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
	var batch time.Time // nothing is sent before
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
		r.leaveGroups()
		now := time.Now()
		r.openMissing(readers, now)
		r.retry(now)
		if r.fence(now) {
			batch = now.Add(fencePoll)
		} else if !now.Before(batch) && r.sendDue(now) {
			batch = now.Add(pace)
		}
		timer.Reset(time.Until(r.nextWork(now, batch)))
	}
}

// nextWork returns when the loop has to look again if nothing wakes it.
func (r *Responder) nextWork(now, batch time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fenced {
		return batch
	}
	limit := now.Add(refreshMin)
	if r.openAt.After(now) {
		limit = r.openAt
	}
	for _, s := range r.strangers {
		if s.until.Before(limit) {
			limit = s.until
		}
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

// fence reports whether nothing may be sent now. It asks only if there is something to send, or if it was so before; at the end
// of a fence everything starts anew.
func (r *Responder) fence(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	due, ok := r.schedule.next()
	if !r.fenced && (!ok || due.After(now)) {
		return false
	}
	was := r.fenced
	r.fenced = !r.o.MayAnswer()
	if was && !r.fenced {
		r.schedule.restart(now, func(place) bool { return true })
	}
	return r.fenced
}

// mayAnswer asks whether a packet may leave. The caller holds mu.
func (r *Responder) mayAnswer() bool {
	if r.o.MayAnswer() {
		return true
	}
	if !r.fenced {
		r.fenced = true
		r.notify()
	}
	return false
}

// retry forgets the strangers whose time has come, and probes the addresses that are still wanted.
func (r *Responder) retry(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := false
	for addr, s := range r.strangers {
		if s.until.After(now) {
			continue
		}
		changed = true
		delete(r.strangers, addr)
		t := r.want[addr]
		for _, iface := range t.Interfaces {
			if r.open(iface) && !r.schedule.announced(place{addr, iface}) {
				r.schedule.start(place{addr, iface}, now, t.Probe)
			}
		}
	}
	if changed {
		r.publish()
		r.o.Changed()
	}
}

// sendDue sends one batch of announcements and probes and reports whether there were any.
func (r *Responder) sendDue(now time.Time) bool {
	r.mu.Lock()
	due := r.schedule.take(now, max(1, r.o.Rate*int(pace)/int(time.Second)))
	if slices.ContainsFunc(due, func(j job) bool { return j.clear }) {
		r.publish()
		r.o.Changed()
	}
	r.mu.Unlock()
	for _, j := range due {
		r.send(j)
	}
	for _, j := range due {
		r.join(j.place) // afterwards: the kernel may take its time
	}
	return len(due) > 0
}

// send sends the packets of one job. The lock is held while they are written, so that none leaves after Set has withdrawn the
// address and pulls the traffic back.
func (r *Responder) send(j job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.schedule.entries[j.place]
	if !ok || !r.open(j.iface) || e.probing != j.probe || !r.mayAnswer() {
		return
	}
	if !j.probe {
		r.announce(j.place)
		return
	}
	l := r.links[j.iface]
	if r.write(r.ports[l.Index], r.codec.Probe(j.addr, l.MAC)) {
		r.metrics.probes.WithLabelValues(j.iface).Inc()
	}
}

// announce tells the neighbours once that the address is here. The caller holds mu, the link is open and answering is allowed.
func (r *Responder) announce(at place) {
	l := r.links[at.iface]
	for _, frame := range r.codec.Announcement(at.addr, l.MAC) {
		if r.write(r.ports[l.Index], frame) {
			r.metrics.gratuitous.WithLabelValues(at.iface).Inc()
		}
	}
}

func (r *Responder) write(p *port, frame []byte) bool {
	if _, err := p.wire.Write(frame); err != nil {
		name := r.nameOf(p)
		r.metrics.errors.WithLabelValues(name).Inc()
		r.o.Log.Debug("packet not sent", "protocol", r.name, "iface", name, "err", err)
		return false
	}
	return true
}

// again returns when an address is probed again after a claim to it. A station that only probed may be a speaker that starts at
// the same time and is not known yet; if it is not, it has the address by then, and answers.
func again(c Claim, now time.Time) time.Time {
	if c.Probe {
		return now.Add(probeSoon + rand.N(probeSoon))
	}
	return now.Add(probeAgain + rand.N(probeSpread))
}
