// Package announce decides what this node says on the wire. [Plan] turns a snapshot into one [Decision] per address that a
// Service holds, yes or no, and every no carries its reason: "why does node-2 not announce 192.0.2.7?" is a row of its
// output, which the speaker serves on /debug/decisions.
//
// # Who may announce
//
// An address is elected once, however many Services share it. A node is a candidate if its speaker is a member, not
// draining, its watchers hear it, its datapath works and has not failed on this address, the API server knows the node and
// does not exclude it, and if it can serve the Services behind the address: an advertisement covers pool, Service and node, a link of the node is
// up, allowed and holds the address in its subnet, and with externalTrafficPolicy Local the node has a ready endpoint
// (statements H12 and H13 of the Service semantics). Services without any usable endpoint have no vote. Where no node can
// serve all the others, those that can serve most of them are the candidates: a part is better than silence.
//
// The owner among the candidates is named by package election, for all addresses at once. It announces once its datapath has
// programmed the address, and, if nobody has ever announced it, once the speakers have settled after a cold start and no
// stranger answers for it.
//
// # Handover
//
// An owner that stops being a candidate by somebody's wish (drain, cordon, exclusion, nodeSelectors, interfaces, deletion of the node)
// goes on answering until its successor's claim arrives: make before break. So does one that hands over to a better node; the
// claim says so then. Cordoned nodes, where they shall leave, still serve what nobody else can.
//
// # BGP
//
// By BGP an address is announced from every node that can serve it: one that a BGPAdvertisement selects, that has a BGPPeer to tell,
// whose datapath has programmed the address, and that has, with externalTrafficPolicy Local, a ready endpoint. Membership of the
// others does not matter, nor do claims, links and sleep: there is nobody to take an address from.
//
// A node that leaves by somebody's wish first asks its peers to prefer other paths (RFC 8326), each for its drainWait, and then
// withdraws. A cordoned one, where those shall leave, goes on asking for as long as no other node can serve the address. Where
// only the speaker is replaced, peers with graceful restart are told nothing: they keep the paths, and the datapath goes on.
//
// # Addresses outside the pools
//
// A pool may be edited or deleted under an address in use. The address is then treated as if it still were in the pool it
// came from; if no advertisement names that one, every advertisement counts, since the subnet of the link still guards
// against nonsense and silence would be an outage that nobody asked for. By BGP, where no subnet guards anything, such an address
// is announced only by an advertisement that names its pool or all pools.
//
// The package is pure: no clock, no IO, no log. The executors that carry decisions out are announce/arp, announce/ndp
// and, by way of announce/bgp, the sessions' process.
package announce
