//go:build kernel

package kernel

import (
	"flag"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/fairlead-lb/fairlead/datapath/engine"
	"github.com/fairlead-lb/fairlead/lb"
)

var bulkFlag = flag.Int64("bulk", 64<<20, "bytes that BenchmarkDirect moves each way")

// BenchmarkDirect measures nat and dsr beside each other: of 1,000 open connections those that go on, among those whose pods live, when the node
// that receives them all is cut off, and when one of three that share them is; new connections a second, four at a time; bulk; and how many
// packets the receiving node passes on for each MiB that a client is sent. One iteration is enough (-test.benchtime 1x).
func BenchmarkDirect(b *testing.B) {
	for _, f := range tierFamilies {
		for _, method := range []lb.Method{lb.NAT, lb.DSR} {
			b.Run(fmt.Sprintf("%s/%s", f.name, method), func(b *testing.B) {
				tr := newTier(b, f, engine.IPVS)
				svc := tr.service(func(s *lb.Service) { s.Forwarding = method })
				tr.sync(b, svc, tr.everywhere())
				for b.Loop() {
					b.ReportMetric(tr.survivors(b, []int{0}, []int{1}), "%survive-move")
					b.ReportMetric(tr.survivors(b, []int{0, 1, 2}, []int{1, 2}), "%survive-ecmp")
					tr.receive(b, 0)
					b.ReportMetric(tr.rate(b), "conns/s")
					tr.sync(b, svc, tr.everywhere()[len(tr.everywhere())/3:]) // none at the node that receives
					for _, way := range []string{"up", "down"} {
						mbit, packets := tr.bulk(b, way, *bulkFlag)
						b.ReportMetric(mbit, "Mbit/s-"+way)
						b.ReportMetric(packets, "sent/MiB-"+way)
					}
				}
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// survivors opens 1,000 connections by the nodes in before, cuts node t1 off, lets those in after receive, and returns the percentage that goes
// on of those that do not end at t1.
func (tr *tier) survivors(b *testing.B, before, after []int) float64 {
	tr.receive(b, before...)
	conns, by := tr.open(b, "tcp", "80", 1000, "")
	shell(b, "ip -n tlan link set p-t1 down")
	tr.receive(b, after...)
	n, of := broken(conns, by, patience, func(pod string) bool { return !strings.HasPrefix(pod, "q1") })
	for _, c := range conns {
		c.Close()
	}
	shell(b, "ip -n tlan link set p-t1 up")
	return 100 * float64(of-n) / float64(of)
}

// rate returns how many connections a second are opened, asked and closed.
func (tr *tier) rate(b *testing.B) float64 {
	var done atomic.Int64
	start := time.Now()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for time.Since(start) < 5*time.Second {
				if _, err := ask("tc", "tcp", tr.family.client, tr.at("80"), patience); err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(done.Load()) / time.Since(start).Seconds()
}

// bulk moves so many bytes to or from a pod of another node than the one that receives, and returns Mbit a second and how many packets that one
// has sent for each MiB.
func (tr *tier) bulk(b *testing.B, way string, size int64) (mbit, packets float64) {
	c, err := dial("tc", "tcp", tr.family.client, tr.at("81"), patience)
	if err != nil {
		b.Fatal(err)
	}
	sent, start := tr.sent(b), time.Now()
	if n, err := move(c, way, size); err != nil || n != size {
		b.Fatalf("%s: %d of %d bytes, %v", way, n, size, err)
	}
	return float64(size) * 8 / 1e6 / time.Since(start).Seconds(), float64(tr.sent(b)-sent) / (float64(size) / (1 << 20))
}

// sent returns how many packets node t1 has sent to the other stations.
func (tr *tier) sent(b *testing.B) (n int64) {
	inNode(b, 0, func() error {
		link, err := netlink.LinkByName("eth0")
		if err == nil {
			n = int64(link.Attrs().Statistics.TxPackets)
		}
		return err
	})
	return n
}
