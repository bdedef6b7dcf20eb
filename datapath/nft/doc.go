// Package nft holds one nftables table, `inet fairlead`, in agreement with a datapath.State.
//
// The table always guards the addresses of Services: source ranges, services without endpoints, ports that no Service has, and who is
// masqueraded. With [Options.Forward] it also carries the whole datapath: DNAT to the endpoints at random, session affinity. [Table] is
// what the ipvs engine borrows as its guard, [Engine] the datapath of a kernel without IPVS.
//
// A Service is data, not code: what a packet meets are some dozens of chains that all Services share, and maps that the chains look into.
// listeners4 leads from address, protocol and port to the chain that treats the connection as its Service wants it; for one of five
// endpoints that is to4-5, which draws a number below five and finds the endpoint in endpoints4 under listener and number. So a changed
// endpoint is a handful of map elements, however many Services there are. Only a Service with affinity has a chain of its own, with two
// rules per endpoint, of which a new connection tries one after the other; affinity4 remembers the clients. The same for IPv6.
// `nft list table inet fairlead` prints all of it; what a chain loads from the IP header shows as @nh,OFFSET,LENGTH.
//
// Chains and their hooks (priorities relative to kube-proxy's dstnat = -100 and srcnat = 100, so that the first NAT is ours):
//
//	prerouting, output -150   count bytes of translated connections by listener and endpoint
//	prerouting, output -120   drop packets to a VIP that belong to no connection
//	prerouting, output -110   new connections: refuse, drop, or DNAT; the mark for masquerade
//	postrouting          90   masquerade what is marked, taking the mark away, and pods that reach themselves
//
// and without Forward, where IPVS chooses the endpoint:
//
//	prerouting, output -120   new connections: refuse, drop, or mark for masquerade; of what IPVS sends, take the listener's mark away
//	input 90, output -110     of those from the inside: the mark by which IPVS knows their listener
//	postrouting          90   masquerade as above, and connections from the inside, by the one bit that is left of that mark
//
// Only the first packet of a connection decides anything, conntrack remembers the rest: reprogramming cuts nobody off.
// Changes are one atomic transaction of what differs from what was written before, sent by netlink. With the program nft, which reads the
// names of all chains and sets first, and a chain per Service one changed endpoint took 120 ms at 10,000 Services of 5 endpoints.
//
// The package decides nothing and never looks at foreign tables.
package nft
