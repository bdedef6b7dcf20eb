package ipam

import (
	"testing"
	"time"
)

// The callers' clock is monotonic. Should one not be, a jump may make an address rest for longer or shorter, but nobody goes
// without one that is there, and nothing is given out twice.
func TestClockJumps(t *testing.T) {
	const hour = time.Hour
	two := restful("p", time.Minute, "192.0.2.1-192.0.2.2")
	for name, steps := range map[string][]step{
		"forwards ends a rest": {
			pools(two), ensure(service("a"), "p", "192.0.2.1"), {release: "a"},
			ensure(service("b"), "p", "192.0.2.1").at(100 * 365 * 24 * hour),
		},
		"backwards makes it longer": {
			pools(two), ensure(service("a"), "p", "192.0.2.1").at(hour), step{release: "a"}.at(hour),
			ensure(service("b"), "p", "192.0.2.2").at(2 * time.Minute),
			{release: "b", after: 2 * time.Minute},
			ensure(service("c"), "p", "192.0.2.1").at(4 * time.Minute), // nothing is free: in the order in which they were freed
			ensure(service("d"), "p", "192.0.2.2").at(4 * time.Minute),
		},
		"freed again before the time at which it was freed first": {
			pools(restful("p", time.Minute, "192.0.2.1-192.0.2.1")),
			ensure(service("a"), "p", "192.0.2.1").at(hour), step{release: "a"}.at(hour),
			ensure(service("b"), "p", "192.0.2.1").at(0), step{release: "b"}.at(0),
			ensure(service("c"), "p", "192.0.2.1").at(2 * time.Minute),
			ensure(service("c"), "p", "192.0.2.1").at(3 * hour),
		},
		"each owner keeps its own": {
			pools(two), ensure(service("a"), "p", "192.0.2.1").at(hour), ensure(service("b"), "p", "192.0.2.2").at(-hour),
			ensure(service("a"), "p", "192.0.2.1").at(-2 * hour), ensure(service("b"), "p", "192.0.2.2").at(3 * hour),
		},
	} {
		t.Run(name, func(t *testing.T) { run(t, steps) })
	}
}
