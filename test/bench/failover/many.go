package main

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/test/bed"
)

const maxAddresses = 8000

// many: the owner of the most addresses loses power; it is node 1, which was alone and so had all of them when two others joined it, unless a
// busy machine has made these take over some.
func many(b *bench) {
	peers := []int{1, 2, 3}
	for range max(1, b.c.trials/10) {
		l := bed.New(b)
		o := bed.NodeOptions{Number: 1, Peers: peers, VIPs: (b.c.addresses + 1) / 2, IPv6: true, Heartbeat: heartbeat}
		var owners map[netip.Addr]int
		for n, i := range peers { // one after the other, so that each joins those who know the owner
			o.Number = i
			l.Start(o)
			owners = l.Settled(2*settleTime, peers[:n+1]...)
		}
		time.Sleep(5 * time.Second) // the announcements at the start are over
		b.manyMoved(l, owners)
		b.cleanUp()
	}
}

func (b *bench) manyMoved(l *bed.LAN, owners map[netip.Addr]int) {
	old, want := busiestOwner(owners)
	capture := l.Capture()
	cut := time.Now()
	l.Cut(old)
	var last time.Time // of the first packets about the addresses, by the kernel's clock
	for deadline := cut.Add(longestCut); time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		taken := takenOver(capture.Claims(), old, cut)
		last = time.Time{}
		missing := 0
		for _, addr := range want {
			at, ok := taken[addr]
			if !ok {
				missing++
			}
			if at.After(last) {
				last = at
			}
		}
		if missing == 0 {
			break
		}
		last = time.Now()
	}
	time.Sleep(afterWake)                                                                                // the repetitions
	claims := slices.DeleteFunc(capture.Stop(), func(c bed.Claim) bool { return owners[c.Addr] != old }) // nodes ask in their own names too
	first := last
	for _, at := range takenOver(claims, old, cut) {
		if at.Before(first) {
			first = at
		}
	}
	b.out.add("many.addresses", "addresses", float64(len(want)))
	b.out.add("many.first-announced", "ms", float64(first.Sub(cut).Milliseconds()))
	b.out.add("many.all-announced", "ms", float64(last.Sub(cut).Milliseconds()))
	b.out.add("many.gratuitous-packets", "per-s", float64(busiest(claims, time.Second)))
}

// busiestOwner returns the node with the most addresses, and these.
func busiestOwner(owners map[netip.Addr]int) (node int, addrs []netip.Addr) {
	of := map[int][]netip.Addr{}
	for addr, i := range owners {
		if of[i] = append(of[i], addr); len(of[i]) > len(of[node]) {
			node = i
		}
	}
	return node, of[node]
}

// idle measures what speakers cost that have nothing to do.
func idle(b *bench) {
	l := bed.New(b)
	const n = 11
	c := speakers(l, "speakers-11", n, bed.NodeOptions{Number: 1, VIPs: 500, Heartbeat: heartbeat})
	c.owners()
	time.Sleep(5 * time.Second) // the announcements at the start are over
	before := map[int]float64{}
	for i := 1; i <= n; i++ {
		before[i] = b.cpuSeconds(l.Pid(i))
	}
	start := time.Now()
	time.Sleep(b.c.idleFor)
	for i := 1; i <= n; i++ {
		used := b.cpuSeconds(l.Pid(i)) - before[i]
		b.out.add("idle.cpu", "%-of-core", 100*used/time.Since(start).Seconds())
		b.out.add("idle.rss", "MiB", b.rss(l.Pid(i)))
	}
}

// cpuSeconds returns the time that process pid has computed.
func (b *bench) cpuSeconds(pid int) float64 {
	const perSecond = 100 // USER_HZ, the same on all architectures that Go has
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	b.check(err)
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var user, system float64
	_, err = fmt.Sscan(fields[11]+" "+fields[12], &user, &system) // fields 14 and 15 of proc(5)
	b.check(err)
	return (user + system) / perSecond
}

// rss returns the resident memory of process pid in MiB.
func (b *bench) rss(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	b.check(err)
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	var kib float64
	_, err = fmt.Sscan(rest, &kib)
	b.check(err)
	return kib / 1024
}
