package speaker

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/election"
	"github.com/fairlead-lb/fairlead/lb"
)

// model is a cluster of deciders: the real election, plan, ledger and settling, on a network and failure detectors that are
// reduced to delays. It is made for thousands of histories; internal/netlab runs fewer of them with the real executors.
type model struct {
	r     *rand.Rand
	now   time.Duration
	queue events
	seq   int
	log   []string

	covered bool     // from now on each address must have somebody who answers at every moment
	gaps    []string // when one had nobody

	nodes    []*modelNode
	side     map[lb.NodeName]int // of a partition
	addrs    []netip.Addr
	services []lb.Service
	eps      lb.Endpoints
	known    map[lb.NodeName]lb.Node
	l2       []lb.L2Advertisement
	speakers []lb.NodeName
}

// modelNode is a node with its speaker, if one runs.
type modelNode struct {
	name     lb.NodeName
	running  bool
	paused   bool
	fenced   bool
	draining bool
	process  int // counts its speakers: news for an earlier one is void

	ledger   *ledger
	settling settling
	steady   steadiness
	view     map[lb.NodeName]modelRecord // of the other members
	silent   map[lb.NodeName]bool        // whose heartbeats it misses
	record   modelRecord
	answers  map[netip.Addr]lb.NodeName // what it announces, and the owner by its decision
	pending  bool
	wakeAt   time.Duration
}

type modelRecord struct {
	lb.Member
	version int
}

type event struct {
	at  time.Duration
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

const millisecond = time.Millisecond

// The delays of the model: what the network, the heartbeats (50 ms x 3) and the gossip (200 ms probes) take.
func (m *model) record() time.Duration  { return m.between(millisecond, 20*millisecond) }
func (m *model) detect() time.Duration  { return m.between(150*millisecond, 250*millisecond) }
func (m *model) expire() time.Duration  { return m.between(900*millisecond, 1600*millisecond) }
func (m *model) recover() time.Duration { return m.between(20*millisecond, 120*millisecond) }
func (m *model) rejoin() time.Duration  { return m.between(10*millisecond, 800*millisecond) }

func (m *model) between(from, to time.Duration) time.Duration {
	return from + time.Duration(m.r.Int64N(int64(to-from)))
}

func (m *model) after(d time.Duration, do func()) {
	m.seq++
	heap.Push(&m.queue, event{m.now + d, m.seq, do})
}

func (m *model) note(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf("%s %s", m.now, fmt.Sprintf(format, args...)))
}

// run lets d pass; quiesce lets everything happen that was begun.
func (m *model) run(d time.Duration) {
	end := m.now + d
	for len(m.queue) > 0 && m.queue[0].at <= end {
		e := heap.Pop(&m.queue).(event)
		m.now = e.at
		e.do()
		if m.covered {
			m.cover()
		}
	}
	m.now = end
}

func (m *model) cover() {
	for _, addr := range m.addrs {
		if !slices.ContainsFunc(m.nodes, func(n *modelNode) bool { _, ok := n.answers[addr]; return ok }) {
			m.gaps = append(m.gaps, fmt.Sprintf("%s at %s", addr, m.now))
		}
	}
}

func (m *model) quiesce() bool {
	start := m.now
	for len(m.queue) > 0 && m.now-start < time.Minute {
		m.run(m.queue[0].at - m.now)
	}
	return len(m.queue) == 0
}

func newModel(r *rand.Rand, nodes, addresses int) *model {
	m := &model{r: r, side: map[lb.NodeName]int{}, known: map[lb.NodeName]lb.Node{}, l2: []lb.L2Advertisement{{Name: "all"}}}
	for i := range nodes {
		name := lb.NodeName(fmt.Sprintf("n%d", i+1))
		m.nodes = append(m.nodes, &modelNode{name: name})
		m.speakers = append(m.speakers, name)
		m.known[name] = lb.Node{Name: name, Labels: map[string]string{"name": string(name)}}
	}
	for i := range addresses {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})
		svc := service(lb.ServiceKey{Namespace: "default", Name: fmt.Sprintf("s%02d", i)}, addr)
		m.addrs = append(m.addrs, addr)
		m.services = append(m.services, svc)
		m.eps.Set(svc.Key, []lb.Endpoint{endpoint("n1")})
	}
	return m
}

// start begins a new process on n, which finds the others after a while.
func (m *model) start(n *modelNode) {
	m.note("start %s", n.name)
	*n = modelNode{name: n.name, running: true, process: n.process + 1, ledger: newLedger(), steady: steadiness{},
		view: map[lb.NodeName]modelRecord{}, silent: map[lb.NodeName]bool{}, answers: map[netip.Addr]lb.NodeName{}, record: modelRecord{version: 1000 * (n.process + 1)}}
	n.record.Node = n.name
	m.connectivity()
	m.dirty(n)
}

// stop ends the process without a word.
func (m *model) stop(n *modelNode) {
	m.note("stop %s", n.name)
	n.running, n.answers = false, nil
	n.process++
	m.connectivity()
}

// drain ends the process as a shutdown does.
func (m *model) drain(n *modelNode) {
	m.note("drain %s", n.name)
	n.draining = true
	m.dirty(n)
	began, process := m.now, n.process
	var check func()
	check = func() {
		if n.process != process {
			return
		}
		waits := false
		for _, owner := range n.answers {
			waits = waits || owner != "" && owner != n.name
		}
		if (waits || n.paused || m.now-began < 20*millisecond) && m.now-began < 5*time.Second {
			m.after(10*millisecond, check)
			return
		}
		n.answers, n.running = nil, false
		n.process++
		for _, o := range m.nodes { // it says goodbye
			m.news(o, m.record(), func() bool {
				if !n.running {
					delete(o.view, n.name)
					delete(o.silent, n.name)
				}
				return true
			})
		}
		m.note("drained %s", n.name)
	}
	m.after(10*millisecond, check)
}

