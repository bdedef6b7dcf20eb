// Package link makes VIPs locally deliverable and sets the sysctls that an engine needs.
//
// A VIP is a route `local VIP dev lo table local`, no address and no device: the kernel hands its packets to the input path,
// where IPVS takes them, and `ip addr` shows nothing. The routes carry a protocol number of their own ([Protocol]), by which a
// successor, or the cleanup, finds what Fairlead added; what others added is never touched (S47). Because Linux would answer ARP for
// such a VIP on every interface, [IPVS] includes arp_ignore (S72, S73); the announcing is announce/arp's alone.
//
// Sysctls are raised, never lowered, and not taken back at cleanup: whoever else runs on the node may rely on them by
// then. They are few: see [Forwarding] and [IPVS]. The exception is what [Tunnels] needs.
package link
