package main

import (
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fairlead-lb/fairlead/test/bed"
)

const (
	heartbeat  = 50 * time.Millisecond
	settleTime = 30 * time.Second // speakers that do not agree after this have failed
)

// contender is a group of nodes that share addresses, and what is done to one of them in a trial.
type contender struct {
	name   string
	cut    func(i int)
	revive func(i int)
	owners func() map[netip.Addr]int // waits until the group is whole and quiet
	alarms func(but int) float64     // false alarms that the others' speakers have raised so far; nil if it has no speakers
}

// speakers starts a group of speakers on nodes first to first+n-1 with addresses of their own.
func speakers(l *bed.LAN, name string, n int, o bed.NodeOptions) contender {
	o.Peers = nil
	for i := range n {
		o.Peers = append(o.Peers, o.Number+i)
	}
	o.IPv6 = true
	start := func(i int) {
		o := o
		o.Number = i
		l.Start(o)
	}
	for _, i := range o.Peers {
		start(i)
	}
	return contender{
		name:   name,
		cut:    l.Cut,
		revive: func(i int) { l.Remove(i); start(i) },
		owners: func() map[netip.Addr]int { return l.Settled(settleTime, o.Peers...) },
		alarms: func(but int) (n float64) {
			for _, i := range o.Peers {
				if i != but {
					n += falseAlarms(l.Metrics(i))
				}
			}
			return n
		},
	}
}

// falseAlarms reads how many false alarms a speaker has raised. While one is less than five minutes old its detection takes twice as long.
func falseAlarms(metrics string) (n float64) {
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "fairlead_bfd_false_alarms_total") && strings.Contains(line, "heartbeat") {
			_, value, _ := strings.Cut(line, "} ")
			n, _ = strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return n
}

// keepaliveds starts three nodes with keepalived, and an address of each family.
func keepaliveds(l *bed.LAN, name string, first, router int, tuned bool) contender {
	addrs := []netip.Addr{bed.VIP(1000 + first), bed.VIP6(1000 + first)}
	var ready time.Time
	start := func(i int) {
		l.Boot(bed.NodeOptions{Number: i})
		l.Keepalive(i, bed.Keepalived{Router: router, Priority: 254 - 24*(i-first), Addrs: addrs, Tuned: tuned})
		ready = time.Now().Add(2 * time.Second) // it has loaded its configuration and heard the others
	}
	for i := range 3 {
		start(first + i)
	}
	return contender{
		name:   name,
		cut:    l.Cut,
		revive: func(i int) { l.Remove(i); start(i) },
		owners: func() map[netip.Addr]int {
			time.Sleep(time.Until(ready))
			return l.Owners(settleTime, addrs...)
		},
	}
}

// compare measures the outage of each contender in turn, trial by trial.
func (b *bench) compare(name string, contenders []contender) {
	for trial := range b.c.trials {
		for _, c := range contenders {
			node, addrs := victim(c.owners(), trial)
			seen := outages(addrs, bed.NodeName(node), func() { c.cut(node) })
			for _, addr := range addrs {
				before, after := seen[addr].gaps()
				b.out.add(name+"."+c.name+"."+family(addr)+".outage", "ms", after)
				b.out.add(name+".longest-gap-before", "ms", before)
			}
			if c.alarms != nil {
				b.out.add(name+"."+c.name+".false-alarms-so-far", "alarms", c.alarms(node))
			}
			c.revive(node)
		}
		b.logf("%s: trial %d of %d", name, trial+1, b.c.trials)
	}
}

// ratios compares the medians of a with those of the others, for each family.
func (b *bench) ratios(name, a string, others ...string) {
	for _, family := range []string{"ipv4", "ipv6"} {
		for _, other := range others {
			ours, theirs := b.out.find(name+"."+a+"."+family+".outage"), b.out.find(name+"."+other+"."+family+".outage")
			if ours != nil && theirs != nil {
				b.out.add(name+"."+a+"."+family+".to-"+other, "ratio", ours.quantile(0.5)/theirs.quantile(0.5))
			}
		}
	}
}

// power: what the owner loses is its power.
func power(b *bench) {
	l := bed.New(b)
	contenders := []contender{
		speakers(l, "speakers-3", 3, bed.NodeOptions{Number: 1, First: 0, VIPs: 6, Heartbeat: heartbeat}),
		speakers(l, "speakers-5", 5, bed.NodeOptions{Number: 11, First: 20, VIPs: 10, Heartbeat: heartbeat}),
	}
	if b.c.reference {
		contenders = append(contenders, keepaliveds(l, "keepalived", 31, 51, false), keepaliveds(l, "keepalived-tuned", 41, 52, true))
	}
	b.compare("power", contenders)
	b.ratios("power", "speakers-3", "keepalived", "keepalived-tuned")
	b.ratios("power", "speakers-5", "keepalived", "keepalived-tuned")
}

// memberlist is power without the fast detector.
func memberlist(b *bench) {
	l := bed.New(b)
	b.compare("memberlist", []contender{
		speakers(l, "speakers-3", 3, bed.NodeOptions{Number: 1, First: 0, VIPs: 6}),
		speakers(l, "speakers-5", 5, bed.NodeOptions{Number: 11, First: 20, VIPs: 10}),
	})
}

// process: the owner's speaker is killed; its node forwards on, but nobody answers for the address there.
func process(b *bench) {
	l := bed.New(b)
	c := speakers(l, "speakers-3", 3, bed.NodeOptions{Number: 1, VIPs: 6, Heartbeat: heartbeat})
	c.cut = func(i int) { l.End(i, syscall.SIGKILL) }
	c.revive = l.Speak
	b.compare("process", []contender{c})
}

// link: the owner loses the link on which it announces and keeps its management link; the speakers talk over either.
func link(b *bench) {
	l := bed.New(b)
	var contenders []contender
	for i, over := range []string{"gossip-over-the-same", "gossip-over-management"} {
		o := bed.NodeOptions{Number: 1 + 10*i, First: 20 * i, VIPs: 6, Heartbeat: heartbeat, Management: true, GossipOverMgmt: i == 1}
		c := speakers(l, over, 3, o)
		c.cut = func(i int) { l.Plug(i, false) }
		c.revive = func(i int) { l.Plug(i, true) }
		contenders = append(contenders, c)
	}
	b.compare("link", contenders)
}
