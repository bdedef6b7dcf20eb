package tunnel

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// The pace of the probes.
const (
	every  = 10 * time.Second // between two asks while answers come, or while it is clear that none does
	soon   = time.Second      // between two asks while it is not clear
	lost   = 8                // asks in a row without an answer until a path counts as blocked: what follows from that breaks connections
	proven = 3                // answers in a row until a path that was blocked no longer is
	stale  = 3 * every        // what a peer asked longer ago proves nothing
)

// Peer is another node with a speaker, in one address family.
type Peer struct {
	Node lb.NodeName
	Self netip.Addr // of this node
	Host netip.Addr // of the other one, as the API server has it

	Asked bool // it has endpoints to which packets would be tunnelled
}

func (p Peer) key() key { return key{p.Node, lb.FamilyOf(p.Host)} }

type key struct {
	node   lb.NodeName
	family lb.Family
}

func (k key) compare(o key) int {
	return cmp.Or(cmp.Compare(k.node, o.node), cmp.Compare(k.family, o.family))
}

// Datagram is an inner IP packet and where the tunnel shall lead it.
type Datagram struct {
	To    netip.Addr
	Inner []byte
}

// Passage says whether packets in a tunnel get through, both ways.
type Passage string

// A Passage is unknown until the first answer, or eight asks without one.
const (
	Unknown  Passage = ""
	Passes   Passage = "passes"
	Blocked  Passage = "blocked"
	Declined Passage = "declined" // they get through, and the peer says that it cannot unpack them
)

// Result is what is known about the way to a peer that is asked.
type Result struct {
	Peer
	ToHost, ToPod Passage
	Pod           netip.Addr // that was asked last; the zero Addr = none, the peer has told of none
	Source        netip.Addr // with which packets to it leave; whoever sends them knows
	Heard         bool       // its own asks have arrived here within the last half minute
}

// Prober asks the peers and answers them. It has no clock and no sockets, and is for one goroutine at a time.
type Prober struct {
	self  lb.NodeName
	epoch uint64 // random, of this process
	asked uint64 // asks so far
	keys  []Key  // the first signs, all are accepted
	peers map[key]*peer
	able  bool // to unpack what is tunnelled
	news  bool // see News
	hurry bool // see Hurry
}

type peer struct {
	Peer
	pods      Pods // that it has told of; they are asked in turn as long as there is no answer
	host, pod path
	heard     time.Time
}

// path is the way to the node's address, or to its pods.
type path struct {
	addr     netip.Addr // that was asked last
	due      time.Time  // when to ask next; zero = never
	nonce    Nonce      // of the last ask
	waits    bool       // for its answer
	missed   int        // asks in a row without an answer
	streak   int        // answers in a row
	answered bool       // ever
	blocked  bool
	declined bool // by the last answer
}

// New returns a Prober for a node. Epoch is a random number that no other process of the node has used.
func New(self lb.NodeName, epoch uint64) *Prober {
	return &Prober{self: self, epoch: epoch, able: true, peers: map[key]*peer{}}
}

// SetKeys replaces the keys. Without any, nothing is asked or answered.
func (p *Prober) SetKeys(keys []Key) { p.keys = slices.Clone(keys) }

// SetAble says whether this node can unpack what others tunnel to it, which it tells them.
func (p *Prober) SetAble(able bool) { p.able = able }

// SetPeers replaces the peers; one that stays keeps what is known about it, also while it is not asked: a Service that is served otherwise
// because a way is blocked would be served as before for a moment. The first asks are spread over a second.
func (p *Prober) SetPeers(peers []Peer, now time.Time) {
	next := make(map[key]*peer, len(peers))
	for _, x := range peers {
		n := p.peers[x.key()]
		switch {
		case n == nil:
			n = &peer{}
			fallthrough
		case n.Peer != x:
			first := now.Add(p.offset(x))
			n.host.lead(n.Host != x.Host, x.Asked, first)
			n.pod.lead(false, x.Asked && n.pods[0].IsValid(), first)
			n.Peer = x
		}
		next[x.key()] = n
	}
	p.peers = next
}

// lead has a path lead elsewhere, or nowhere.
func (w *path) lead(elsewhere, somewhere bool, first time.Time) {
	if elsewhere || !somewhere {
		w.waits = false
	}
	switch {
	case !somewhere:
		w.due = time.Time{}
	case w.due.IsZero(), elsewhere && first.Before(w.due):
		w.due = first
	}
}

// offset keeps the nodes of a large cluster, which all hear of a Service at the same moment, from asking one of them all at once.
func (p *Prober) offset(x Peer) time.Duration {
	h := fnv.New32a()
	h.Write([]byte(p.self))
	h.Write([]byte(x.Node))
	return time.Duration(h.Sum32()) % soon
}

