package netlab

import (
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/internal/speaker"
	"github.com/fairlead-lb/fairlead/lb"
)

// arp is one ARP packet; hardware addresses are hosts.
type arp struct {
	reply      bool
	sender     *host
	sip, tip   netip.Addr
	gratuitous bool // as Linux sees it: a request for the sender's own address, or a reply with THA = SHA
}

// announcer answers ARP for a node. It stands in for announce/arp and sends the same packets at the same times.
type announcer struct {
	host      *host
	mayAnswer func() bool

	mu  sync.Mutex // guards the following
	set map[netip.Addr]announce.Target
	up  bool
}

var _ speaker.Announcer = (*announcer)(nil)

// schedule is when a gained address is announced.
var schedule = []time.Duration{0, 50 * time.Millisecond, 150 * time.Millisecond, 400 * time.Millisecond, 1100 * time.Millisecond, 2200 * time.Millisecond}

// Set implements speaker.Announcer.
func (a *announcer) Set(want map[netip.Addr]announce.Target) map[netip.Addr]announce.Target {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.up {
		want = nil
	}
	for addr, target := range want {
		if old, had := a.set[addr]; had && old.Epoch == target.Epoch && old.Again == target.Again {
			continue
		}
		for _, at := range schedule {
			time.AfterFunc(at, func() {
				if epoch, still := a.epoch(addr); still && epoch == target.Epoch && a.mayAnswer() {
					a.host.broadcast(arp{sender: a.host, sip: addr, tip: addr, gratuitous: true})
					a.host.broadcast(arp{reply: true, sender: a.host, sip: addr, tip: addr, gratuitous: true})
				}
			})
		}
	}
	a.set = maps.Clone(want)
	return maps.Clone(want)
}

// SetLinks implements speaker.Announcer.
func (a *announcer) SetLinks(links []lb.Link) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.up = len(links) > 0 && links[0].Up
}

// Working implements speaker.Announcer.
func (a *announcer) Working() map[string]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return map[string]bool{eth0: a.up}
}

// Conflicts implements speaker.Announcer: there are no strangers here.
func (a *announcer) Conflicts() map[netip.Addr]lb.MAC { return nil }

func (a *announcer) epoch(addr netip.Addr) (uint64, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	target, ok := a.set[addr]
	return target.Epoch, ok
}

func (a *announcer) take(p arp) {
	if _, owned := a.epoch(p.tip); owned && !p.reply && !p.gratuitous && a.mayAnswer() {
		a.host.send(p.sender.addr, arp{reply: true, sender: a.host, sip: p.tip, tip: p.sip})
	}
}

// neighbours is a neighbour cache with Linux's rules as far as they matter here: a gratuitous packet changes an entry at once,
// another one only if the entry is older than the locktime; an entry whose host is silent is given up after some seconds.
type neighbours map[netip.Addr]neighbour

type neighbour struct {
	host    *host
	at      time.Time // when it was learned
	success time.Time // when it last answered
}

const (
	locktime = time.Second
	giveUp   = 8 * time.Second // delay_first_probe_time and three probes
)

// learn takes in a packet. One that is no answer to a question makes no entry.
func (n neighbours) learn(p arp, now time.Time) {
	old, known := n[p.sip]
	switch {
	case !known && (p.gratuitous || !p.reply):
	case known && !p.gratuitous && now.Sub(old.at) < locktime:
	case !known || old.host != p.sender:
		n[p.sip] = neighbour{p.sender, now, now}
	}
}
