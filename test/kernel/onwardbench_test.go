//go:build kernel

package kernel

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// BenchmarkOnward measures a connection whose packets come to the node that knows it, or to others, which hand them on once or twice: the
// median time of a request on it, and bulk towards the pod. All nodes are on this machine. One iteration is enough (-test.benchtime 1x).
func BenchmarkOnward(b *testing.B) {
	for _, name := range tested() {
		for _, f := range tierFamilies {
			for hops, nodes := range [][2]int{{1, 1}, {0, 1}, {2, 1}} { // t1 asks t2 first; t3 asks t1, which asks t2
				b.Run(fmt.Sprintf("%s/%s/%d-hops", name, f.name, hops), func(b *testing.B) {
					tr := newTier(b, f, name)
					tr.meet(b, 1, 2, 3)
					tr.sync(b, tr.service(byNAT(80, nil)), tr.everywhere())
					for b.Loop() {
						request, mbit := tr.throughOthers(b, nodes[1], nodes[0])
						b.ReportMetric(float64(request.Microseconds()), "us/request")
						b.ReportMetric(mbit, "Mbit/s-up")
					}
					b.ReportMetric(0, "ns/op")
				})
			}
		}
	}
}

// throughOthers opens connections by one node, and uses them by another.
func (tr *tier) throughOthers(b *testing.B, before, after int) (request time.Duration, mbit float64) {
	tr.receive(b, before)
	conns, _ := tr.open(b, "tcp", "80", 1, "")
	bulk, err := dial("tc", "tcp", tr.family.client, tr.at("81"), patience)
	if err != nil {
		b.Fatal(err)
	}
	tr.receive(b, after)
	took := make([]time.Duration, 2000)
	for i := range took {
		start := time.Now()
		if _, err := say(conns[0], patience); err != nil {
			b.Fatal(err)
		}
		took[i] = time.Since(start)
	}
	slices.Sort(took)
	start := time.Now()
	if n, err := move(bulk, "up", *bulkFlag); err != nil || n != *bulkFlag {
		b.Fatalf("%d of %d bytes, %v", n, *bulkFlag, err)
	}
	return took[len(took)/2], float64(*bulkFlag) * 8 / 1e6 / time.Since(start).Seconds()
}