// Tick returns the asks that are due, and when to call again at the latest.
func (p *Prober) Tick(now time.Time) ([]Datagram, time.Time) {
	next := now.Add(every)
	if len(p.keys) == 0 {
		return nil, next
	}
	var out []Datagram
	for _, k := range p.sorted() {
		x := p.peers[k]
		for _, w := range []*path{&x.host, &x.pod} {
			switch {
			case w.due.IsZero():
				continue
			case !now.Before(w.due):
				nonce, before := p.nonce(), w.passage()
				w.ask(nonce, now)
				p.news = p.news || w.passage() != before
				if w.addr = x.Host; w == &x.pod {
					w.addr = x.pods.after(w.missed)
				}
				probe := Packet{Kind: Ask, From: p.self, To: x.Node, Nonce: nonce}
				out = append(out, Datagram{w.addr, probe.Marshal(x.Self, x.Host, p.keys[0])})
			}
			if w.due.Before(next) {
				next = w.due
			}
		}
	}
	return out, next
}

// after returns the pod to ask after so many asks without an answer: one may have gone a moment ago. There must be one.
func (p Pods) after(missed int) netip.Addr {
	n := slices.Index(p[:], netip.Addr{})
	if n < 0 {
		n = len(p)
	}
	return p[missed%n]
}

func (p *Prober) sorted() []key { return slices.SortedFunc(maps.Keys(p.peers), key.compare) }

func (p *Prober) nonce() (out Nonce) {
	p.asked++
	binary.BigEndian.PutUint64(out[:], p.epoch)
	binary.BigEndian.PutUint64(out[8:], p.asked)
	return out
}

// ask notes that an ask is sent now, and that the one before has not been answered.
func (w *path) ask(n Nonce, now time.Time) {
	if w.waits {
		w.missed++
		w.streak = 0
		w.blocked = w.blocked || w.missed >= lost
	}
	pause := soon
	if w.blocked && w.streak == 0 {
		pause = every
	}
	w.nonce, w.waits, w.due = n, true, now.Add(pause)
}

// take notes an answer, if it is to the last ask.
func (w *path) take(n Nonce, declined bool, now time.Time) bool {
	if !w.waits || w.nonce != n {
		return false
	}
	w.waits, w.answered, w.declined, w.missed = false, true, declined, 0
	w.streak++
	if w.streak >= proven {
		w.blocked = false
	}
	w.due = now.Add(soon)
	if !w.blocked {
		w.due = now.Add(every)
	}
	return true
}

func (w *path) passage() Passage {
	switch {
	case w.blocked:
		return Blocked
	case w.declined:
		return Declined
	case w.answered:
		return Passes
	}
	return Unknown
}

// Receive takes the inner packet that came in a tunnel of a family. An ask of a peer has an answer, which is to be sent; the zero
// Datagram is none. It tells of the pods that own returns: those of this node that may be asked at.
func (p *Prober) Receive(inner []byte, family lb.Family, now time.Time, own func(lb.Family) Pods) (Datagram, Drop) {
	probe, drop := Parse(inner, p.keys)
	if drop != "" {
		return Datagram{}, drop
	}
	x := p.peers[key{probe.From, family}]
	switch {
	case x == nil || probe.To != p.self:
		return Datagram{}, DropStranger
	case probe.Kind != Ask:
		return Datagram{}, p.take(x, probe, now)
	}
	x.heard = now
	answer := Packet{Kind: Answer, From: p.self, To: probe.From, Nonce: probe.Nonce, Pods: own(family)}
	if !p.able {
		answer.Kind = Decline
	}
	return Datagram{x.Host, answer.Marshal(x.Self, x.Host, p.keys[0])}, ""
}

// take notes an answer, and the pods that it tells of.
func (p *Prober) take(x *peer, answer Packet, now time.Time) Drop {
	for _, w := range []*path{&x.host, &x.pod} {
		before := w.passage()
		if !w.take(answer.Nonce, answer.Kind == Decline, now) {
			continue
		}
		p.news = p.news || w.passage() != before
		if answer.Pods != x.pods {
			x.pods, p.hurry = answer.Pods, true
			x.pod.lead(true, x.Asked && x.pods[0].IsValid(), now)
		}
		return ""
	}
	return DropStale
}

// Hurry reports whether something has become due, since it was called last, that the last Tick did not know of.
func (p *Prober) Hurry() bool {
	hurry := p.hurry
	p.hurry = false
	return hurry
}

// News reports whether a Passage has changed since it was called last.
func (p *Prober) News() bool {
	news := p.news
	p.news = false
	return news
}

// Results returns what is known about the peers that are asked, sorted by node and family.
func (p *Prober) Results(now time.Time) []Result {
	var out []Result
	for _, k := range p.sorted() {
		x := p.peers[k]
		if !x.Asked {
			continue
		}
		r := Result{Peer: x.Peer, ToHost: x.host.passage(), ToPod: x.pod.passage(), Pod: x.pod.addr, Heard: !x.heard.IsZero() && now.Sub(x.heard) < stale}
		out = append(out, r)
	}
	return out
}
