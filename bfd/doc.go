// Package bfd is Bidirectional Forwarding Detection (RFC 5880) as a pure state machine: the packet codec, authentication, and
// a [Session] that is told about packets and about the time and says what to send, when to be asked again and what has
// changed. It knows no sockets, clocks or dice; those are arguments. [Pace] widens the intervals of a session that raised a
// false alarm.
//
// Two callers use it through package bfd/udp, which has the sockets: the BGP sessions' BFD (RFC 5881, RFC 5883) and the
// speakers' own heartbeat.
//
// What is built: asynchronous mode with all five kinds of authentication, several keys at a time, poll sequences, the
// passive role, and a peer that asks for demand mode. What is not: we never ask for demand mode, there is no echo function
// (Required Min Echo RX is 0).
//
// Nothing here is safe for concurrent use, and nothing allocates once a session is up.
package bfd
