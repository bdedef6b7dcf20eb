// Package router runs real routers in network namespaces, for the wire tests of BGP and its benchmark: FRR, BIRD and GoBGP as Debian
// packages them. A [Host] is a namespace with cables to others; a router runs on it and is asked about its table by its own
// command. Everything ends with the test.
//
// It needs root and the packages frr, bird2 and gobgpd: scripts/test-wire installs what is missing.
package router
