package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/test/bed"
)

// config is what the command line says.
type config struct {
	only      []string // sections; empty = all
	trials    int
	format    string        // table or lines
	soak      time.Duration // each of hogs, loss and quota
	addresses int           // of section many
	idleFor   time.Duration
	pauses    []time.Duration // of section stale
	reference bool            // measure keepalived too
	cpu       string          // the cgroup of section quota
}

// section is a measurement that can be run alone.
type section struct {
	name, what string
	run        func(*bench)
}

func sections() []section {
	return []section{
		{"power", "the owner loses power: outage with 3 and 5 speakers, and with keepalived", power},
		{"memberlist", "the same without the fast detector", memberlist},
		{"process", "the speaker of the owner is killed, its node lives: outage", process},
		{"link", "the owner loses its announcing link and keeps another: outage", link},
		{"stale", "the owner is suspended and wakes up: its packets while another owns the address", suspended},
		{"partition", "the segment is split and healed: time until one owner answers and the client knows it", partition},
		{"drain", "one speaker after the other is restarted: failed new connections", drain},
		{"many", "a node with thousands of addresses loses power: time until all are announced, packets per second", many},
		{"idle", "speakers with 1,000 addresses and 10 peers, nothing happens: CPU, memory", idle},
		{"hogs", "16 busy processes for the time of -soak: changes of ownership", hogs},
		{"loss", "2 % of all packets are lost for the time of -soak: changes of ownership", loss},
		{"quota", "one speaker may use a tenth of a CPU for the time of -soak: changes of ownership", quota},
	}
}

func main() {
	outside := func() error {
		c, err := parse(os.Args[1:])
		if errors.Is(err, flag.ErrHelp) {
			os.Exit(0)
		}
		if err == nil && c.runs("quota") {
			if err := withCgroup(); err != nil { // the section says that it is not available
				fmt.Fprintln(os.Stderr, "failover:", err)
			}
		}
		return err
	}
	inside := func() int {
		c, err := parse(os.Args[1:])
		if err != nil {
			panic("failover: what was accepted outside is refused inside: " + err.Error())
		}
		return measure(c)
	}
	os.Exit(bed.Main(bed.Program{Before: outside, Run: inside}))
}

// runs reports whether the section called name is to run.
func (c config) runs(name string) bool { return len(c.only) == 0 || slices.Contains(c.only, name) }

func parse(args []string) (config, error) {
	c := config{cpu: os.Getenv(cgroupVar), pauses: []time.Duration{200 * time.Millisecond, 500 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second}}
	fs := flag.NewFlagSet("failover", flag.ContinueOnError)
	only := fs.String("only", "", "sections to run, separated by commas; default all")
	list := fs.Bool("list", false, "list the sections and exit")
	fs.IntVar(&c.trials, "trials", 50, "trials per section and contender")
	fs.StringVar(&c.format, "format", "table", "table or lines")
	fs.DurationVar(&c.soak, "soak", 10*time.Minute, "length of each of hogs, loss and quota")
	fs.IntVar(&c.addresses, "addresses", 5000, "addresses of section many")
	fs.BoolVar(&c.reference, "keepalived", true, "measure keepalived in the same run")
	fs.DurationVar(&c.idleFor, "idle-for", 30*time.Second, "length of section idle")
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	if *list {
		for _, s := range sections() {
			fmt.Printf("%-12s %s\n", s.name, s.what)
		}
		return c, flag.ErrHelp
	}
	if *only != "" {
		c.only = strings.Split(*only, ",")
	}
	return c, c.validate()
}

func (c config) validate() error {
	for _, name := range c.only {
		if !slices.ContainsFunc(sections(), func(s section) bool { return s.name == name }) {
			return fmt.Errorf("-only names %q, which is no section; see -list", name)
		}
	}
	switch {
	case c.trials < 1:
		return fmt.Errorf("-trials is %d, want at least 1", c.trials)
	case c.addresses < 1 || c.addresses > maxAddresses:
		return fmt.Errorf("-addresses is %d, want 1 to %d", c.addresses, maxAddresses)
	case c.format != "table" && c.format != "lines":
		return fmt.Errorf("-format is %q, want table or lines", c.format)
	case c.soak <= 0 || c.idleFor <= 0:
		return errors.New("-soak and -idle-for must be positive")
	}
	return nil
}

// measure runs the sections and prints the results. It returns the exit code.
func measure(c config) int {
	b := &bench{c: c, out: &results{}}
	failed := 0
	for _, s := range sections() {
		if !c.runs(s.name) {
			continue
		}
		b.logf("%s: %s", s.name, s.what)
		if err := b.section(s); err != nil {
			b.logf("%s: %v", s.name, err)
			failed++
		}
	}
	if c.format == "lines" {
		b.out.lines(os.Stdout)
	} else {
		b.out.table(os.Stdout)
		fmt.Printf("%d CPUs, %s; compare within this table only\n", runtime.NumCPU(), kernel())
	}
	if failed > 0 {
		fmt.Fprintf(os.Stderr, "failover: %d sections failed\n", failed)
		return 1
	}
	return 0
}

func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown kernel"
	}
	return "kernel " + strings.TrimSpace(string(release))
}
