// Package gossip knows which speakers live and what they say about themselves. Membership and failure detection are those of
// hashicorp/memberlist (SWIM with the Lifeguard extensions); on top of it every member publishes one record: its links,
// whether its datapath works, whether it is draining, whom it suspects, and the addresses it claims. When a record changes it
// goes to all members twice: at once in a datagram, a large one as the difference to what the member has, and over a
// connection, at most one per member and 100 ms. So a loss costs 100 ms and nothing else. Records are also exchanged as a
// whole in memberlist's periodic push and pull; of two records of one node the younger holds, in whatever order they come.
//
// Traffic is always encrypted (AES-256-GCM) with a key that all speakers share; whoever has no key is not heard. A member
// that was cut off is asked to join again and again, for as long as this process lives, so that partitions heal without the
// API server and without a restart.
//
// The package does not decide who owns an address: see packages election and announce. internal/speaker feeds and reads it.
package gossip
