// Command bgp measures what BGP's failures cost, on this machine, without a cluster: nodes and an FRR router are network
// namespaces with a cable between each, the nodes run the real sessions and the real BFD, and a client behind the router opens a new
// TCP connection every few milliseconds to an address that the router spreads over all nodes.
//
// It needs root and the package frr: scripts/test-wire installs it.
package main
