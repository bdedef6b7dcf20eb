// Package probe is the client of the demo, the e2e tests and the benchmarks: it opens new connections at a steady rate and
// reports what came back ([Repeat]), or asks the segment who owns an address ([WhoHas]). Command test/cmd/probe runs it
// in a lab's client namespace; the reports travel back as JSON.
package probe
