package main

import (
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/fairlead-lb/fairlead/test/bed"
)

const (
	askEvery  = 10 * time.Millisecond
	afterWake = 3 * time.Second // how long the segment is watched after an event
)

// asking asks for the addresses every askEvery until the function that it returns is called.
func asking(l *bed.LAN, addrs ...netip.Addr) (stop func()) {
	done := make(chan struct{})
	var asker sync.WaitGroup
	asker.Go(func() {
		tick := time.NewTicker(askEvery)
		defer tick.Stop()
		for {
			for _, a := range addrs {
				l.Ask(a)
			}
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	})
	return func() { close(done); asker.Wait() }
}

// suspended stops the owner of addresses for a while, while somebody keeps asking for them, and counts what it says after it has
// woken up against the node that has taken over.
func suspended(b *bench) {
	l := bed.New(b)
	c := speakers(l, "speakers-3", 3, bed.NodeOptions{Number: 1, VIPs: 6, Heartbeat: heartbeat})
	for _, pause := range b.c.pauses {
		for trial := range b.c.trials {
			node, addrs := victim(c.owners(), trial)
			capture := l.Capture()
			stop := asking(l, addrs...)
			time.Sleep(lead)
			l.Signal(node, syscall.SIGSTOP)
			time.Sleep(pause)
			woke := time.Now()
			l.Signal(node, syscall.SIGCONT)
			time.Sleep(afterWake)
			stop()
			claims := capture.Stop()
			for _, addr := range addrs {
				name := fmt.Sprintf("stale.%s.%s", pause, family(addr))
				double := stale(claims, addr, node, woke)
				b.out.add(name+".packets", "packets", float64(len(double)))
				overlap := 0.0
				if len(double) > 0 {
					overlap = float64(double[len(double)-1].At.Sub(woke).Microseconds()) / 1000
				}
				b.out.add(name+".two-owners", "ms", overlap)
			}
		}
		b.logf("stale: suspended for %s", pause)
	}
}

// partition splits the segment between the owner and the others, heals it, and measures when the client has one owner again.
// In turn, the owner is beyond the split and on the client's side.
func partition(b *bench) {
	l := bed.New(b)
	peers := []int{1, 2, 3, 4}
	for _, i := range peers {
		l.Start(bed.NodeOptions{Number: i, Peers: peers, VIPs: 8, IPv6: true, Heartbeat: heartbeat, Far: i > 2})
	}
	for trial := range b.c.trials {
		owners := l.Settled(settleTime, peers...)
		_, addrs := victim(owners, trial)
		for _, a := range addrs {
			l.Learn(a)
		}
		l.Trunk(false)
		time.Sleep(4 * time.Second) // either part has its owners
		capture := l.Capture()
		stop := asking(l, addrs...)
		healed := time.Now()
		l.Trunk(true)
		wrong := watchNeighbours(l, addrs, 2*afterWake)
		stop()
		claims := capture.Stop()
		after := l.Settled(settleTime, peers...)
		for _, a := range addrs {
			end := lastOfOthers(claims, a, after[a], healed)
			if t := lastWrong(wrong[a], after[a]); t.After(end) {
				end = t
			}
			b.out.add("partition.heal."+family(a)+".until-one-owner", "ms", float64(end.Sub(healed).Microseconds())/1000)
		}
		b.logf("partition: trial %d of %d", trial+1, b.c.trials)
	}
}

// sight says which node the client's kernel sent packets to at a time.
type sight struct {
	at   time.Time
	node int
}

// watchNeighbours looks every 2 ms where the client's kernel would send packets.
func watchNeighbours(l *bed.LAN, addrs []netip.Addr, length time.Duration) map[netip.Addr][]sight {
	out := map[netip.Addr][]sight{}
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		for _, a := range addrs {
			out[a] = append(out[a], sight{time.Now(), l.Neighbour(a)})
		}
	}
	return out
}

// lastWrong returns when the client last sent elsewhere than to owner.
func lastWrong(sights []sight, owner int) (last time.Time) {
	for _, s := range sights {
		if s.node != owner {
			last = s.at
		}
	}
	return last
}
