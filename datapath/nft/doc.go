// Package nft holds one nftables table, `inet fairlead`, in agreement with a datapath.State, through knftables.
//
// The table always guards the VIPs: source ranges, services without endpoints, ports that no Service has, and the mark
// that decides who is masqueraded. With [Options.Forward] it also carries the whole datapath: DNAT to the endpoints at
// random, session affinity. [Table] is what the ipvs engine borrows as its guard, [Engine] the datapath of a kernel without IPVS.
//
// Chains and their hooks (priorities relative to kube-proxy's dstnat = -100 and srcnat = 100, so that the first NAT is ours):
//
//	prerouting, output -120   guard     new packets to a VIP: mark for masquerade; allow, drop or refuse
//	prerouting, output -110   services  DNAT (Forward only)
//	postrouting           0   strays    drop what still has a VIP as its destination (Forward only): a packet that met the
//	                                    guard before a change and the services after it; the client sends it again
//	postrouting          90             masquerade what is marked, and take the mark away
//
// Only the first packet of a connection sees these rules, conntrack remembers the rest: reprogramming cuts nobody off.
// Changes are one atomic transaction of what differs from what was written before. That, and not one rewrite of the whole table, because
// at 1,000 Services of 5 endpoints (2 busy cores, kernel 6.18, nft 1.0.6) one changed endpoint takes 30 ms and a rewrite 700 ms. Most of
// the 30 ms is nft reading the names of all chains; at 10,000 Services it is 120 ms.
//
// The package decides nothing and never looks at foreign tables.
package nft
