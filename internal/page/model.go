package page

import (
	"fmt"
	"html/template"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/internal/explain"
	"github.com/fairlead-lb/fairlead/lb"
)

// overview is the first page.
type overview struct {
	frame
	explain.Overview
	MoreProblems int // that are left out
	Ready        int // controllers
	Able         int // nodes whose speaker is ready
	Announced    int // addresses
	Total        int // addresses
	Find         string
	Found        int // addresses that match Find
	Placements   []explain.Placement
	Sessions     []explain.Session
	Changes      []explain.Change
}

// overviewOf computes the first page; find narrows the table of addresses to the rows that hold it.
func overviewOf(f *explain.Facts, fr frame, find string) overview {
	out := overview{frame: fr, Overview: f.Overview(), Sessions: f.Sessions(), Changes: f.Changes(maxChanges)}
	out.Find = strings.TrimSpace(find[:min(len(find), maxQuery)])
	if n := len(out.Problems); n > maxProblems {
		out.Problems, out.MoreProblems = out.Problems[:maxProblems], n-maxProblems
	}
	for _, c := range out.Controller {
		if c.Ready {
			out.Ready++
		}
	}
	for _, n := range out.Nodes {
		if n.State == "ready" {
			out.Able++
		}
	}
	all := f.Placements()
	out.Total = len(all)
	for _, p := range all {
		if p.Announced() {
			out.Announced++
		}
		if matches(p, out.Find) {
			out.Found++
			out.Placements = append(out.Placements, p)
		}
	}
	// What nobody announces comes first: it is what somebody looks for at night.
	slices.SortStableFunc(out.Placements, func(a, b explain.Placement) int { return rank(a) - rank(b) })
	out.Placements = out.Placements[:min(len(out.Placements), maxAddresses)]
	return out
}

func rank(p explain.Placement) int {
	if p.Announced() {
		return 1
	}
	return 0
}

func matches(p explain.Placement, find string) bool {
	has := func(s string) bool { return strings.Contains(s, find) }
	return has(p.Address.String()) || has(p.Pool) || has(string(p.Layer2)) || slices.ContainsFunc(p.Services, has)
}

// link is a link of Markdown.
func link() *regexp.Regexp { return regexp.MustCompile(`\[([^\]]+)\]\([^)]*\)`) }

// functions are what the templates call.
func functions() template.FuncMap {
	return template.FuncMap{
		"chain":   func(q string) string { return "explain?" + url.Values{"q": {q}}.Encode() },
		"ago":     func(now, then time.Time) string { return ago(now.Sub(then)) },
		"clock":   func(t time.Time) string { return t.UTC().Format("15:04:05") },
		"stamp":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"percent": percent,
		"count":   count,
		"nodes":   nodes,
		"parts":   parts,
		"plus":    func(a, b int) int { return a + b },
		"refusal": refusal,
		"word":    word,
	}
}

// part is a piece of a sentence, as code or not.
type part struct {
	Text string
	Code bool
}

// parts cuts a sentence of docs/reasons.md or of a Reason's message at its backquotes. Of a link its text is left.
func parts(sentence string) []part {
	var out []part
	for i, text := range strings.Split(link().ReplaceAllString(sentence, "$1"), "`") {
		if text != "" {
			out = append(out, part{text, i%2 == 1})
		}
	}
	return out
}

// refusal joins what a step or a session says of its reason, which may be of type string.
func refusal(reason any, message string) lb.Refusal {
	return lb.Refusal{Reason: lb.Reason(fmt.Sprint(reason)), Message: message}
}

// word is a verdict as it is read, and its class.
func word(v explain.Verdict) string {
	if v == explain.Skipped {
		return "skipped"
	}
	return string(v)
}

// percent is how much of the pool is in use, 0 to 100: 0 and 100 only if that is exact.
func percent(p explain.PoolState) int {
	total := float64(p.Assigned) + float64(p.Available)
	switch {
	case p.Assigned == 0 || total == 0:
		return 0
	case p.Available == 0:
		return 100
	}
	return min(99, max(1, int(float64(p.Assigned)/total*100)))
}

// count writes a number of addresses; where it has more digits than anybody reads it says so.
func count(n int64) string {
	if n >= 1_000_000_000 {
		return "over 10\u2079"
	}
	return strconv.FormatInt(n, 10)
}

// ago says how long ago something was, in its largest unit.
func ago(d time.Duration) string {
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

// nodes names a few nodes, and says how many there are of more.
func nodes(all []lb.NodeName) string {
	const few = 3
	var out []string
	for _, n := range all[:min(few, len(all))] {
		out = append(out, string(n))
	}
	if len(all) > few {
		out = append(out, fmt.Sprintf("%d more", len(all)-few))
	}
	return strings.Join(out, ", ")
}
