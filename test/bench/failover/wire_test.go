//go:build wire

package main

import (
	"os"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/test/bed"
)

func TestMain(m *testing.M) { os.Exit(bed.Main(bed.Program{Run: m.Run})) }

// TestSections runs what the benchmark runs, briefly and without keepalived, with bounds that hold on a busy machine.
func TestSections(t *testing.T) {
	b := &bench{out: &results{}, c: config{trials: 1, soak: 3 * time.Second, addresses: 500, pauses: []time.Duration{3 * time.Second}}}
	for _, s := range sections() {
		switch s.name {
		case "memberlist", "idle", "hogs", "quota": // the others' paths, only longer
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			if err := b.section(s); err != nil {
				t.Fatal(err)
			}
		})
	}
	b.out.table(os.Stdout)
	bounds := map[string]float64{
		"power.speakers-3.ipv4.outage": 5000, "power.speakers-5.ipv4.outage": 5000, "process.speakers-3.ipv4.outage": 5000,
		"link.gossip-over-the-same.ipv4.outage": 5000, "link.gossip-over-management.ipv4.outage": 1000,
		"partition.heal.ipv4.until-one-owner": 5900, "drain.roll.new-connections.failed": 0,
		"many.all-announced": 10000, "many.gratuitous-packets": 20000, "loss.speakers-3.takeovers": 0,
		"stale.3s.ipv4.packets": 0, // the fence keeps a node silent that was asleep
	}
	for name, most := range bounds {
		if r := b.out.find(name); r == nil {
			t.Errorf("%s was not measured", name)
		} else if got := r.quantile(1); got > most {
			t.Errorf("%s is %g %s, want at most %g", name, got, r.unit, most)
		}
	}
}