func (m *model) pause(n *modelNode, d time.Duration) {
	m.note("pause %s %s", n.name, d)
	n.paused = true
	m.connectivity()
	process := n.process
	m.after(d, func() {
		if n.process != process {
			return
		}
		m.note("wake %s", n.name)
		n.paused = false
		n.fenced = d >= 150*millisecond
		m.connectivity()
		m.dirty(n)
	})
}

func (m *model) partition(sides map[lb.NodeName]int) {
	m.note("partition %v", sides)
	m.side = sides
	m.connectivity()
}

func (m *model) reach(a, b *modelNode) bool {
	return a.running && b.running && !a.paused && !b.paused && m.side[a.name] == m.side[b.name]
}

// connectivity has every node find out, each in its time, whom it can hear now.
func (m *model) connectivity() {
	for _, a := range m.nodes {
		for _, b := range m.nodes {
			if a == b {
				continue
			}
			if m.reach(a, b) {
				m.news(a, m.recover(), func() bool {
					news := m.reach(a, b) && (a.silent[b.name] || a.fenced)
					if news {
						delete(a.silent, b.name)
						a.fenced = false
					}
					return news
				})
				m.news(a, m.rejoin(), func() bool { return m.receive(a, b, b.record) })
				continue
			}
			m.news(a, m.detect(), func() bool {
				_, member := a.view[b.name]
				news := member && !m.reach(a, b) && !a.silent[b.name]
				if news {
					a.silent[b.name] = true
				}
				return news
			})
			m.news(a, m.expire(), func() bool {
				_, member := a.view[b.name]
				news := member && !m.reach(a, b)
				if news {
					delete(a.view, b.name)
				}
				return news
			})
		}
	}
	for _, n := range m.nodes { // who is alone gets no answer, and goes on after a while
		if n.fenced {
			m.news(n, time.Second, func() bool { n.fenced = false; return true })
		}
	}
}

// news has something happen to n after d, unless its process has ended by then, and n look at it if that says so.
func (m *model) news(n *modelNode, d time.Duration, do func() bool) {
	process := n.process
	m.after(d, func() {
		if !n.running || n.process != process {
			return
		}
		if n.paused { // it comes when it wakes
			m.news(n, 50*millisecond, do)
			return
		}
		if do() {
			m.dirty(n)
		}
	})
}

func (m *model) receive(to, from *modelNode, r modelRecord) bool {
	old, ok := to.view[from.name]
	news := m.reach(to, from) && (!ok || r.version > old.version)
	if news {
		to.view[from.name] = r
	}
	return news
}

// dirty has n step soon, once.
func (m *model) dirty(n *modelNode) {
	if n.pending {
		return
	}
	n.pending = true
	m.after(m.between(0, 10*millisecond), func() {
		n.pending = false
		if n.running && !n.paused {
			m.step(n)
		}
	})
}

// step is Speaker.step without executors.
func (m *model) step(n *modelNode) {
	at := time.Unix(1000, 0).Add(m.now)
	self := lb.Member{Node: n.name, Ready: true, Draining: n.draining, Links: modelLinks, Claims: n.ledger.epochs()}
	members := []lb.Member{self}
	for _, r := range n.view {
		members = append(members, r.Member)
	}
	slices.SortFunc(members, func(a, b lb.Member) int { return strings.Compare(string(a.Node), string(b.Node)) })
	for _, peer := range election.Sessions(n.name, m.speakers) {
		if n.silent[peer] {
			self.Suspects = append(self.Suspects, peer)
		}
	}
	i := slices.IndexFunc(members, func(o lb.Member) bool { return o.Node == n.name })
	members[i] = self
	snap := lb.Snapshot{Self: n.name, Services: m.services, Endpoints: m.eps, Nodes: m.known, L2: m.l2, Members: members, Links: modelLinks,
		Down: election.Down(members, n.name), Epochs: n.ledger.seen, Fenced: n.fenced, LeaveOnCordon: true}
	snap.Steady = n.steady.observe(members, snap.Down, at)
	var again time.Duration
	snap.Settling, again = n.settling.awaited(n.name, members, m.speakers, at)
	decisions := announce.Plan(snap)
	if n.fenced {
		n.answers = map[netip.Addr]lb.NodeName{}
		return
	}
	claims, later := n.ledger.claims(n.name, decisions, others(snap), at)
	m.wake(n, sooner(sooner(again, later), nextFailback(m.l2, snap.Steady)))
	n.answers = map[netip.Addr]lb.NodeName{}
	for _, d := range decisions {
		if d.Announce {
			n.answers[d.VIP] = d.Owner
		}
	}
	self.Claims = claims
	if r := n.record; slices.Equal(r.Claims, claims) && slices.Equal(r.Suspects, self.Suspects) && r.Draining == self.Draining && r.Ready == self.Ready {
		return
	}
	n.record = modelRecord{self, n.record.version + 1}
	for _, o := range m.nodes {
		if r := n.record; o != n {
			m.news(o, m.record(), func() bool { return m.receive(o, n, r) })
		}
	}
}

var modelLinks = []lb.Link{{Name: "eth0", Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}

func (m *model) wake(n *modelNode, d time.Duration) {
	if d == 0 || n.wakeAt > m.now && n.wakeAt <= m.now+d {
		return
	}
	n.wakeAt = m.now + d
	m.after(d, func() { m.dirty(n) })
}
