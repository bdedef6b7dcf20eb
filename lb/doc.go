// Package lb holds the nouns that every other package speaks in: Service, Endpoint, Node, Pool, Member, Snapshot and
// Reason, and the one rule about endpoints that allocation, announcement and datapath must agree on: [Usable].
//
// A [Snapshot] is everything one speaker knows at one moment. It is built by internal/kube and internal/speaker, handed
// to the deciders (announce.Plan, datapath.Desired) and never changed afterwards; slices are sorted by their builders so
// that equal facts give equal snapshots.
//
// The package knows no Kubernetes type, opens no socket, reads no clock, and imports the standard library only.
package lb
