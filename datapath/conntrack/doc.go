// Package conntrack makes the kernel forget flows to our VIPs that could only go wrong (S59, S60, S70 of the Service specification):
// UDP flows whose endpoint is gone, which a client that keeps its source port would otherwise follow for as long as it sends, and flows of
// any protocol that began before the VIP was served here and are therefore not translated. Established TCP connections are left
// alone: they end by themselves, and those of an endpoint on its way out shall go on.
//
// Both engines use it after they have written the kernel, and go on calling it, since what could not be done is tried again. Which flows are
// meant is decided by a pure function. The table may hold hundreds of thousands, so it is looked through as the kernel hands it out.
package conntrack
