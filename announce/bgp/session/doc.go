// Package session runs the BGP sessions of a node: a [Speaker] is given the whole desired [bgp.State], opens a session with each
// peer, tells it its paths, and reports what it reached. It only dials: nobody can open a connection to it. What peers send is
// counted and goes nowhere.
//
// It knows nothing of Kubernetes and needs no privilege. The process `speaker bgp` runs it, apart from the speaker proper, which
// it hears of through package process.
//
// # Goroutines
//
// Each peer has one goroutine that dials, shakes hands and then writes, and one that reads while there is a connection. A panic
// in either is caught and ends that session alone. Nothing is shared between peers.
//
// # How a session ends
//
// With a NOTIFICATION, on which the peer drops our paths at once: when the speaker stops (Cease / Administrative Shutdown), the peer
// is removed (Peer De-configured), BFD says that it is gone (BFD Down, RFC 9384), it has sent too many prefixes (Maximum Number of
// Prefixes Reached), or its settings change (Other Configuration Change). Without one, so that a peer that has agreed to graceful
// restart keeps them until we are back (RFC 4724): when the State says Keep and the speaker stops or the peer is removed, and when settings change.
// The N bit of RFC 8538 and long-lived graceful restart are not used: both keep paths where they must go.
//
// # When it is tried again
//
// At once after a session that was up, then after 100 ms, and twice as long each time until the connect retry time; each shortened
// by up to a quarter at random. After too many prefixes a minute passes.
package session
