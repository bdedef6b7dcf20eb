// Package ipvs is the datapath in the kernel's IP virtual server: it carries out the operations that datapath.Diff decides and
// keeps a record of what the kernel holds.
//
// IPVS forwards and counts; what it cannot do comes from three neighbours that the caller hands over as interfaces: a [Guard]
// (datapath/nft: source ranges, refusals, masquerade), local delivery of the VIPs ([Local], datapath/link) and forgetting UDP flows
// ([Flows], datapath/conntrack).
//
// A listener for everybody is a virtual server at its address, a node port one at each address of the node, and a listener for the inside
// one for a packet mark ([Marks]), which the guard gives to connections of the node and its pods: IPVS looks for marks before addresses.
//
// The kernel is reconciled, never flushed. Virtual servers whose address is none of our VIPs, which are none of our listeners at the node's
// addresses and whose mark is none of ours belong to others and are not touched. IPVS sends no notifications, and a dump of 10,000 virtual servers takes
// a large part of a second; so the engine trusts its record and compares a few servers with it every second that it is called, all of them
// within some minutes. A flush shows whichever it looks at; kube-proxy in mode nftables, for one, flushes IPVS whenever it starts.
//
// [Probe] tells whether the kernel has IPVS at all: the netlink library reports success for everything where it is missing.
package ipvs
