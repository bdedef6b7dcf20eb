// Package udp runs BFD sessions over UDP: single hop (RFC 5881, port 3784, TTL 255), multihop (RFC 5883, port 4784, a least
// TTL), or on a port of one's own for the speakers' heartbeat. It has the sockets and the thread; what a session does is decided
// by package bfd. Callers are announce/bgp and the speakers' failure detector, each with a [Group] of its own.
//
// One goroutine on a locked OS thread owns everything: it waits in ppoll, not in Go's poller, with SCHED_FIFO priority where
// that is allowed, so that a starved machine does not silence it. It judges a peer by the kernel's receive timestamps and only
// after it has read whatever had arrived until the moment for which it judges: its own lateness accuses nobody. Nothing else
// ever holds a lock that it waits for, and logs are written elsewhere. The garbage collector may still make it wait for the
// process's other threads, which have normal priority: make little garbage. With a priority, GOMAXPROCS is raised to 8.
//
// A process that was asleep (stopped, or its machine was) does not know whether others have replaced it. [Group.Fresh] says
// so from the moment it wakes, before any code of ours has run, and becomes true again after a round trip with a peer.
package udp
