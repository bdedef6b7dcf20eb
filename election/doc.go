// Package election decides which node owns an address. [Owner] is a pure function of candidates and claims: every speaker
// that knows the same facts names the same owner, so no message is needed to agree.
//
// Two ideas carry it. Rendezvous hashing ranks the candidates for each address by a hash of both names, so that the loss of
// a node moves only the addresses that it owned. Claims make ownership sticky: whoever announces an address keeps it while
// it remains a candidate, so that a node that comes back causes no second outage.
//
// Who is a candidate is decided by package announce; who is alive is known by election/gossip, slowly, and by heartbeats, fast:
// [Sessions] says who exchanges them with whom, [Down] what to make of the silences.
package election
