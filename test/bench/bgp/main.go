package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fairlead-lb/fairlead/test/bed"
	"github.com/fairlead-lb/fairlead/test/router"
)

const (
	nodes   = 3
	every   = 5 * time.Millisecond   // between two new connections
	timeout = 900 * time.Millisecond // of one: less than the kernel waits before it repeats a SYN
)

func main() {
	os.Exit(bed.Main(bed.Program{Run: run, Roles: map[string]func([]string) error{router.Role: router.Hold, "bgpnode": runNode}})) // "node" is bed's own
}

func run() int {
	only := flag.String("only", "", "power, hold or table; default all")
	trials := flag.Int("trials", 20, "trials of power; of hold a quarter")
	addresses := flag.Int("addresses", 10000, "addresses of table, at most 65,000")
	flag.Parse()
	if *trials < 1 || *addresses < 1 || *addresses > 65_000 {
		fmt.Fprintln(os.Stderr, "bgp: -trials must be at least 1, -addresses 1 to 65,000")
		return 2
	}
	b := &bench{}
	defer b.end()
	for _, s := range []struct {
		name string
		run  func()
	}{
		{"power", func() { b.power("bgp.node-loses-power.bfd-50ms-x3", true, *trials, 1200*time.Millisecond) }},
		{"hold", func() { b.power("bgp.node-loses-power.hold-9s", false, (*trials+3)/4, 12*time.Second) }},
		{"table", func() { b.table(*addresses) }},
	} {
		if *only == "" || *only == s.name {
			s.run()
			b.end()
		}
	}
	return 0
}

// bench is what the packages for tests take for a test. It ends the program at the first failure.
type bench struct{ cleanups []func() }

func (b *bench) Helper()                   {}
func (b *bench) Cleanup(f func())          { b.cleanups = append(b.cleanups, f) }
func (b *bench) Errorf(f string, a ...any) { b.Fatalf(f, a...) }
func (b *bench) Fatalf(f string, a ...any) {
	fmt.Fprintf(os.Stderr, "bgp: "+f+"\n", a...)
	os.Exit(1) // the namespaces end with the process
}

func (b *bench) end() {
	for _, f := range slices.Backward(b.cleanups) {
		f()
	}
	b.cleanups = nil
}

// rack is the router with its nodes.
type rack struct {
	b     *bench
	frr   *router.FRR
	hosts []*router.Host
	procs []*exec.Cmd
}

func (b *bench) rack(n int) *rack {
	r := &rack{b: b, procs: make([]*exec.Cmd, n)}
	h := router.NewHost(b)
	router.Cable(b, nil, "v0", []string{"198.51.100.1/24"}, h, "client", []string{"198.51.100.254/24"})
	h.Within(func() error { return bed.Set("ipv4/ip_forward=1", "ipv4/fib_multipath_hash_policy=1") })
	router.Check(b, exec.Command("ip", "route", "replace", "203.0.113.0/24", "via", "198.51.100.254").Run())
	config := []string{"router bgp 64513", " bgp router-id 198.51.100.254", " no bgp ebgp-requires-policy", " neighbor nodes peer-group", " neighbor nodes remote-as 64512",
		" neighbor nodes bfd 3 50 50", " bgp listen range 10.0.0.0/16 peer-group nodes", " address-family ipv4 unicast", "  maximum-paths 16", " exit-address-family"}
	for i := range n {
		node := router.NewHost(b)
		router.Cable(b, h, fmt.Sprintf("node%d", i), []string{routerAddr(i).String() + "/24"}, node, "eth0", []string{nodeAddr(i).String() + "/24"})
		node.Run("ip", "addr", "add", first.String()+"/32", "dev", "lo")
		node.Run("ip", "route", "add", "default", "via", routerAddr(i).String())
		r.hosts = append(r.hosts, node)
	}
	r.frr = router.StartFRR(h, strings.Join(config, "\n")+"\n")
	b.Cleanup(func() {
		for _, p := range r.procs {
			if p != nil {
				_ = p.Process.Kill()
				_ = p.Wait()
			}
		}
	})
	return r
}

