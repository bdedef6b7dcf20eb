// Command failover measures how long addresses are unreachable when a node, a link, a speaker or the segment fails, and
// whether anything moves that should not. Speakers (the real loops and announcers, see test/bed) and keepalived, the reference,
// stand on the same segment, and their trials take turns, so that both meet the same load of the machine: compare figures of
// one run with each other, never with those of another machine.
//
//	failover                             everything; two hours with the default of 50 trials
//	failover -only power,stale -trials 20
//	failover -list                       the sections and what they measure
//	failover -format lines               "name value unit" lines, for scripts/bench
//
// It must be root. All of it happens in namespaces that end with the program; a cgroup for the section quota is removed by a
// helper that outlives it.
//
// An outage is the longest time between two successful new TCP connections, of which the client opens one every 5 ms, less
// those 5 ms; it ends after the event. The same before the event (longest-gap-before) is the noise of the machine: an outage that is
// not well above it says nothing. A connection has succeeded when the server's first line has arrived. Column load is the machine's load average
// (1 minute) while the trials ran, the mean of all.
package main
