package main

import (
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// spec is one test case of ginkgo's JUnit report.
type spec struct {
	Name    string  `xml:"name,attr"`
	Status  string  `xml:"status,attr"` // passed, skipped, or how it failed
	Seconds float64 `xml:"time,attr"`
	Skipped *struct {
		Message string `xml:"message,attr"`
	} `xml:"skipped"`
	Failure *struct {
		Message string `xml:"message,attr"`
	} `xml:"failure"`
}

func readJUnit(file string) ([]spec, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the suite's report: %w", err)
	}
	var report struct {
		Suites []struct {
			Specs []spec `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &report); err != nil {
		return nil, fmt.Errorf("parsing %s: %w", file, err)
	}
	var specs []spec
	for _, s := range report.Suites {
		specs = append(specs, s.Specs...)
	}
	return specs, nil
}

// The fates of a spec.
const (
	passed      = "passed"
	failed      = "failed"
	skipped     = "skipped by the suite itself"
	omitted     = "left out"
	notSelected = "not selected"
)

// result is the fate of a spec, and why.
type result struct {
	name, fate, why string
	seconds         float64
}

// judge tells for every spec of sig-network what became of it.
func judge(specs []spec, left []omission) []result {
	var results []result
	for _, s := range specs {
		name, isSpec := strings.CutPrefix(s.Name, "[It] ")
		if i := strings.LastIndex(name, " [sig-network"); i > 0 { // ginkgo repeats the labels
			name = name[:i]
		}
		if !isSpec || !strings.HasPrefix(name, "[sig-network]") {
			if s.Status != "passed" && s.Status != "skipped" {
				results = append(results, result{s.Name, failed, s.why(), s.Seconds}) // what prepares or ends the suite
			}
			continue
		}
		r := result{name: name, seconds: s.Seconds}
		i := slices.IndexFunc(left, func(o omission) bool { return o.spec.MatchString(name) })
		switch {
		case s.Status == "passed":
			r.fate = passed
		case s.Status != "skipped":
			r.fate, r.why = failed, s.why()
		case i >= 0:
			r.fate, r.why = omitted, left[i].reason
		case s.Skipped != nil && strings.HasPrefix(s.Skipped.Message, "skipped - "):
			r.fate, r.why = skipped, firstLine(strings.TrimPrefix(s.Skipped.Message, "skipped - "))
		default:
			r.fate = notSelected
		}
		results = append(results, r)
	}
	slices.SortFunc(results, func(a, b result) int { return strings.Compare(a.name, b.name) })
	return results
}

func (s spec) why() string {
	if s.Failure == nil || s.Failure.Message == "" {
		return s.Status
	}
	return s.Status + ": " + firstLine(s.Failure.Message)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// report prints the counts, and every spec that did not simply pass. It fails if a spec did, or if none ran.
func report(w io.Writer, o options, results []result, took time.Duration) error {
	count := map[string]int{}
	for _, r := range results {
		count[r.fate]++
	}
	fmt.Fprintf(w, "\n| %s | specs |\n|---|---|\n", o.kind())
	for _, fate := range []string{passed, failed, skipped, omitted, notSelected} {
		fmt.Fprintf(w, "| %s | %d |\n", fate, count[fate])
	}
	fmt.Fprintf(w, "\ntook %s\n", took.Round(time.Second))
	for _, r := range slowest(results, 5) {
		fmt.Fprintf(w, "- %.0f s: %s\n", r.seconds, r.name)
	}
	reasons := map[string]int{}
	for _, r := range results {
		switch r.fate {
		case failed, skipped:
			fmt.Fprintf(w, "- %s: %s (%s)\n", r.fate, r.name, r.why)
		case omitted:
			reasons[r.why]++
		}
	}
	for _, why := range slices.Sorted(maps.Keys(reasons)) {
		fmt.Fprintf(w, "- %s: %d specs (%s)\n", omitted, reasons[why], why)
	}
	switch {
	case count[failed] > 0:
		return fmt.Errorf("%d specs failed", count[failed])
	case count[passed] == 0:
		return errors.New("no spec ran")
	}
	return nil
}

// slowest returns up to n specs that ran, those first that took longest.
func slowest(results []result, n int) []result {
	ran := slices.DeleteFunc(slices.Clone(results), func(r result) bool { return r.fate != passed && r.fate != failed })
	slices.SortStableFunc(ran, func(a, b result) int { return cmp.Compare(b.seconds, a.seconds) })
	return ran[:min(n, len(ran))]
}
