package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/nftables"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	clustertest "github.com/fairlead-lb/fairlead/test/cluster"
)

// contender is a program that puts Services into the kernel.
type contender struct {
	name    string
	c       *cluster
	program string
	args    []string
	kernel  programmed
	addr    string // where the first Service is
	metrics string
	sync    string // the histogram of how long it works on the kernel
	change  string // that of how long a change takes from its arrival in the process to the kernel; "" = it has none
	cleanup string
}

// kubeProxy is the real one, which serves the cluster IPs.
func (c *cluster) kubeProxy() *contender {
	mode := map[string]string{"nft": "nftables", "ipvs": "ipvs"}[c.engine]
	p := &contender{name: "kube-proxy-" + mode, c: c, program: "fairlab-kube", addr: c.clusterIPs[0],
		args: []string{"kube-proxy", "--kubeconfig=" + c.config(), "--hostname-override=" + nodeName, "--proxy-mode=" + mode, "--cluster-cidr=10.244.0.0/16",
			"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0", "--profiling=false"},
		metrics: "http://127.0.0.1:10249/metrics", sync: "kubeproxy_sync_proxy_rules_duration_seconds",
		kernel:  &table{family: nftables.TableFamilyIPv4, name: "kube-proxy", set: "service-ips"},
		cleanup: "nft delete table ip kube-proxy; nft delete table ip6 kube-proxy; true"}
	if c.engine == "ipvs" {
		p.kernel = &virtual{address: func(i int) string { return c.clusterIPs[i] }}
		p.cleanup = filepath.Join(c.bin, "fairlab-kube") + " kube-proxy --cleanup --proxy-mode=ipvs; ipvsadm -C" // it stumbles over its own iptables chains
	}
	return p
}

// fairlead is the speaker, which serves the addresses of type LoadBalancer.
func (c *cluster) fairlead() *contender {
	p := &contender{name: "fairlead-" + c.engine, c: c, program: "speaker", addr: vip(0).String(),
		args: []string{"--kubeconfig=" + c.config(), "--node-name=" + nodeName, "--node-ip=" + nodeAddr, "--engine=" + c.engine, "--realtime=false",
			"--http-addr=127.0.0.1:9381", "--state-dir=" + c.state},
		metrics: "http://127.0.0.1:9381/metrics", sync: "fairlead_datapath_sync_duration_seconds",
		change:  "fairlead_datapath_programming_duration_seconds",
		kernel:  &table{family: nftables.TableFamilyINet, name: "fairlead", set: "listeners4"},
		cleanup: filepath.Join(c.bin, "speaker") + " --cleanup"}
	if c.engine == "ipvs" {
		p.kernel = &virtual{address: func(i int) string { return vip(i).String() }}
	}
	return p
}

// measure runs the program through everything that is measured, and removes what it wrote.
func (p *contender) measure(ctx context.Context) (err error) {
	start := time.Now()
	cmd, err := p.c.start(ctx, p.program, p.args...)
	if err != nil {
		return err
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if out, e := exec.Command("sh", "-c", p.cleanup).CombinedOutput(); e != nil && err == nil {
			err = fmt.Errorf("cleaning up: %w\n%s", e, out)
		}
	}()
	err = until(ctx, 20*time.Minute, func() error {
		n, err := p.kernel.listeners()
		if err == nil && n <= p.c.services { // the first Service has two
			err = fmt.Errorf("%d of %d listeners", n, p.c.services+1)
		}
		return err
	})
	if err != nil {
		return err
	}
	line(p.name, "first-sync", time.Since(start).Seconds(), "s")
	if err := p.settle(ctx); err != nil {
		return err
	}
	if err := p.idle(ctx, cmd.Process.Pid); err != nil {
		return err
	}
	if err := p.changes(ctx); err != nil {
		return err
	}
	t, err := measureTraffic(ctx, p.addr, "80", "81", p.c.load)
	if err != nil {
		return err
	}
	t.print(p.name)
	return p.bulk(ctx)
}

// bulk sends to the Service and directly to its pod in turns, while the program is at work, and prints the median of what the Service
// carried of that.
func (p *contender) bulk(ctx context.Context) error {
	const rounds = 5
	var ratios []float64
	for range rounds {
		through, err := send(ctx, net.JoinHostPort(p.addr, "81"), p.c.load/rounds)
		if err != nil {
			return err
		}
		direct, err := send(ctx, net.JoinHostPort(podAddr, swallow), p.c.load/rounds)
		if err != nil {
			return err
		}
		ratios = append(ratios, through/direct)
	}
	slices.Sort(ratios)
	line(p.name, "bulk-of-direct", ratios[rounds/2], "ratio")
	return nil
}

