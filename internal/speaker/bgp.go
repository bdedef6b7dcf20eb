package speaker

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/lb"
)

// BGP runs the sessions, in a process of its own. Set says what is wanted from now on and does not block; Report returns what has
// become of it. Whoever implements it calls [Speaker.Trigger] when the report has changed.
type BGP interface {
	Set(bgp.State)
	Report() bgp.Report
}

// The reasons of the Events on BGPPeers.
const (
	EventSessionUp   = "SessionUp"
	EventSessionDown = "SessionDown"
)

const (
	// tellPatience bounds how long the datapath keeps an address for the peers that have not been told of its end: a process that
	// does not report for that long has lost its sessions too.
	tellPatience = 2 * time.Second

	// openingPatience bounds how long the pod is not ready because of sessions that have not come up: a router that is away must
	// not stop a rollout.
	openingPatience = 10 * time.Second

	// byePatience bounds how long the end of the process waits, after the peers' drainWait, for the last messages to go out.
	byePatience = time.Second

	// longestGoodbye bounds the drain at the end of the process, whatever the peers' drainWait: the chart gives the pod 30 s, and the
	// process with the sessions does not wait for longer than 20 s.
	longestGoodbye = 18 * time.Second
)

// speech is what this node says by BGP. It belongs to the goroutine of the steps.
type speech struct {
	wanted  bgp.State
	routes  []announce.Decision // that wanted was made of
	snap    lb.Snapshot         // and these facts
	leaving leaving
	parting parting
	opening opening
}

// opening says whether sessions are still to come up for the first time in this process. Until then the pod is not ready, so that a
// rollout does not take the next node's paths away before this one's are back. It is pure: time is an argument.
type opening struct {
	awaited bool
	since   time.Time // when sessions were first wanted; zero = not yet
	over    bool      // and never begins again in this process
}

// observe takes in the sessions that are wanted, and returns how long they may still be awaited; 0 = they are not. Ready says that
// the node could announce something by now.
func (o *opening) observe(sessions []bgp.Session, ready bool, now time.Time) time.Duration {
	o.awaited = false
	if o.over || !ready {
		return 0
	}
	if o.since.IsZero() {
		o.since = now
	}
	left := openingPatience - now.Sub(o.since)
	o.awaited = left > 0 && slices.ContainsFunc(sessions, func(x bgp.Session) bool { return x.State != bgp.Established })
	if o.over = !o.awaited; o.over {
		return 0
	}
	return left
}

// leaving measures since when this node is about to leave. It is pure: time is an argument.
type leaving struct {
	known bool      // whether it is was known before
	since time.Time // zero = it is not
	long  bool      // it was so before this process started
}

// observe returns how long the node has been about to leave by now.
func (l *leaving) observe(s lb.Snapshot, now time.Time) time.Duration {
	leaves, known := announce.Leaves(s)
	switch {
	case !known:
	case !leaves:
		*l = leaving{known: true}
	case !l.known:
		l.known, l.long, l.since = true, true, now
	case l.since.IsZero():
		l.since = now
	}
	switch {
	case l.long:
		return announce.LongGone
	case l.since.IsZero():
		return 0
	}
	return now.Sub(l.since)
}

// nextDrain returns when the wait of the next peer will be over; 0 = of none.
func nextDrain(s lb.Snapshot) time.Duration {
	var next time.Duration
	if leaves, _ := announce.Leaves(s); !leaves {
		return 0
	}
	for _, p := range s.BGPPeers {
		if p.DrainWait > s.Leaving {
			next = sooner(next, p.DrainWait-s.Leaving)
		}
	}
	return next
}

// speak has the peers told what the decisions say, and returns them as the report bears them out. No session is opened before the
// datapath has worked through the first facts: peers that have kept our paths over a restart drop those that they do not hear at
// once then.
func (s *Speaker) speak(snap lb.Snapshot, routes []announce.Decision, now time.Time) []announce.Decision {
	if s.o.BGP == nil {
		return refuseUnheard(routes, bgp.Report{})
	}
	s.mu.Lock()
	worked, ready := s.report.worked, s.report.ready
	s.mu.Unlock()
	if s.haveFacts && (worked || s.o.Engine == nil) {
		want := bgp.Desired(snap, routes)
		want.Complete, want.Preserved, want.Keep = ready, ready, announce.Restarts(snap)
		want.Seq = s.speech.wanted.Seq
		if want.Seq == 0 || !want.Equal(s.speech.wanted) {
			want.Seq++
			s.speech.parting.begin(s.speech.routes, s.speech.snap, snap, want.Seq, now)
			s.speech.wanted = want
			s.o.BGP.Set(want)
		}
		s.speech.routes, s.speech.snap = routes, snap
	}
	return refuseUnheard(routes, s.o.BGP.Report())
}

