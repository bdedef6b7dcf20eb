package speaker

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/election"
	"github.com/fairlead-lb/fairlead/lb"
)

// factsTimeout bounds how long a step waits for facts. Only the first one ever waits: a cache answers at once.
const factsTimeout = 5 * time.Second

// step looks at the world and acts on it once. An error means that some facts are old: the step has worked with those.
func (s *Speaker) step(ctx context.Context) error {
	upset := s.upset.Swap(false)
	err := s.refresh(ctx)
	now := time.Now()
	if !upset && s.slight && s.onlyForward(ctx, now) {
		return nil
	}
	s.planned = nil
	s.judgeLinks(now)
	s.reviewRivals(now)
	closed := !s.fence.isOpen()
	cleared := closed && s.clearance(now)
	known := s.o.Gossip.Known()
	snap, again := s.snapshot(now, known, closed && !cleared)
	snap.NoTunnel = s.reviewTunnels(ctx, snap, now)
	s.forwardAhead(snap, now)
	decisions, routes := split(announce.Plan(snap))
	routes = s.speak(snap, routes, now)
	if snap.Fenced {
		s.keepSilent(snap, decisions, routes, now)
		return err
	}
	claims, later := s.ledger.claims(s.o.Node, decisions, others(snap), now)
	forwards, held := s.speech.parting.with(snap, s.reportBGP().Seq, now)
	s.wakeAfter(sooner(sooner(again, later), sooner(held, s.awaitSessions(now))))
	s.learnMACs(snap.Members)
	if s.absence.observe(snap.Members, snap.Down, known) {
		s.again++ // after a partition, until it yields, it answers for what this node has
	}
	want := targets(decisions, claims, s.again)
	reached := s.wire.set(want)
	s.announced = interfaces(reached)
	if cleared {
		s.reopen(now) // what others have taken meanwhile is no longer answered for
	}
	decisions = refuseUnreached(decisions, want, reached, s.wire.conflicts())
	claims = s.ledger.settle(claims, func(a netip.Addr) bool { _, ok := reached[a]; return ok })

	self := s.self()
	self.Claims = claims
	s.o.Gossip.SetSelf(self)
	st := s.newStatus(self, snap, decisions, routes)
	st.Claims, st.Strangers, st.KernelAnswers = claims, s.reviewStrangers(decisions, now), s.reviewKernel(decisions)
	s.tell(st, now)
	if s.o.Engine != nil && s.haveFacts {
		s.handOver(s.decider.Desired(forwards), forwards.Services, now) // only now: what is unprogrammed by it is no longer announced
	}
	s.shareHealth(snap)
	if err == nil {
		s.planned, s.plannedAt = &snap, now
	}
	s.beat.Store(time.Now().UnixNano())
	return err
}

// onlyForward does what a step has to do about endpoints that no announcement heeds, if the last step has decided all that it had to, and
// reports whether that was all. With ten thousand addresses the rest would take ten times as long, and the processors from the engine.
func (s *Speaker) onlyForward(ctx context.Context, now time.Time) bool {
	if s.planned == nil || now.Sub(s.plannedAt) >= stepAnyway || !s.fence.isOpen() {
		return false
	}
	s.planned.Endpoints = s.facts.Endpoints
	if s.tunnels.wanted { // which nodes to ask follows from the endpoints
		s.planned.NoTunnel = s.reviewTunnels(ctx, *s.planned, now)
	}
	if !s.forwardAhead(*s.planned, now) {
		return false
	}
	s.beat.Store(time.Now().UnixNano())
	return true
}

// keepSilent gives nothing up while the announcers say nothing: if the others have not missed this node, it goes on where it
// was, and if they have, their claims are the younger ones. By BGP it speaks on: nobody else's paths are in the way of its own.
func (s *Speaker) keepSilent(snap lb.Snapshot, decisions, routes []announce.Decision, now time.Time) {
	s.tell(s.newStatus(s.self(), snap, decisions, routes), now)
	s.beat.Store(time.Now().UnixNano())
}

func (s *Speaker) newStatus(self lb.Member, snap lb.Snapshot, decisions, routes []announce.Decision) *Status {
	node, known := snap.Nodes[s.o.Node]
	st := &Status{Node: s.o.Node, Draining: self.Draining, Ready: self.Ready, Eligible: known && !node.Deleting, Joined: len(snap.Members) > 0,
		Members: snap.Members, Decisions: decisions, Routes: routes}
	report := s.reportBGP()
	st.Sessions, st.PeerAddrs = sessions(s.speech.wanted, report)
	st.Opening = s.speech.opening.awaited
	st.Speaking = s.speech.wanted.Seq > 0 && len(s.speech.wanted.Peers) > 0
	st.Farewell, st.Told, st.DrainBy = silent(s.speech.wanted), report.Seq >= s.speech.wanted.Seq, longestDrain(snap.BGPPeers)
	st.Rivals, st.NoTunnel, st.Tunnels = s.rivals, snap.NoTunnel, s.tunnels.results
	return st
}

