// Package arp announces IPv4 addresses by ARP (RFC 826). It is the [Codec] of a responder of announce/neighbour, where sockets,
// schedule and probes are.
//
// [Answer] is the whole decision about one packet and is pure. An address is announced in both forms that Linux accepts inside
// its locktime: a request with sender = target address, and a reply whose target hardware address is the sender's (a reply with
// a broadcast one is ignored for a second). It is probed with requests whose sender is 0.0.0.0 (RFC 5227 section 2.1.1). Every
// other packet with the address as its sender is a claim to it (section 2.4).
package arp