// refuseUnheard turns decisions of which no peer can have heard into refusals. The list is not written to.
func refuseUnheard(routes []announce.Decision, report bgp.Report) []announce.Decision {
	up := map[string]bool{}
	why := map[string]string{}
	for _, x := range report.Sessions {
		up[x.Peer] = x.State == bgp.Established
		why[x.Peer] = fmt.Sprintf("the session with BGPPeer %s is %s; %s", x.Peer, x.State, lb.Refusal{Reason: x.Reason, Message: x.Message})
	}
	out := slices.Clone(routes)
	for i, d := range out {
		if !d.Announce || slices.ContainsFunc(d.Tell, func(t announce.Telling) bool { return up[t.Peer] }) {
			continue
		}
		message := unreported
		if text, ok := why[d.Tell[0].Peer]; ok {
			message = text
		}
		out[i].Announce, out[i].Tell, out[i].Reason, out[i].Message = false, nil, lb.NoSession, message
	}
	return out
}

// parting holds what has left the API server's facts and that peers may still send packets for. The datapath keeps it until they
// have been told. It is pure: time is an argument.
type parting struct {
	held []held
}

type held struct {
	service   lb.Service // with this one address
	endpoints []lb.Endpoint
	seq       uint64 // of the State without it
	until     time.Time
}

// begin holds the addresses that routes announced with the facts of before and that no Service has now.
func (p *parting) begin(routes []announce.Decision, before, now lb.Snapshot, seq uint64, at time.Time) {
	has := map[lb.Ingress]bool{}
	for _, svc := range now.Services {
		for _, in := range svc.Ingress {
			has[in] = true
		}
	}
	services := map[lb.ServiceKey]lb.Service{}
	for _, svc := range before.Services {
		services[svc.Key] = svc
	}
	for _, d := range routes {
		if !d.Announce {
			continue
		}
		for _, key := range d.Services {
			svc := services[key]
			for _, in := range svc.Ingress {
				if in.Addr == d.VIP && !has[in] {
					svc.Ingress = []lb.Ingress{in}
					p.held = append(p.held, held{svc, before.Endpoints.Of(key), seq, at.Add(tellPatience)})
				}
			}
		}
	}
}

// with returns the facts for the datapath: those of s and what is still held. Again says when to look again at the latest, 0 = no
// need.
func (p *parting) with(s lb.Snapshot, told uint64, now time.Time) (out lb.Snapshot, again time.Duration) {
	p.held = slices.DeleteFunc(p.held, func(h held) bool { return told >= h.seq || !now.Before(h.until) })
	if len(p.held) == 0 {
		return s, 0
	}
	out = s
	out.Services = slices.Clone(s.Services)
	lists := map[lb.ServiceKey][]lb.Endpoint{}
	for _, h := range p.held {
		out.Services = append(out.Services, h.service)
		if cmp.Or(find(s.Services, h.service.Key), find(s.Others, h.service.Key)) == nil {
			lists[h.service.Key] = h.endpoints
		}
		again = sooner(again, h.until.Sub(now))
	}
	out.Endpoints = s.Endpoints.With(lists)
	slices.SortStableFunc(out.Services, func(a, b lb.Service) int { return a.Key.Compare(b.Key) })
	return out, again
}

// awaitSessions returns how long the first sessions may still be awaited; 0 = they are not.
func (s *Speaker) awaitSessions(now time.Time) time.Duration {
	s.mu.Lock()
	ready := s.haveFacts && s.report.ready
	s.mu.Unlock()
	list, _ := sessions(s.speech.wanted, s.reportBGP())
	return s.speech.opening.observe(list, ready, now)
}

// reportBGP returns how the sessions are; without BGP there are none.
func (s *Speaker) reportBGP() bgp.Report {
	if s.o.BGP == nil {
		return bgp.Report{}
	}
	return s.o.BGP.Report()
}

