// Package unnumbered finds BGP peers of which only the interface is known, by IPv6 router advertisements (RFC 4861), as FRR, Cumulus and
// others do it: both ends advertise themselves on the link, with a lifetime of 0 so that nobody takes us for a default router, and
// each takes the sender of the other's advertisements for its peer. It stands between the speaker and what runs the sessions, and fills
// in the peers' addresses.
//
// One peer per interface: the first that advertises itself stays until it has been silent for [forget].
package unnumbered
