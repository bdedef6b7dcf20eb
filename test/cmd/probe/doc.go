// Command probe is the client of the demo, the e2e tests and the benchmarks: it opens new connections at a steady rate and
// reports what came back, or asks the segment who owns an address. It prints one JSON object and exits 0 whatever the
// answers were; only a wrong use or a missing permission is an error.
//
//	probe http ADDR:PORT [-path /hostname] [-interval 5ms] [-timeout 1s] [-for 3s]
//	probe udp ADDR:PORT  [-message hostname] [-port N] [-interval 5ms] [-timeout 1s] [-for 3s]
//	probe arp ADDR       [-iface eth0] [-for 500ms]
//
// With -for 0, http and udp go on until the standard input ends.
package main
