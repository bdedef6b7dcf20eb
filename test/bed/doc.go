// Package bed is a network segment with whole speakers on it, for the wire tests and the failover benchmark: a bridge with a
// client beside it, and nodes that are network namespaces, each with a server behind the addresses, and a speaker (or
// keepalived, to compare with) that announces them. The speakers are the real loops with gossip and the real announcers on
// real sockets; only the API server is missing, its facts are fixed ([NodeOptions]). Without a backend there is no
// datapath engine either: the addresses are delivered locally on every node.
//
// A program that uses it calls [Main], which starts the program again in namespaces of its own (network, processes, mounts
// with a private /run), so that everything ends with the first process, however that ends, and nothing is left behind.
// Those copies in turn start themselves again as the processes of the nodes.
//
// The capture ([LAN.Capture]) is the oracle of who claimed an address when: it sees each ARP packet and neighbour
// advertisement of a node once, as it leaves the node's cable, with the kernel's time.
//
// Callers: test/wire, test/bench/failover; test/wire/bfd uses its namespaces and processes alone. It needs root; without it,
// user namespaces that may create network namespaces.
package bed