// split parts the decisions about layer 2 from those about BGP.
func split(all []announce.Decision) (layer2, routes []announce.Decision) {
	if !slices.ContainsFunc(all, func(d announce.Decision) bool { return d.Via == announce.BGP }) {
		return all, nil
	}
	for _, d := range all {
		if d.Via == announce.BGP {
			routes = append(routes, d)
		} else {
			layer2 = append(layer2, d)
		}
	}
	return layer2, routes
}

// wakeAfter has the next step begin after d at the latest, if d is not 0.
func (s *Speaker) wakeAfter(d time.Duration) {
	if s.wake != nil {
		s.wake.Stop()
		s.wake = nil
	}
	if d > 0 {
		s.wake = time.AfterFunc(d, s.Trigger)
	}
}

// refresh reads again what has changed: the API server's facts and the links.
func (s *Speaker) refresh(ctx context.Context) error {
	s.heardAt, s.slight = 0, false
	links := s.linksChanged.Swap(false)
	if links {
		list, err := s.o.Links.Links()
		if err != nil {
			s.linksChanged.Store(true)
			s.o.Log.Warn("links not read", "err", err)
			return err
		}
		s.setLinks(list)
		s.readKernel() // what has changed may be an address
	}
	if heard := s.heard.Swap(0); heard != 0 {
		ctx, cancel := context.WithTimeout(ctx, factsTimeout)
		defer cancel()
		facts, err := s.o.Facts.Facts(ctx)
		if err != nil {
			s.heard.Store(heard)
			level := slog.LevelWarn
			if !s.haveFacts {
				level = slog.LevelInfo // the cache is filling
			}
			s.o.Log.Log(ctx, level, "facts not read", "err", err)
			return err
		}
		s.slight = !links && s.haveFacts && slight(s.facts, facts)
		s.facts, s.haveFacts, s.heardAt = facts, true, heard
	}
	return nil
}

// self is what this node says about itself, its claims as of the last step.
func (s *Speaker) self() lb.Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	failing := s.report.failing
	if s.o.Engine == nil {
		failing = announce.Unserved(s.facts.Services, s.checks)
	}
	suspects := s.suspects()
	alive := maps.Clone(suspects)
	maps.DeleteFunc(alive, func(_ lb.NodeName, alive bool) bool { return !alive })
	return lb.Member{
		Node: s.o.Node, Draining: s.draining.Load(), Ready: s.haveFacts && s.report.ready, News: s.report.ready && s.engineName() == "nft",
		Links: s.usable, Claims: s.ledger.epochs(), Failing: failing, Suspects: slices.Sorted(maps.Keys(suspects)),
		Alive: slices.Sorted(maps.Keys(alive)),
	}
}

// snapshot gathers all facts. If some of them change by themselves, again says when.
func (s *Speaker) snapshot(now time.Time, known map[lb.NodeName]netip.Addr, fenced bool) (snap lb.Snapshot, again time.Duration) {
	if s.o.Forwarder != nil {
		s.checks = s.o.Forwarder.Answers()
	}
	self := s.self()
	members := slices.Clone(s.o.Gossip.Members())
	for i := range members {
		if members[i].Node == s.o.Node {
			members[i] = self
		}
	}
	s.watch(members, known)
	conflicts := s.wire.conflicts()
	s.mu.Lock()
	programmed := s.report.programmed
	s.mu.Unlock()
	snap = lb.Snapshot{
		Self: s.o.Node, Services: s.facts.Services, Endpoints: s.facts.Endpoints, Nodes: s.facts.Nodes, Pools: s.facts.Pools, L2: s.facts.L2,
		BGP: s.facts.BGP, BGPPeers: s.facts.BGPPeers,
		Members: members, Links: self.Links, Segments: s.links, Programmed: programmed, Forwards: s.o.Engine != nil, Forwarding: s.o.Forwarding, Others: s.facts.Others, Addrs: s.addrs, Conflicts: conflicts,
		Down: election.Down(members, s.o.Node), Epochs: s.ledger.seen, LeaveOnCordon: s.o.LeaveOnCordon,
		Fenced: fenced, HealthChecks: s.checks, Announced: s.announced,
	}
	expected := slices.Collect(maps.Keys(s.facts.Speakers))
	snap.Steady = s.steady.observe(members, snap.Down, now)
	after := s.relays.observe(&snap, expected, known, now)
	snap.Leaving = s.speech.leaving.observe(snap, now)
	snap.Settling, again = s.settling.awaited(s.o.Node, members, expected, now)
	return snap, sooner(sooner(sooner(again, after), nextFailback(snap.L2, snap.Steady)), nextDrain(snap))
}

