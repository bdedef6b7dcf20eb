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

// run starts the lab, runs the suite, prints the results and ends the lab.
func run(ctx context.Context, o options) (err error) {
	left, err := leftOut()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.report, 0o755); err != nil {
		return fmt.Errorf("making the directory of reports: %w", err)
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
	if err := o.suite(ctx, left); err != nil && ctx.Err() != nil {
		return err
	}
	specs, err := readJUnit(filepath.Join(o.report, "junit.xml"))
	if err != nil {
		return fmt.Errorf("%w; the suite's output is in %s", err, o.report)
	}
	return report(os.Stdout, o, judge(specs, left), time.Since(begin))
}

// prepare brings up a lab with cluster DNS, zones and Fairlead.
func (o options) prepare(ctx context.Context) error {
	mode := modes[o.mode]
	steps := []*exec.Cmd{
		o.fairlab(ctx, "", "up", "--dns", "--dual-stack", "--nodes", strconv.Itoa(o.nodes), "--kube-proxy", mode.kubeProxy),
		o.fairlab(ctx, "", "install", "--set", "datapath.mode="+mode.datapath, "--set", "datapath.engine="+o.engine),
		o.fairlab(ctx, pool, "kubectl", "apply", "--filename", "-"),
	}
	steps = append(steps, o.fairlab(ctx, "", "exec", "client", "--", "sh", "-c", outsider))
	for n := range o.nodes {
		zone := "topology.kubernetes.io/zone=zone-" + string(rune('a'+n))
		steps = append(steps, o.fairlab(ctx, "", "kubectl", "label", "--overwrite", "node", "node-"+strconv.Itoa(n+1), zone, "topology.kubernetes.io/region=lab"),
			o.fairlab(ctx, "", "exec", "node-"+strconv.Itoa(n+1), "--", "ip", "route", "replace", "203.0.113.100", "via", "192.0.2.100"))
	}
	steps = append(steps, o.fairlab(ctx, "", "kubectl", "--namespace", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=5m"))
	for _, step := range steps {
		if err := step.Run(); err != nil {
			return fmt.Errorf("running %s: %w", strings.Join(step.Args, " "), err)
		}
	}
	return nil
}

// fairlab is a command for the lab that shows its output; kubectl and helm take the lab's name before their own arguments.
func (o options) fairlab(ctx context.Context, stdin, command string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(o.bin, "fairlab"), append([]string{command, "--name", o.name}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), os.Stdout, os.Stderr
	return cmd
}

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
	args := []string{"client", "--", filepath.Join(o.bin, "ginkgo"), "--procs", strconv.Itoa(o.procs), "--timeout", "4h", "--no-color",
		"--output-dir", o.report, "--junit-report", "junit.xml", "--focus", o.selection(), "--skip", skips(left), "--poll-progress-after", "0",
		filepath.Join(o.bin, "e2e-upstream.test"), "--",
		"-kubeconfig", config, "-provider", "local", "-num-nodes", strconv.Itoa(o.nodes), "-allowed-not-ready-nodes", "0", "-node-schedulable-timeout", "2m",
		"-dump-logs-on-failure=false", "-delete-namespace-on-failure=true"}
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
	}
	return `\[sig-network\]`
}
