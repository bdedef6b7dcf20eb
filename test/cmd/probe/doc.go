// Command probe is the client of the demo, the e2e tests and the benchmarks: it opens new connections at a steady rate and
// reports what came back, holds connections open and reports which of them go on, or asks the segment who owns an address. It
// prints one JSON object and exits 0 whatever the answers were; only a wrong use or a missing permission is an error.
//
//	probe http ADDR:PORT [-path /hostname] [-interval 5ms] [-timeout 1s] [-for 3s]
//	probe udp ADDR:PORT  [-message hostname] [-port N] [-interval 5ms] [-timeout 1s] [-for 3s]
//	probe hold ADDR:PORT [-path /hostname] [-open 1000] [-interval 5ms] [-timeout 1s]
//	probe arp ADDR       [-iface eth0] [-for 500ms]
//
// With -for 0, http and udp go on until the standard input ends. hold does so always: meanwhile it uses one connection after the other,
// and for each line of input, and once before the first, it uses all and prints an object.
package main
