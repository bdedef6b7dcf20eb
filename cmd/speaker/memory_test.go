package main

import "testing"

// TestSoonDue: of 50 MB that survived a collection with gcPercent, the next one is over at 65 and begins at 60.5.
func TestSoonDue(t *testing.T) {
	for used, want := range map[uint64]bool{50: false, 53: false, 57: true, 65: true} {
		if got := soonDue(used<<20, 65<<20); got != want {
			t.Errorf("%d MB: %v, want %v", used, got, want)
		}
	}
}
