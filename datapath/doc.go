// Package datapath decides what a node's kernel must hold so that connections to Services end at their endpoints: [Desired] turns
// facts into a [State], [Diff] turns two states into ordered operations.
//
// It knows the semantics of Services (traffic policies, terminating endpoints, source ranges, session affinity; the
// S-numbers in comments and tests are the statements of the project's Service specification, KEP-1669 and KEP-1860 among their
// sources) and no kernel interface. It reads no clock and opens nothing: executors are datapath/ipvs, datapath/nft,
// datapath/link and datapath/conntrack, which never decide. internal/speaker calls Desired, the ipvs engine calls Diff.
//
// # What a State promises, and an engine renders
//
// The first packet of a connection meets these questions in this order; later packets follow the first one.
//
//  1. Who is it? [Host] if its source is an address of the node or the node itself sends it, [Pods] if [State.Pods] recognises it,
//     otherwise [Outside].
//  2. Which server? That of its destination address, port and protocol; if the address is one of [State.NodeAddrs] and no server
//     is at it with this port, the node port of the address's family. Pods and the host use the server with Inside if
//     there is one; they share everything else with the outside.
//  3. No server: refused if the address is one of [State.VIPs], so that no daemon of the node is reached through it (S46), except
//     pings; none of our business otherwise.
//  4. Not in SourceRanges: dropped (S49). The source counts as it arrives, before any translation, that of the node's own
//     connections too.
//  5. The [Verdict]: refused with a TCP reset or an ICMP error, or dropped.
//  6. Otherwise one of the Destinations with a weight, by Scheduler and Affinity. A client with affinity returns to its
//     endpoint as long as it has a weight (S36); each new connection prolongs that (S34). The memory is that of the Service, Port and
//     Protocol, not of the address (S35), where the engine can do that.
//  7. Masqueraded if its kind is in Masquerade, or if the endpoint has the address of the client (S28: a pod that reaches itself),
//     which is said nowhere because it is always so.
//
// # Direct server return
//
// A server that is Direct has the same destinations and weights on every node, and a scheduler that chooses by what the client's packet
// says, so that any node may receive the rest of a connection. It masquerades nobody. Destinations of this node have the method NAT, those
// of others Tunnel: their nodes answer the client with the address that it asked, and no answer passes the node that received it. Pods
// and the node itself always have a server with Inside beside it, which is not Direct.
//
// Where a packet for a destination of this node comes through the tunnel from one of [State.Peers], the server with Tunnelled for what the
// packet inside is for takes it to that destination, whatever its weight: another node has chosen. It is dropped if the sender is no peer,
// if there is no such server, if the server does not have the destination, and by SourceRanges.
//
// While its Destinations are wanted without weight they stay, so that all nodes go on choosing alike, and for [Grace] after. The kernel has
// them in the order of their addresses, on which its choices depend, whenever they came: of a hundred that came in any order, the choices of
// five in a hundred clients would be others ([VirtualServer.InOrder]).
//
// # Connections that move
//
// A connection by NAT lives in the tables of the node that received its first packet. When the address moves, or a router that spreads
// connections over the nodes does it anew, the rest comes to a node that knows nothing of it. While the first one lives it goes on: a packet in
// the middle of a TCP connection from the outside to one of [State.VIPs] that this node does not know walks on to the first other
// node of [State.Onward], from there to the next, in an order that all have, until one knows it. It has a mark on its way, which that one takes
// away, so that no node takes it for one from a client. The last one refuses it; while a node may only seem to have died, it drops it. The one
// that knows it answers the client past the others. So nobody has to be told where a connection is, nor which node had an address before.
//
// A node may know another connection by the same addresses and ports: an older one, of a client that has come back to the port, in the two minutes for
// which conntrack remembers what has ended. So the first packet of a connection takes the same walk, as a copy, and each node forgets the older
// one, as conntrack does when it sees a SYN. A flood must not be made many, so there is a limit to it. IPVS would take the copies for connections to
// itself as they leave the node, so this is for engine nft, in clusters where all have it.
//
// It needs nodes that reach each other on a segment, because the packet goes to the other node's station, not through a tunnel. It is for TCP alone: a
// datagram is always the first of its flow, or might be. Where a server is Direct there is no walk: connections to it need none, and what IPVS
// does for them (sloppy_tcp) would catch the packets of others.
//
// # Refusals
//
// A server without a destination that has a weight refuses, whatever its verdict says. At most two servers have the
// same address, port and protocol: one with Inside and one without it; besides there may be one with Tunnelled. A connection that is not
// masqueraded must be answered through this node, unless its server is Direct: its endpoint or its client is a pod of it, or the node itself
// is the client.
//
// Kinds of clients and masquerading can be told by marks, sets or chains: the bits of marks are the engine's options, not the State's.
package datapath