// settle waits until the program has not worked on the kernel for a while, and prints how long it did until then.
func (p *contender) settle(ctx context.Context) error {
	var last float64
	quiet, looked := time.Now(), time.Now()
	return until(ctx, 10*time.Minute, func() error {
		text, err := p.read(ctx)
		if err != nil {
			return err
		}
		sum := clustertest.Sum(text, p.sync+"_sum")                  // what takes long is counted when it is done
		if sum == 0 || sum-last > 0.5*time.Since(looked).Seconds() { // an emulated processor is at work for a third of the time when nothing is to do
			quiet = time.Now()
		}
		last, looked = sum, time.Now()
		if wait := time.Since(quiet); wait < 10*time.Second {
			time.Sleep(time.Second) // what is asked for its metrics works on those
			return fmt.Errorf("at work until %v ago", wait)
		}
		line(p.name, "first-sync.kernel", last, "s")
		return nil
	})
}

func (p *contender) read(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.metrics, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// idle looks at the process while nothing happens.
func (p *contender) idle(ctx context.Context, pid int) error {
	before, err := cpu(pid)
	if err != nil {
		return err
	}
	generation, err := p.kernel.endpoints(0)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(p.c.idle):
	}
	after, err := cpu(pid)
	if err != nil {
		return err
	}
	later, err := p.kernel.endpoints(0)
	if err != nil {
		return err
	}
	rss, err := memory(pid)
	line(p.name, "idle", 100*(after-before).Seconds()/p.c.idle.Seconds(), "%core")
	line(p.name, "idle.kernel-writes", float64(later-generation), "1")
	line(p.name, "rss", rss, "MiB")
	return err
}

// changes takes an endpoint from Services, or gives it back, and waits for the kernel to change.
func (p *contender) changes(ctx context.Context) error {
	objects := p.c.client.DiscoveryV1().EndpointSlices(namespace)
	count := map[int]int{}
	var took []time.Duration
	begun, err := p.read(ctx)
	if err != nil {
		return err
	}
	for range p.c.changes {
		i := rand.N(p.c.services)
		if count[i] == 0 {
			count[i] = 5
		}
		count[i] = 9 - count[i]
		d, err := p.one(i, func() error { _, err := objects.Update(ctx, slice(i, count[i]), metav1.UpdateOptions{}); return err })
		if err != nil {
			return err
		}
		took = append(took, d)
		select { // kube-proxy rests for a second after each change
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(1200 * time.Millisecond):
		}
	}
	if err := p.arrivals(ctx, begun); err != nil {
		return err
	}
	for i, n := range count {
		if n == 4 {
			if _, err := objects.Update(ctx, slice(i, 5), metav1.UpdateOptions{}); err != nil {
				return err
			}
		}
	}
	slices.Sort(took)
	line(p.name, "change.p50", float64(took[len(took)/2].Microseconds())/1000, "ms")
	line(p.name, "change.p99", float64(took[len(took)*99/100].Microseconds())/1000, "ms")
	return nil
}

// look is the time between two looks at the kernel: a loop without any would take a core from what is measured.
const look = 200 * time.Microsecond

// one times a change of the i-th Service, from the API server's answer to the kernel.
func (p *contender) one(i int, change func() error) (time.Duration, error) {
	before, err := p.kernel.endpoints(i)
	if err != nil {
		return 0, err
	}
	if err := change(); err != nil {
		return 0, err
	}
	for start := time.Now(); ; time.Sleep(look) {
		now, err := p.kernel.endpoints(i)
		took := time.Since(start)
		switch {
		case err != nil:
			return 0, err
		case now != before:
			return took, nil
		case took > time.Minute:
			return 0, fmt.Errorf("the kernel of Service %d did not change", i)
		}
	}
}

// arrivals prints what the program itself says of the changes since its metrics were as begun.
func (p *contender) arrivals(ctx context.Context, begun string) error {
	if p.change == "" {
		return nil
	}
	text, err := p.read(ctx)
	if err != nil {
		return err
	}
	since := func(metric string, labels ...string) float64 {
		return clustertest.Sum(text, p.change+metric, labels...) - clustertest.Sum(begun, p.change+metric, labels...)
	}
	line(p.name, "change.since-arrival.mean", 1000*since("_sum")/since("_count"), "ms")
	within := func(seconds string) float64 { return since("_bucket", `le="`+seconds+`"`) / since("_count") }
	line(p.name, "change.since-arrival.within-20ms", within("0.02"), "ratio")
	for _, bound := range []string{"0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5", "10"} { // of the histogram
		if within(bound) >= 0.99 {
			seconds, err := strconv.ParseFloat(bound, 64)
			line(p.name, "change.since-arrival.p99-at-most", 1000*seconds, "ms")
			return err
		}
	}
	return nil
}

// cpu is the time that a process has computed.
func cpu(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	words := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var ticks int
	for _, w := range words[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.Atoi(w)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// memory is what a process has in memory, in MiB.
func memory(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(l, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("no VmRSS of process %d", pid)
}
