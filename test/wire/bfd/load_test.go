//go:build wire

package bfd

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/test/bed"
)

// hogs starts n processes per core that want all of it, at normal priority.
func hogs(t *testing.T, n int) {
	t.Helper()
	for range n * runtime.NumCPU() {
		cmd := bed.Again("hog")
		check(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
}

// TestStarvation prints how often two processes call each other down falsely while 8 processes per core want the CPU: with
// normal priority, with SCHED_FIFO for the loop's thread, and the same where the process does other work too. Only the second
// promises something.
func TestStarvation(t *testing.T) {
	for _, run := range []struct {
		d     time.Duration
		cases []load
	}{
		{15 * time.Second, []load{
			{name: "normal", config: peerConfig{Port: port + 1}, bound: -1},
			{name: "FIFO thread", config: peerConfig{Port: port + 2, Priority: 10}, bound: 2},
		}},
		{5 * time.Second, []load{
			{name: "FIFO thread, process busy", config: peerConfig{Port: port + 3, Priority: 10, Busy: true}, bound: -1},
		}},
	} {
		starve(t, run.d, run.cases)
	}
}

type load struct {
	name   string
	config peerConfig
	bound  int // more false alarms than this fail; -1 = any number
	ends   [2]*process
}

func starve(t *testing.T, d time.Duration, cases []load) {
	t.Run(cases[0].name, func(t *testing.T) {
		h := link(t)
		here := newHost(t) // both ends are hosts of their own; a second cable joins them
		cable(t, here, "eth1", h, "eth1", "10.0.0.1/24", "10.0.0.2/24")
		a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
		for i := range cases {
			c := cases[i].config
			c.Local, c.Remotes = a, []netip.Addr{b}
			cases[i].ends[0] = startPeer(here, c)
			c.Local, c.Remotes = b, []netip.Addr{a}
			cases[i].ends[1] = startPeer(h, c)
		}
		for _, c := range cases {
			for _, p := range c.ends {
				until(t, c.name+" up", func() bool { return p.count("Up", time.Time{}) > 0 })
			}
		}
		hogs(t, 8)
		time.Sleep(2 * time.Second)
		since := time.Now()
		time.Sleep(d)
		for _, c := range cases {
			alarms, slept := 0, 0
			for _, p := range c.ends {
				alarms += p.count("Down", since)
				slept += p.count("Slept", since)
			}
			t.Logf("%s: %d times Down and %d times asleep in %s at two ends, 50 ms x 3", c.name, alarms, slept, d)
			if c.bound >= 0 && alarms > c.bound {
				t.Errorf("%s: %d false alarms", c.name, alarms)
			}
		}
	})
}
