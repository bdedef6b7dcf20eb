//go:build wire

package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/announce/bgp/process"
	"github.com/fairlead-lb/fairlead/test/bed"
	"github.com/fairlead-lb/fairlead/test/router"
)

// pod is the two processes of a node: that of the sessions under its supervisor, and the speaker's end, which is this one.
type pod struct {
	t    *testing.T
	path string
	bgp  *exec.Cmd
	*process.Client
	end func()
}

func startPod(t *testing.T, keepOnCrash time.Duration) *pod {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pod")
	router.Check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &pod{t: t, path: filepath.Join(dir, "bgp.sock")}
	p.serve(keepOnCrash)
	p.speak()
	return p
}

func (p *pod) serve(keepOnCrash time.Duration) {
	p.t.Helper()
	p.bgp = bed.Again("bgp", p.path, keepOnCrash.String())
	router.Check(p.t, p.bgp.Start())
	cmd := p.bgp
	p.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// speak begins a speaker; p.end ends it.
func (p *pod) speak() {
	p.t.Helper()
	var err error
	p.Client, err = process.NewClient(process.ClientOptions{Path: p.path, Log: slog.New(slog.NewTextHandler(logs{p.t}, nil)), Changed: func() {}})
	router.Check(p.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	c := p.Client
	go func() { ended <- c.Run(ctx) }()
	p.end = sync.OnceFunc(func() { cancel(); router.Check(p.t, <-ended) })
	p.t.Cleanup(p.end)
}

// sessions returns the process with the sessions.
func (p *pod) sessions() int {
	p.t.Helper()
	var pid int
	router.Until(p.t, "a process with the sessions", func() bool {
		out, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.bgp.Process.Pid, p.bgp.Process.Pid))
		if err != nil || len(strings.Fields(string(out))) != 1 {
			all, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.bgp.Process.Pid)) // of the thread that started it
			for _, f := range all {
				if out, err = os.ReadFile(f); err == nil && len(strings.Fields(string(out))) == 1 {
					break
				}
			}
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(out)))
		return err == nil
	})
	return pid
}

func (p *pod) up(name string) time.Duration {
	p.t.Helper()
	return router.Until(p.t, name+" established", func() bool {
		for _, s := range p.Report().Sessions {
			if s.Peer == name {
				return s.State == bgp.Established && s.Pending == 0
			}
		}
		return false
	})
}

// watch has the kernel of FRR's host tell of every route that FRR removes from it, until the function that it returns is called. Any
// of one of the prefixes fails the test. What was seen is returned.
func watch(f *router.FRR, want []string) (stop func() (seen string)) {
	t := f.Host.T
	t.Helper()
	f.Host.Run("ip", "route", "add", "192.0.2.200/32", "dev", "eth0")
	m := f.Host.Daemon("ip", "-o", "monitor", "route")
	router.Until(t, "ip monitor seeing changes", func() bool {
		f.Host.Run("ip", "route", "replace", "192.0.2.200/32", "dev", "eth0", "metric", "7")
		f.Host.Run("ip", "route", "del", "192.0.2.200/32", "dev", "eth0", "metric", "7")
		return strings.Contains(m.Output(), "Deleted 192.0.2.200")
	})
	return func() string {
		t.Helper()
		m.End(syscall.SIGTERM)
		for line := range strings.Lines(m.Output()) {
			for _, p := range want {
				addr, _, _ := strings.Cut(p, "/")
				if strings.HasPrefix(line, "Deleted") && strings.Contains(line, addr) {
					t.Errorf("FRR had lost a route meanwhile: %s", line)
				}
			}
		}
		return m.Output()
	}
}

// graceful is a neighbour with graceful restart.
func graceful() bgp.Peer {
	p := peer("frr", them4)
	p.GracefulRestart, p.RestartTime = true, 60*time.Second
	p.Paths = paths("198.51.100.7/32", "203.0.113.0/24", "2001:db8:5::1/128")
	return p
}

func complete(peers ...bgp.Peer) bgp.State {
	return bgp.State{Peers: peers, Complete: true, Preserved: true}
}

