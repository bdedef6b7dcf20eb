// Package ndp announces IPv6 addresses by the Neighbor Discovery Protocol (RFC 4861). It is the [Codec] of a responder of
// announce/neighbour, where sockets, schedule and probes are.
//
// [Answer] is the whole decision about one packet and is pure. Solicitations are answered whether they come by the
// solicited-node group, to all nodes, or to the address itself, as a host sends them that checks whether a neighbour is still
// there (section 7.3); the answer is an advertisement with the flags Solicited and Override, not Router. A solicitation from
// :: is another host's duplicate address detection (RFC 4862 section 5.4.3): the answer goes to all nodes and is not
// Solicited. An address is announced by an unsolicited advertisement with Override to all nodes, and probed by such a
// solicitation from :: with a nonce, by which a copy that comes back through a loop is known (RFC 7527).
//
// [Parse] takes nothing that RFC 4861 sections 7.1.1 and 7.1.2 have a host discard: hop limit 255, the checksum, and every
// option's length are checked. Options without a use here are skipped.
//
// For every address the node joins its solicited-node group through a socket, so that the kernel reports it by MLD and
// switches that snoop on that forward the questions; see [groups]. IPv6 has to be enabled on the link for that.
package ndp
