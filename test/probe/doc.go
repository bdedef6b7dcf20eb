// Package probe is the client of the demo, the e2e tests and the benchmarks: it opens new connections at a steady rate and
// reports what came back ([Repeat]), or holds some open and reports which of them go on ([Hold]). Command test/cmd/probe runs it in a
// lab's client namespace, or asks the segment there who owns an address (internal/neighbours); the reports travel back as JSON.
package probe