// sessions returns one for each peer that is wanted, also of those that nothing has been reported of, and where the peers are.
func sessions(want bgp.State, report bgp.Report) ([]bgp.Session, map[string]string) {
	out := make([]bgp.Session, 0, len(want.Peers))
	addrs := make(map[string]string, len(want.Peers))
	for _, p := range want.Peers {
		addrs[p.Name] = p.Interface
		if p.Addr.IsValid() {
			addrs[p.Name] = p.Addr.String()
		}
		i := slices.IndexFunc(report.Sessions, func(x bgp.Session) bool { return x.Peer == p.Name })
		switch {
		case i >= 0:
			out = append(out, report.Sessions[i])
		case !p.Held.OK():
			out = append(out, bgp.Session{Peer: p.Name, State: bgp.Idle, Reason: p.Held.Reason, Message: p.Held.Message})
		default:
			out = append(out, bgp.Session{Peer: p.Name, State: bgp.Idle, Reason: lb.NoSession, Message: unreported})
		}
	}
	return out, addrs
}

// unreported says why there is no session that nothing is known of.
const unreported = "the process that runs the sessions has not reported; see the log of its container"

// tellRoutes reports what has changed between two statuses: log lines about addresses, and Events about sessions. There is no
// Event for each address: every node announces each of them.
func (s *Speaker) tellRoutes(old, now *Status, at time.Time) {
	before := map[string]announce.Decision{}
	for _, d := range old.Routes {
		before[d.VIP.String()] = d
	}
	for _, d := range now.Routes {
		was := before[d.VIP.String()]
		delete(before, d.VIP.String())
		if d.Announce != was.Announce {
			s.changes.note(d, d.Announce, lb.Refusal{Reason: d.Reason, Message: d.Message}, at)
		}
		switch {
		case d.Announce && (!was.Announce || d.Drains() != was.Drains()):
			s.o.Log.Info("address announced", "vip", d.VIP, "services", names(d.Services), "peers", d.Peers(), "drain", d.Drains())
		case !d.Announce && was.Announce:
			s.o.Log.Info("address withdrawn", "vip", d.VIP, "services", names(d.Services), "reason", d.Reason, "peers", was.Peers())
		}
	}
	for _, was := range before {
		if was.Announce {
			s.changes.note(was, false, given(), at)
			s.o.Log.Info("address withdrawn", "vip", was.VIP, "services", names(was.Services), "peers", was.Peers())
		}
	}
	for _, x := range now.Sessions {
		i := slices.IndexFunc(old.Sessions, func(o bgp.Session) bool { return o.Peer == x.Peer })
		was := i >= 0 && old.Sessions[i].State == bgp.Established
		switch up := x.State == bgp.Established; {
		case up && !was:
			s.o.Log.Info("session up", "peer", x.Peer, "asn", x.PeerASN, "routerID", x.PeerID)
			s.o.Events.PeerEvent(x.Peer, false, EventSessionUp, fmt.Sprintf("%s has a session with %s (AS %d)", s.o.Node, x.Peer, x.PeerASN))
		case was && !up:
			s.o.Log.Warn("session down", "peer", x.Peer, "reason", x.Reason, "err", x.LastError)
			s.o.Events.PeerEvent(x.Peer, true, EventSessionDown, strings.TrimSpace(fmt.Sprintf("%s has lost its session with %s: %s", s.o.Node, x.Peer, x.LastError)))
		}
	}
}

// drainedBGP reports whether the peers have been told of the drain as far as they shall be, as of st.
func (st *Status) drainedBGP() bool {
	return !st.Speaking || st.Farewell && st.Told
}

// farewell closes the sessions, but for those that shall be kept over a restart. The steps have ended.
func (s *Speaker) farewell() {
	if s.o.BGP == nil || s.speech.wanted.Seq == 0 {
		return
	}
	last := s.speech.wanted
	last.Seq++
	last.Peers = slices.Clone(last.Peers)
	last.Peers = slices.DeleteFunc(last.Peers, func(p bgp.Peer) bool { return !(last.Keep && p.GracefulRestart) })
	s.o.BGP.Set(last)
	for start := time.Now(); time.Since(start) < byePatience && s.o.BGP.Report().Seq < last.Seq; {
		time.Sleep(stepRest)
	}
}

// silent reports whether nothing is wanted any more of the peers that are not kept over a restart.
func silent(want bgp.State) bool {
	return !slices.ContainsFunc(want.Peers, func(p bgp.Peer) bool { return len(p.Paths) > 0 && !(want.Keep && p.GracefulRestart) })
}

// longestDrain is how long the drain of BGP may take at most when the process ends.
func longestDrain(peers []lb.BGPPeer) time.Duration {
	var d time.Duration
	for _, p := range peers {
		d = max(d, p.DrainWait)
	}
	return min(d+byePatience, longestGoodbye)
}