// TestProcessKilled: the session is back within a second, and FRR loses no route.
func TestProcessKilled(t *testing.T) {
	f := router.StartFRR(link(t), frrConfig(theirASN))
	p := startPod(t, 0)
	n := graceful()
	p.Set(complete(n))
	p.up("frr")
	want := []string{"198.51.100.7/32", "2001:db8:5::1/128", "203.0.113.0/24"}
	router.Until(t, "the routes in FRR and its kernel", func() bool { return slices.Equal(f.Prefixes(), want) && f.Installed() == 3 })
	stop := watch(f, want)
	var took []time.Duration
	for range 5 {
		old := p.sessions()
		before := f.Neighbor(us4.String()).Established
		begun := time.Now()
		router.Check(t, syscall.Kill(old, syscall.SIGKILL))
		router.Until(t, "FRR having the session again", func() bool { x := f.Neighbor(us4.String()); return x.State == "Established" && x.Established > before })
		took = append(took, time.Since(begun).Round(time.Millisecond))
		p.up("frr")
		router.Until(t, "no stale route", func() bool { return !strings.Contains(f.Show("bgpd", "show bgp ipv4 unicast json"), `"stale":true`) })
	}
	stop()
	t.Logf("killed 5 times: back after %v", took)
	if slices.Max(took) > 5*time.Second {
		t.Errorf("back after %v", took)
	}
}

// TestUpgrade: both processes end as planned and come back; FRR loses no route, and those that are no longer wanted go at the end.
func TestUpgrade(t *testing.T) {
	f := router.StartFRR(link(t), frrConfig(theirASN))
	p := startPod(t, 0)
	n := graceful()
	p.Set(complete(n))
	p.up("frr")
	kept := []string{"198.51.100.7/32", "2001:db8:5::1/128"}
	router.Until(t, "the routes in FRR and its kernel", func() bool { return len(f.Prefixes()) == 3 && f.Installed() == 3 })
	stop := watch(f, kept)
	s := complete(n)
	s.Keep = true
	p.Set(s)
	router.Check(t, p.bgp.Process.Signal(syscall.SIGTERM))
	p.end()
	router.Check(t, p.bgp.Wait())
	if got := f.Prefixes(); len(got) != 3 {
		t.Errorf("while nobody is there, FRR has %v", got)
	}
	p.serve(0)
	p.speak()
	s = bgp.State{Peers: []bgp.Peer{n}, Preserved: true} // the new speaker programs one address after the other
	s.Peers[0].Paths = paths("198.51.100.7/32")
	p.Set(s)
	p.up("frr")
	n.Paths = paths("198.51.100.7/32", "2001:db8:5::1/128")
	p.Set(complete(n))
	router.Until(t, "the route that is gone leaving FRR and its kernel", func() bool { return slices.Equal(f.Prefixes(), kept) && f.Installed() == 2 })
	if seen := stop(); !strings.Contains(seen, "Deleted 203.0.113.0/24") {
		t.Errorf("the route that FRR did remove was not seen, so others may have been missed too:\n%s", seen)
	}
}

// TestSpeakerKilled: without the speaker nobody knows whether this node forwards, so FRR loses the routes at once; the session stays.
func TestSpeakerKilled(t *testing.T) {
	f := router.StartFRR(link(t), frrConfig(theirASN))
	p := startPod(t, 0)
	p.Set(complete(graceful()))
	p.up("frr")
	router.Until(t, "the routes in FRR", func() bool { return len(f.Prefixes()) == 3 })
	p.end() // without Keep: the connection ends as that of a process that dies
	took := router.Until(t, "the routes gone", func() bool { return len(f.Prefixes()) == 0 })
	t.Logf("gone after %s", took)
	if n := f.Neighbor(us4.String()); n.State != "Established" || n.Established != 1 {
		t.Errorf("%+v", n)
	}
	p.speak()
	p.Set(complete(graceful()))
	router.Until(t, "the routes back", func() bool { return len(f.Prefixes()) == 3 })
}

// TestRebooted: a node that comes back within the hold time says that it has not gone on forwarding, and FRR drops what it had.
func TestRebooted(t *testing.T) {
	f := router.StartFRR(link(t), frrConfig(theirASN))
	p := startPod(t, 0)
	n := graceful()
	n.HoldTime, n.Keepalive = 180*time.Second, 60*time.Second
	p.Set(complete(n))
	p.up("frr")
	router.Until(t, "the routes in FRR", func() bool { return len(f.Prefixes()) == 3 })
	router.Check(t, p.bgp.Process.Kill()) // and nobody says goodbye
	p.end()
	_ = p.bgp.Wait()
	p.serve(0)
	p.speak()
	n.Paths = nil
	p.Set(bgp.State{Peers: []bgp.Peer{n}})
	p.up("frr")
	router.Until(t, "the routes gone", func() bool { return len(f.Prefixes()) == 0 })
}
