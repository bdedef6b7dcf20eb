package docs

import (
	_ "embed"
	"regexp"
	"strings"
)

//go:embed reasons.md
var reasons string

// Advice is what reasons.md says of a Reason.
type Advice struct {
	Means string // what is so
	Do    string // the way out
}

// Reasons returns the rows of reasons.md by their reason. A row begins with the reason and ends with what it means and what to do.
func Reasons() map[string]Advice {
	out := map[string]Advice{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Za-z0-9]+)` \\|(.*)\\|$").FindAllStringSubmatch(reasons, -1) {
		cells := strings.Split(row[2], " | ")
		if last := len(cells) - 1; last > 0 {
			out[row[1]] = Advice{strings.TrimSpace(cells[last-1]), strings.TrimSpace(cells[last])}
		}
	}
	return out
}