// start starts a node's process.
func (r *rack) start(o nodeOptions) {
	arg, err := json.Marshal(o)
	router.Check(r.b, err)
	cmd := bed.Again("bgpnode", string(arg))
	r.hosts[o.Number].Within(cmd.Start)
	r.procs[o.Number] = cmd
}

// multipath waits until the router spreads the first address over n nodes.
func (r *rack) multipath(n int) {
	router.Until(r.b, fmt.Sprintf("%d next hops in the router's kernel", n), func() bool {
		var out []byte
		r.frr.Host.Within(func() (err error) {
			out, err = exec.Command("ip", "route", "show", first.String()).Output()
			return err
		})
		return strings.Count(string(out), "via 10.0.") == n
	})
}

// power takes one node's power again and again: its cable goes dead while the carrier stays, as behind a switch, and every process of
// it is killed. The outage ends when the last connection began that failed.
func (b *bench) power(name string, bfd bool, trials int, watch time.Duration) {
	r := b.rack(nodes)
	for i := range nodes {
		r.start(nodeOptions{Number: i, BFD: bfd, Paths: 1})
	}
	var took []time.Duration
	for trial := range trials {
		r.multipath(nodes)
		if bfd {
			router.Until(b, "BFD up", func() bool { return strings.Count(r.frr.Show("bfdd", "show bfd peers json"), `"status":"up"`) == nodes })
		}
		victim := trial % nodes
		c := begin()
		time.Sleep(100 * time.Millisecond)
		cut := time.Now()
		r.hosts[victim].Cut("eth0", true)
		router.Check(b, r.procs[victim].Process.Kill())
		_ = r.procs[victim].Wait()
		time.Sleep(watch)
		took = append(took, c.end(cut))
		r.hosts[victim].Cut("eth0", false)
		r.start(nodeOptions{Number: victim, BFD: bfd, Paths: 1})
	}
	slices.Sort(took)
	fmt.Printf("%s.median %d ms\n%s.max %d ms\n", name, took[len(took)/2].Milliseconds(), name, took[len(took)-1].Milliseconds())
}

// client opens connections.
type client struct {
	quit chan struct{}
	wg   sync.WaitGroup
	mu   sync.Mutex
	lost []time.Time // when those began that failed
}

func begin() *client {
	c := &client{quit: make(chan struct{})}
	c.wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-c.quit:
				return
			case at := <-tick.C:
				c.wg.Go(func() {
					conn, err := net.DialTimeout("tcp4", first.String()+":80", timeout)
					if err != nil {
						c.mu.Lock()
						c.lost = append(c.lost, at)
						c.mu.Unlock()
						return
					}
					conn.Close()
				})
			}
		}
	})
	return c
}

// end stops and returns how long after the cut the last connection began that failed.
func (c *client) end(cut time.Time) (last time.Duration) {
	close(c.quit)
	c.wg.Wait()
	for _, at := range c.lost {
		last = max(last, at.Sub(cut))
	}
	return last
}

// table announces many addresses from one node.
func (b *bench) table(n int) {
	r := b.rack(1)
	prefixes := func() int {
		var out struct {
			Peers map[string]struct {
				PfxRcd int `json:"pfxRcd"`
			} `json:"peers"`
		}
		if json.Unmarshal([]byte(r.frr.Show("bgpd", "show bgp ipv4 unicast summary json")), &out) != nil {
			return -1
		}
		for _, p := range out.Peers {
			return p.PfxRcd
		}
		return 0
	}
	begun := time.Now()
	r.start(nodeOptions{Paths: n})
	router.Until(b, "all prefixes at the router", func() bool { return prefixes() == n })
	fmt.Printf("bgp.%d-addresses.process-start-to-last-prefix %d ms\n", n, time.Since(begun).Milliseconds())
	fmt.Printf("bgp.%d-addresses.rss-of-sessions-and-client %d KiB\n", n, rss(r.procs[0].Process.Pid))
	begun = time.Now()
	router.Check(b, r.procs[0].Process.Signal(syscall.SIGUSR1))
	router.Until(b, "no prefix at the router", func() bool { return prefixes() == 0 })
	fmt.Printf("bgp.%d-addresses.withdrawn %d ms\n", n, time.Since(begun).Milliseconds())
}

// rss returns the resident memory of a process in KiB.
func rss(pid int) (kib int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib
		}
	}
	return 0
}
