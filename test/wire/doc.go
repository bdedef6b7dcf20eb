// Package wire tests speakers on real sockets: whole speaker loops with gossip, heartbeats, ARP and NDP, each in a network
// namespace of its own, on a bridge with a client beside them, as package test/bed makes them.
//
// Run them as root, or as a user who may create user namespaces: go test -tags wire ./test/wire
// With FAIRLEAD_WIRE_LOG=1 in the environment the speakers' logs are printed.
package wire
