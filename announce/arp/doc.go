// Package arp announces IPv4 addresses on Ethernet segments: it answers ARP requests (RFC 826) for the addresses that this
// node owns and tells the neighbours when an address has moved here.
//
// [Answer] is the whole decision about one packet and is pure. [Responder] gives it packets: one socket and one reading
// goroutine per link, which look addresses up in a snapshot that [Responder.Set] replaces as a whole, so that not one answer
// is sent after Set has returned without the address. A packet that is not ours costs a map lookup and no allocation.
//
// Gratuitous packets go out in both forms that Linux accepts inside its locktime: a request with sender = target address,
// and a reply whose target hardware address is the sender's (a reply with a broadcast one is ignored for a second). They are
// repeated while the first ones may have been lost, and then now and then for switches that forget, paced over all addresses.
//
// An ARP packet in which somebody else claims an address of ours is reported as a [Conflict] (RFC 5227 section 2.4); what to
// make of it, the speaker decides, who knows the other speakers. Which addresses to announce and where is decided by package
// announce; the kernel is kept from answering by datapath/link.
package arp
