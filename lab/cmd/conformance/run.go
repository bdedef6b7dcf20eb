package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// modes are how the lab and Fairlead are set up for each.
var modes = map[string]struct{ kubeProxy, datapath string }{
	"full":       {"none", "full"},
	"external":   {"nftables", "external"},
	"kube-proxy": {"nftables", "none"},
}

//go:embed pool.yaml
var pool string

// outsider gives the client an address that is not of the nodes' network, as the suite expects of those who come from outside.
const outsider = `ip address replace 203.0.113.100/32 dev lo
	ip route change 192.0.2.0/24 dev eth0 proto kernel scope link src 203.0.113.100
	ip route change default via 192.0.2.1 dev eth0 src 203.0.113.100`

// run runs the suite as often as it is told to, and fails if one of the runs does.
func run(ctx context.Context, o options) error {
	left, err := leftOut(o.mode)
	if err != nil {
		return err
	}
	if o.runs < 2 {
		return o.once(ctx, left)
	}
	var failed []error
	for n := 1; n <= o.runs && ctx.Err() == nil; n++ {
		one := o
		one.report = filepath.Join(o.report, strconv.Itoa(n))
		if err := one.once(ctx, left); err != nil {
			failed = append(failed, fmt.Errorf("run %d of %d: %w", n, o.runs, err))
		}
	}
	return errors.Join(append(failed, ctx.Err())...)
}

// once starts the lab, runs the suite, prints the results and ends the lab.
func (o options) once(ctx context.Context, left []omission) (err error) {
	junit := filepath.Join(o.report, "junit.xml")
	if err := os.MkdirAll(o.report, 0o755); err != nil {
		return fmt.Errorf("making the directory of reports: %w", err)
	}
	if err := os.Remove(junit); err != nil && !errors.Is(err, os.ErrNotExist) { // of another run: this one may not get as far as that
		return fmt.Errorf("removing an old report: %w", err)
	}
	if !o.keep {
		defer func() {
			err = errors.Join(err, o.fairlab(context.WithoutCancel(ctx), "", "down").Run())
		}()
	}
	if err := o.prepare(ctx); err != nil {
		return err
	}
	begin := time.Now()
	ended := o.suite(ctx, left) // badly if a spec fails, which the report names
	if ctx.Err() != nil {
		return fmt.Errorf("running the suite: %w", ctx.Err())
	}
	specs, err := readJUnit(junit)
	if err != nil {
		return fmt.Errorf("%w; the suite's output is in %s", err, o.report)
	}
	if err := report(os.Stdout, o, judge(specs, left), time.Since(begin)); err != nil || ended == nil {
		return err
	}
	return fmt.Errorf("running the suite: %w, though no spec failed; its output is in %s", ended, o.report)
}

// prepare brings up a lab with cluster DNS, zones and Fairlead.
func (o options) prepare(ctx context.Context) error {
	mode := modes[o.mode]
	steps := []*exec.Cmd{
		o.fairlab(ctx, "", "up", "--dns", "--dual-stack", "--nodes", strconv.Itoa(o.nodes), "--kube-proxy", mode.kubeProxy),
		o.fairlab(ctx, "", "install", "--set", strings.Join(o.values(), ",")),
		o.fairlab(ctx, pool, "kubectl", "apply", "--filename", "-"),
	}
	steps = append(steps, o.fairlab(ctx, "", "exec", "client", "--", "sh", "-c", outsider))
	for n := range o.nodes {
		zone := "topology.kubernetes.io/zone=zone-" + string(rune('a'+n%3)) // there are specs that want three, of two nodes each
		steps = append(steps, o.fairlab(ctx, "", "kubectl", "label", "--overwrite", "node", "node-"+strconv.Itoa(n+1), zone, "topology.kubernetes.io/region=lab"),
			o.fairlab(ctx, "", "exec", "node-"+strconv.Itoa(n+1), "--", "ip", "route", "replace", "203.0.113.100", "via", "192.0.2.100"))
	}
	steps = append(steps, o.fairlab(ctx, "", "kubectl", "--namespace", "kube-system", "rollout", "status", "deployment/coredns", "--timeout="+o.limit(5*time.Minute)))
	for _, step := range steps {
		if err := step.Run(); err != nil {
			return fmt.Errorf("running %s: %w", strings.Join(step.Args, " "), err)
		}
	}
	return nil
}

