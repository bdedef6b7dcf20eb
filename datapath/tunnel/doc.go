// Package tunnel decides whether what direct server return needs is there between this node and the others. A node hands the packets of a
// client to the pods of other nodes inside IP packets that are addressed to the pod: IP protocol 4 for IPv4, 41 for IPv6 (RFC 2003, RFC
// 2473). Clouds, firewalls on the nodes, network plugins and reverse-path filters drop those while everything else passes, and then the
// connections that happen to go to these pods hang. So speakers ask each other through the tunnel, and say who does not answer.
//
// # Probes
//
// While a Service asks for it, a speaker asks each other node that has endpoints of one: at the node's own address, and at one of the endpoints
// for which that node says that it takes tunnelled packets, of each family, every 10 s, and every second until it is clear whether there
// is an answer. An ask is a whole IP packet, from node to node, of protocol 253 (RFC 3692 section 2.1), inside another one, as the datapath
// sends them. Who hears it answers to the asking node's address, inside a tunnel again, so no port has to be opened, and both directions are
// tried. It is heard where the kernel would unpack it: behind reverse-path filter, routing and firewall. A node that knows that it cannot
// unpack says so.
//
// # Strangers
//
// Asks and answers are signed (HMAC-SHA256, RFC 2104) with a key derived from the speakers' shared one, name both nodes, and carry
// a number that the asking process has never used before. Whoever has no key is not answered. One who replays an ask causes one
// answer, not longer than the ask, to the address that the API server has of the asking node, which drops it.
//
// The package is pure: datapath/tunnel/probe has the sockets and the clock. It finds out and reports; how to forward is package
// datapath's to decide.
package tunnel
