package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/test/cluster"
)

const nodes = 3

func main() {
	trials := flag.Int("trials", 3, "how often Fairlead is installed, each time in a new lab")
	idle := flag.Duration("idle", 30*time.Second, "how long to look at the processes while nothing happens")
	bin := flag.String("bin", "bin", "directory of the binaries")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for range *trials {
		if err := trial(ctx, *bin, *idle); err != nil {
			fmt.Fprintln(os.Stderr, "install:", err)
			os.Exit(1)
		}
	}
}

func trial(ctx context.Context, bin string, idle time.Duration) (err error) {
	lab, err := cluster.StartAnew(ctx, bin, "bench-install", "--nodes", strconv.Itoa(nodes), "--kube-proxy", "nftables")
	if err != nil {
		return err
	}
	defer func() {
		if e := lab.Down(context.WithoutCancel(ctx)); err == nil {
			err = e
		}
	}()
	if err := install(ctx, lab, filepath.Dir(lab.Bin)); err != nil {
		return err
	}
	return rest(ctx, lab, idle)
}

// firstAnswer asks until there is an answer, for one minute, and prints the time.
const firstAnswer = `for i in $(seq 300); do curl -s -o /dev/null -m 0.2 http://192.0.2.200/hostname && exec date +%s.%N; sleep 0.01; done; exit 1`

// install runs the README's commands and prints how long it takes to the first answer. The pods of the Service are there before.
func install(ctx context.Context, lab *cluster.Lab, checkout string) error {
	quickstart := filepath.Join(checkout, "examples", "quickstart")
	if err := lab.Apply(ctx, filepath.Join(quickstart, "echo.yaml")); err != nil {
		return err
	}
	if _, err := lab.Fairlab(ctx, "kubectl", "rollout", "status", "--timeout=2m", "deployment/echo"); err != nil {
		return err
	}
	start := time.Now()
	if _, err := lab.Fairlab(ctx, "helm", "install", "fairlead", filepath.Join(checkout, "charts", "fairlead"),
		"--namespace", "fairlead-system", "--create-namespace"); err != nil {
		return err
	}
	if err := lab.Apply(ctx, quickstart); err != nil {
		return err
	}
	applied := time.Since(start)
	out, err := lab.Exec(ctx, "client", "sh", "-c", firstAnswer)
	if err != nil {
		return err
	}
	at, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
	if err != nil {
		return fmt.Errorf("reading the time of the first answer: %w", err)
	}
	fmt.Printf("install.commands %.2f s\n", applied.Seconds())
	fmt.Printf("install.first-answer %.2f s\n", at-float64(start.UnixNano())/1e9)
	return nil
}

// process is what a process has used so far.
type process struct {
	rss, ticks float64 // KiB; hundredths of a second
}

// processes lists Fairlead's processes of a node: name, process id, KiB, ticks.
const processes = `for p in $(pgrep -x 'speaker|lbcontroller'); do
	name=$(tr '\0' ' ' </proc/$p/cmdline | sed 's|^[^ ]*/||; s/ --.*//; s/ /-/g')
	echo "$name $p $(awk '/^VmRSS/ {print $2}' /proc/$p/status) $(awk '{print $14 + $15}' /proc/$p/stat)"
done`

func read(ctx context.Context, lab *cluster.Lab) (map[string]process, error) {
	out := map[string]process{}
	for n := 1; n <= nodes; n++ {
		node := fmt.Sprintf("node-%d", n)
		text, err := lab.Exec(ctx, node, "sh", "-c", processes)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(text) {
			var name string
			var pid int
			var p process
			if _, err := fmt.Sscan(line, &name, &pid, &p.rss, &p.ticks); err != nil {
				return nil, fmt.Errorf("reading the processes of %s from %q: %w", node, line, err)
			}
			out[fmt.Sprintf("%s %s %d", name, node, pid)] = p
		}
	}
	return out, nil
}

// rest prints what each process holds and uses while nothing happens.
func rest(ctx context.Context, lab *cluster.Lab, idle time.Duration) error {
	time.Sleep(10 * time.Second) // what follows the installation
	before, err := read(ctx, lab)
	if err != nil {
		return err
	}
	start := time.Now()
	time.Sleep(idle)
	after, err := read(ctx, lab)
	if err != nil {
		return err
	}
	took := time.Since(start).Seconds()
	for id, p := range after {
		was, ok := before[id]
		if !ok {
			return fmt.Errorf("process %s has just started, although nothing should happen", id)
		}
		name, _, _ := strings.Cut(id, " ")
		fmt.Printf("install.idle.%s.rss %.1f MiB\n", name, p.rss/1024)
		fmt.Printf("install.idle.%s.cpu %.2f %%core\n", name, (p.ticks-was.ticks)/took)
	}
	return nil
}