// tell publishes st and reports what has changed since the last one: a log line and an Event each.
func (s *Speaker) tell(st *Status, now time.Time) {
	last := s.status.Load().Decisions
	before := make(map[netip.Addr]announce.Decision, len(last))
	for _, d := range last {
		before[d.VIP] = d
	}
	s.tellRoutes(s.status.Swap(st), st, now)
	s.reports.Trigger()
	for _, d := range st.Decisions {
		old := before[d.VIP]
		delete(before, d.VIP)
		switch {
		case d.Announce && !old.Announce && old.Reason == lb.Fenced, old.Announce && d.Reason == lb.Fenced:
			s.metrics.changes.Inc() // nothing for the Service's owner: the address is where it was, or another node says that it has it
		case d.Announce && !old.Announce:
			s.changed(d, now, EventAnnouncing, fmt.Sprintf("%s announces %s on %s", s.o.Node, d.VIP, strings.Join(d.Interfaces, ", ")))
		case !d.Announce && old.Announce:
			s.changed(d, now, EventWithdrawn, fmt.Sprintf("%s no longer announces %s: %s", s.o.Node, d.VIP, d.Message))
		}
	}
	for _, old := range before {
		if old.Announce {
			s.metrics.changes.Inc()
			s.changes.note(old, false, given(), now)
			s.o.Log.Info("address withdrawn", "vip", old.VIP, "services", names(old.Services))
		}
	}
}

func (s *Speaker) changed(d announce.Decision, now time.Time, reason, message string) {
	s.metrics.changes.Inc()
	s.changes.note(d, d.Announce, lb.Refusal{Reason: d.Reason, Message: d.Message}, now)
	if d.Announce {
		s.o.Log.Info("address announced", "vip", d.VIP, "services", names(d.Services), "ifaces", d.Interfaces)
	} else {
		s.o.Log.Info("address withdrawn", "vip", d.VIP, "services", names(d.Services), "reason", d.Reason, "owner", d.Owner)
	}
	for _, svc := range d.Services {
		s.o.Events.Event(svc, false, reason, message)
	}
}

func names(services []lb.ServiceKey) []string {
	out := make([]string, 0, len(services))
	for _, svc := range services {
		out = append(out, svc.String())
	}
	return out
}

func others(snap lb.Snapshot) []lb.Member {
	return slices.DeleteFunc(slices.Clone(snap.Members), func(m lb.Member) bool { return m.Node == snap.Self })
}

// targets joins the decisions to announce with the claims to their addresses; when again grows, all are announced anew.
func targets(decisions []announce.Decision, claims []lb.Claim, again uint64) map[netip.Addr]announce.Target {
	out := make(map[netip.Addr]announce.Target, len(claims))
	for _, c := range claims {
		out[c.Addr] = announce.Target{Epoch: c.Epoch, Again: again, Probe: mustProbe(c)}
	}
	for _, d := range decisions {
		if d.Announce {
			t := out[d.VIP]
			t.Interfaces = d.Interfaces
			out[d.VIP] = t
		}
	}
	return out
}

// interfaces returns where each address is announced.
func interfaces(reached map[netip.Addr]announce.Target) map[netip.Addr][]string {
	out := make(map[netip.Addr][]string, len(reached))
	for addr, t := range reached {
		out[addr] = t.Interfaces
	}
	return out
}

// refuseUnreached turns decisions that the announcer has not carried out, or not yet, into refusals.
func refuseUnreached(decisions []announce.Decision, want, reached map[netip.Addr]announce.Target, conflicts map[netip.Addr]lb.MAC) []announce.Decision {
	for i, d := range decisions {
		if _, ok := reached[d.VIP]; !d.Announce || ok {
			continue
		}
		on := strings.Join(d.Interfaces, ", ")
		mac, taken := conflicts[d.VIP]
		var r lb.Refusal
		switch {
		case taken:
			r = lb.Refusal{Reason: lb.AddressConflict, Message: fmt.Sprintf("%s answers for %s and is no speaker: %s", hardware(mac), d.VIP, wayOut)}
		case want[d.VIP].Probe:
			r = lb.Refusal{Reason: lb.Probing, Message: fmt.Sprintf("asking on %s whether somebody has %s already, which takes 0.3 s", on, d.VIP)}
		default:
			r = lb.Refusal{Reason: lb.AnnouncementRefused, Message: fmt.Sprintf("no working socket for %s on %s", d.VIP, on)}
		}
		decisions[i].Announce, decisions[i].Interfaces, decisions[i].Reason, decisions[i].Message = false, nil, r.Reason, r.Message
	}
	return decisions
}
