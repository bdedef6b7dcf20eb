// Package bgp is what this node shall say by BGP: [State] holds the peers it shall have sessions with and the paths that each of
// them shall hear, [Report] what became of them. It is pure: the sessions are run by a process of their own, which alone
// imports the BGP library, since what parses a stranger's bytes shall share neither privileges nor fate with layer 2 and the
// datapath.
//
// Every session is a speaker of its own, with its own AS number, router ID and table: what one peer is told needs no export
// policy, tenants with different AS numbers do not meet, and what a peer sends is counted and goes nowhere.
package bgp
