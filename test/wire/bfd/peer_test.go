//go:build wire

package bfd

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/bfd"
	"github.com/fairlead-lb/fairlead/bfd/udp"
	"github.com/fairlead-lb/fairlead/test/bed"
)

// port is that of our own heartbeat in these tests.
const port = 7950

// peerConfig is what a process in the role peer is told in its argument.
type peerConfig struct {
	Local    netip.Addr
	Remotes  []netip.Addr
	Iface    string
	Port     uint16
	Priority int
	Busy     bool // be a process that does other work and makes garbage
	Patient  bool // multiplier 40: no slowness of the machine takes the session down
}

// heartbeat is a session as the speakers' failure detector has it: 50 ms x 3, authenticated.
func heartbeat() udp.Config {
	return udp.Config{Config: bfd.Config{DesiredMinTx: 50 * ms, RequiredMinRx: 50 * ms, Multiplier: 3, SlowTx: 50 * ms,
		Auth: bfd.Keyring{Type: bfd.MeticulousKeyedSHA1, Keys: []bfd.Key{{ID: 1, Secret: "secret"}}}}}
}

func (c peerConfig) sessions() map[udp.Peer]udp.Config {
	out := map[udp.Peer]udp.Config{}
	for _, r := range c.Remotes {
		conf := heartbeat()
		if c.Patient {
			conf.Multiplier = 40
		}
		out[udp.Peer{Local: c.Local, Remote: r, Interface: c.Iface}] = conf
	}
	return out
}

// line is what a peer prints when something happens.
type line struct {
	What  string // Up, Down, …, Slept, Confirmed
	Cause bfd.Cause
	At    time.Time
}

// runPeer is the role peer: a heartbeat with the sessions of its argument, until SIGTERM.
func runPeer(args []string) error {
	var c peerConfig
	if err := json.Unmarshal([]byte(args[0]), &c); err != nil {
		return err
	}
	lines := make(chan line, 1000)
	go func() {
		for l := range lines {
			b, _ := json.Marshal(l) // a struct of plain fields
			fmt.Println(string(b))
		}
	}()
	o := udp.Options{Name: "peer", Registerer: prometheus.NewRegistry(), Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Port: c.Port,
		Aligned: true, Refused: true, Priority: c.Priority, LockMemory: true}
	o.Changed = func(_ udp.Peer, e bfd.Event) { lines <- line{e.To.String(), e.Cause, e.At} }
	o.Slept = func(time.Duration) { lines <- line{What: "Slept", At: time.Now()} }
	o.Confirmed = func(udp.Peer) { lines <- line{What: "Confirmed", At: time.Now()} }
	g, err := udp.New(o)
	if err != nil {
		return err
	}
	if err := g.Set(c.sessions()); err != nil {
		return err
	}
	if c.Busy {
		go makeGarbage()
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return g.Run(ctx)
}

// makeGarbage allocates 100 MB a second, so that the collector runs all the time, at a few percent of a core.
func makeGarbage() {
	for {
		var keep [][]byte
		for range 200 {
			keep = append(keep, make([]byte, 10_000))
		}
		time.Sleep(20 * ms)
		_ = len(keep)
	}
}

// process is a process in the role peer.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	mu  sync.Mutex
	log []line
}

func startPeer(h *host, c peerConfig) *process {
	h.t.Helper()
	if c.Port == 0 {
		c.Port = port
	}
	arg, err := json.Marshal(c)
	check(h.t, err)
	p := &process{t: h.t, cmd: bed.Again("peer", string(arg))}
	p.cmd.Stdout = nil
	out, err := p.cmd.StdoutPipe()
	check(h.t, err)
	h.Within(p.cmd.Start)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(out); s.Scan(); {
			var l line
			if json.Unmarshal(s.Bytes(), &l) == nil {
				p.mu.Lock()
				p.log = append(p.log, l)
				p.mu.Unlock()
			}
		}
	}()
	h.t.Cleanup(func() { _ = p.cmd.Process.Kill(); <-read; _ = p.cmd.Wait() })
	return p
}

func (p *process) signal(s syscall.Signal) { p.t.Helper(); check(p.t, p.cmd.Process.Signal(s)) }

// count returns how many lines say that since a time.
func (p *process) count(what string, since time.Time) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.log {
		if l.What == what && !l.At.Before(since) {
			n++
		}
	}
	return n
}

// cpu returns how much CPU time the process has used.
func (p *process) cpu() (sum time.Duration) {
	p.t.Helper()
	dir := fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid)
	tasks, err := os.ReadDir(dir)
	check(p.t, err)
	for _, task := range tasks {
		b, err := os.ReadFile(dir + "/" + task.Name() + "/schedstat")
		check(p.t, err)
		var ns int64
		_, err = fmt.Sscan(strings.Fields(string(b))[0], &ns)
		check(p.t, err)
		sum += time.Duration(ns)
	}
	return sum
}
