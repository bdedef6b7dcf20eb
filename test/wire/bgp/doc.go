// Package bgp tests announce/bgp on the wire: against FRR's, BIRD's and GoBGP's daemons, and against hostile peers. The process that
// runs the sessions is the real one, in the network namespace of the test; each router is in one of its own.
//
// Run it as root, with the Debian packages frr, bird2 and gobgpd installed: scripts/test-wire, or go test -tags wire ./test/wire/bgp
package bgp
