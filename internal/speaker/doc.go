// Package speaker is the loop of a node's speaker. It gathers facts (the API server's, the other speakers', the kernel's
// links, and what its own executors report) into one lb.Snapshot, has announce.Plan and datapath.Desired decide, hands the
// results to the executors as whole desired states, and tells the other speakers what came of it.
//
// # Order
//
// An address is announced only after the datapath has reported it programmed, and withdrawn before it is unprogrammed. No
// lock is needed for that: the report is a fact of the next snapshot, and a step announces first and hands the datapath's
// part over afterwards. Where the datapath goes on forwarding everything that it did, as when one endpoint of several comes or
// goes, there is nothing to withdraw first, and it gets its part before the decisions; where no decision heeds those endpoints, as with
// externalTrafficPolicy Cluster, none is made. It works in a task of its own, so that a takeover never waits for a slow kernel: every
// node has every address programmed in advance, and taking one over is a change of what the announcer answers.
//
// # Claims
//
// What this node announces it claims in gossip, each address with an epoch higher than any it has seen. When two nodes find
// out that both announce an address, after a partition, the lower epoch yields and the other one raises its own, which makes
// the announcer tell the neighbours anew; see ledger.
//
// # Shutdown
//
// When its context ends, the speaker asks to be left out of elections, goes on answering until other members have claimed
// its addresses or nobody can, for a bounded time, then falls silent and returns. The datapath stays as it is: connections
// go on, and the next process reconciles.
//
// The executors are declared here as interfaces and put in by cmd/speaker. The API server is only a source of facts: while
// it is away the last ones hold.
package speaker
