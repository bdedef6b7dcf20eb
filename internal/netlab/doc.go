// Package netlab is a simulated LAN for tests: in virtual time (testing/synctest) it runs whole speakers, with the real
// internal/speaker, election/gossip on memberlist, and the deciders, on stand-ins for what touches the kernel. Its switch
// loses, delays and partitions; nodes lose their power, their cable or their process, sleep and wake; a client resolves the
// addresses through a neighbour cache that follows Linux's rules about gratuitous ARP, and connects every ten milliseconds.
//
// A scenario is a script, see [Run]; those in test/sim are the project's, with their golden answers. What the LAN does not
// show: the cost of anything, and what a process does that stands still: a node that sleeps is simulated as one that neither
// sends nor hears. Its gossip goes on meanwhile and takes the others for dead after half a second, which that of a stopped process
// does not; scenarios keep sleep well below that.
//
// Only tests import this package.
package netlab
