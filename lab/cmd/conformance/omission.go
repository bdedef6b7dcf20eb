package main

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
)

//go:embed left-out.txt
var omissions string

// omission is a set of specs that are left out, and why.
type omission struct {
	spec   *regexp.Regexp
	reason string
}

// leftOut reads left-out.txt: a reason after "# ", then the expressions that it is for. A reason that begins with "mode NAME: " is for
// that mode alone.
func leftOut(mode string) ([]omission, error) {
	var list []omission
	reason, only := "", ""
	for n, line := range strings.Split(omissions, "\n") {
		switch text, comment := strings.CutPrefix(line, "# "); {
		case comment:
			reason, only = text, ""
			if rest, limited := strings.CutPrefix(text, "mode "); limited {
				only, _, _ = strings.Cut(rest, ":")
			}
		case line == "":
		case reason == "":
			return nil, fmt.Errorf("left-out.txt:%d: no reason before it", n+1)
		case only != "" && only != mode:
		default:
			spec, err := regexp.Compile(line)
			if err != nil {
				return nil, fmt.Errorf("left-out.txt:%d: %w", n+1, err)
			}
			list = append(list, omission{spec, reason})
		}
	}
	return list, nil
}

// skips is the expression for what is left out.
func skips(left []omission) string {
	var parts []string
	for _, o := range left {
		parts = append(parts, o.spec.String())
	}
	return strings.Join(parts, "|")
}
