// Package neighbours asks a segment who answers for an address, by ARP for IPv4 and by neighbour solicitation for IPv6 (RFC 826,
// RFC 4861), and counts all answers, not only the first: two stations that answer are what one looks for. It needs CAP_NET_RAW.
// kubectl fairlead uses it for --probe, the tests of the lab by test/cmd/probe. The speakers' own packets are announce/arp's and
// announce/ndp's.
package neighbours