// values are those of the chart. On a slow machine the speakers get slower clocks as well: there a healthy one may need long to answer.
func (o options) values() []string {
	values := []string{"datapath.mode=" + modes[o.mode].datapath, "datapath.engine=" + o.engine}
	if o.slow > 1 {
		values = append(values, "gossip.probeInterval="+o.limit(200*time.Millisecond), "gossip.probeTimeout="+o.limit(80*time.Millisecond),
			"heartbeat.interval="+o.limit(50*time.Millisecond))
	}
	return values
}

// limit is a time, stretched on a slow machine.
func (o options) limit(d time.Duration) string { return (d * time.Duration(o.slow)).String() }

// fairlab is a command for the lab that shows its output; kubectl and helm take the lab's name before their own arguments.
func (o options) fairlab(ctx context.Context, stdin, command string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(o.bin, "fairlab"), append([]string{command, "--name", o.name}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), os.Stdout, os.Stderr
	return cmd
}

// quickOrder is a seed of the random order in which the two specs on rolling updates, which take five minutes per node, begin at once.
const quickOrder = "34"

// suite runs the specs on the lab's client; their output goes to a file, and a line per spec to the terminal by ginkgo itself.
func (o options) suite(ctx context.Context, left []omission) error {
	config := filepath.Join(o.report, "kubeconfig")
	get := o.fairlab(ctx, "", "kubeconfig", "--client")
	get.Stdout = nil
	text, err := get.Output()
	if err != nil {
		return fmt.Errorf("reading the lab's kubeconfig: %w", err)
	}
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return fmt.Errorf("writing the kubeconfig: %w", err)
	}
	log, err := os.Create(filepath.Join(o.report, "output.txt"))
	if err != nil {
		return fmt.Errorf("creating the suite's output: %w", err)
	}
	defer log.Close()
	// In a random order of all specs those begin first that the suite calls slow.
	args := []string{"client", "--", filepath.Join(o.bin, "ginkgo"), "--procs", strconv.Itoa(o.procs), "--timeout", "4h", "--no-color", "--randomize-all",
		"--output-dir", o.report, "--junit-report", "junit.xml", "--focus", o.selection(), "--skip", skips(left), "--poll-progress-after", "0"}
	if o.short || o.mode == "external" {
		args = append(args, "--seed", quickOrder)
	}
	args = append(args, filepath.Join(o.bin, "e2e-upstream.test"), "--",
		"-kubeconfig", config, "-provider", "local", "-num-nodes", strconv.Itoa(o.nodes), "-allowed-not-ready-nodes", "0",
		"-node-schedulable-timeout", o.limit(2*time.Minute), "-system-pods-startup-timeout", o.limit(10*time.Minute),
		"-dump-logs-on-failure=false", "-delete-namespace-on-failure=true")
	cmd := o.fairlab(ctx, "", "exec", args...)
	cmd.Stdout, cmd.Stderr = log, log
	fmt.Println("the suite's output:", log.Name())
	return cmd.Run()
}

// selection is the expression that a spec's name must match.
func (o options) selection() string {
	switch {
	case o.focus != "":
		return o.focus
	case o.short:
		return `\[sig-network\].*\[Conformance\]|\[sig-network\] LoadBalancers`
	case o.mode == "external": // what else there is, is kube-proxy's
		return `\[sig-network\] LoadBalancers|\[sig-network\] Services should (complete a service status lifecycle|` +
			`fail health check node port if there are only terminating endpoints|serve endpoints on same port and different protocol for internal traffic)`
	}
	return `\[sig-network\]`
}
