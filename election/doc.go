// Package election decides which node owns which address. [Assign] is a pure function of candidates and claims: every speaker
// that knows the same facts names the same owners, so no message is needed to agree.
//
// Three ideas carry it. Rendezvous hashing ranks the candidates for each address by a hash of both names, so that the loss of a
// node moves only the addresses that it owned. Loads are bounded (Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with
// Bounded Loads", 2018): nobody is given more than 1.25 times its fair share. Claims make ownership sticky: whoever announces
// an address keeps it while it remains a candidate, so that a node that comes back causes no second outage. A claim can name
// a successor: that is how an owner hands an address over to a better node ([Assignment.Handovers]) without a gap.
//
// Who is a candidate is decided by package announce; who is alive is known by election/gossip, slowly, and by heartbeats, fast:
// [Sessions] says who exchanges them with whom, [Down] what to make of the silences.
package election
