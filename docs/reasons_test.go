package docs

import (
	"regexp"
	"testing"
)

// TestEveryRowIsRead holds the page to the form in which programs read it: each reason has what it means and what to do.
func TestEveryRowIsRead(t *testing.T) {
	read := Reasons()
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(reasons, -1)
	if len(rows) < 40 {
		t.Fatalf("the page has only %d rows: has their notation changed?", len(rows))
	}
	for _, row := range rows {
		if advice := read[row[1]]; advice.Means == "" || advice.Do == "" {
			t.Errorf("%s: means %q, do %q; a row ends with both cells, filled", row[1], advice.Means, advice.Do)
		}
	}
}
