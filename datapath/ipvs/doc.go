// Package ipvs is the datapath in the kernel's IP virtual server: it carries out the operations that datapath.Diff decides and
// keeps a record of what the kernel holds.
//
// IPVS forwards and counts; what it cannot do comes from three neighbours that the caller hands over as interfaces: a [Guard]
// (datapath/nft: source ranges, refusals, masquerade), local delivery of the VIPs ([Local], datapath/link) and forgetting UDP flows
// ([Flows], datapath/conntrack).
//
// The kernel is reconciled, never flushed. Virtual servers whose address is none of our VIPs belong to others and are not touched.
// IPVS sends no notifications, so the engine compares a dump of the virtual servers with its record every second that it is called,
// and everything every few minutes; kube-proxy in mode nftables, for one, flushes IPVS whenever it starts.
//
// [Probe] tells whether the kernel has IPVS at all: the netlink library reports success for everything where it is missing.
package ipvs
