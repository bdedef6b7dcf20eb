// Package heartbeat tells which of the other speakers' nodes are silent: a BFD session (package bfd) with each of them, on a
// port of its own, always authenticated, fast also while it is down. It is the fast trigger of the election; memberlist stays
// the directory and the slow arbiter.
//
// A node is suspected when its packets have stopped for the detection time, or when its kernel says that nobody listens there:
// the process is dead. It is not suspected when it goes down on purpose, when it says that it does not hear us, or while it was
// never heard: a firewall between two nodes costs the speed of detection, not the addresses. Whether a suspected node is down
// is election's decision, out of the suspicions of all.
//
// Who was asleep himself is not [Heartbeat.Fresh] and has to keep silent until somebody has answered; see internal/speaker.
package heartbeat
