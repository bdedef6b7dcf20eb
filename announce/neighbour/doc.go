// Package neighbour announces addresses on Ethernet segments. It is what ARP and NDP have in common: one [Responder] that is
// given a [Codec], which knows what the packets of its protocol look like and what they mean (announce/arp for IPv4,
// announce/ndp for IPv6).
//
// One socket and one reading goroutine per link look addresses up in a snapshot that [Responder.Set] replaces as a whole, so
// that not one answer is sent after Set has returned without the address. A packet that is not ours costs a map lookup and no
// allocation; a filter in the kernel keeps other traffic away from the socket (see [Open]).
//
// # An address on a link
//
// It is probed first, if its Target says so: three probes, 100 ms apart (RFC 5227 section 2.1.1 and RFC 4862 section 5.4 with
// other times), and neither answered for nor announced meanwhile. If a station that is no speaker answers, or probes for the
// address itself, nothing is announced. The address stands in [Responder.Conflicts] until it is probed again, if it is still
// wanted: about 30 s after an answer, which is a [Conflict], 1 to 2 s after a probe, whose sender may be a speaker that is not
// known yet, and at once when it becomes known.
//
// Then it is announced, in the forms that hosts accept, while the first packets may have been lost, and from then on now and
// then for switches that forget, paced over all addresses. All that asks for it is answered: broadcast, multicast, unicast
// (hosts that check whether a neighbour is still there), and other stations' probes.
//
// A stranger's packet that claims an announced address is reported as a Conflict and countered by one announcement, at most
// one per second and address. The address is never given up because of a packet: a hardware address proves nothing. Between
// speakers the epochs of their claims decide, and no packet is sent because of each other's.
//
// # Fence
//
// While Options.MayAnswer says no, nothing at all is sent. Afterwards everything that is still wanted is announced anew.
//
// The package does not decide which addresses to announce and where (package announce), nor what to make of a conflict (the
// speaker). The kernel is kept from answering by datapath/link.
package neighbour
