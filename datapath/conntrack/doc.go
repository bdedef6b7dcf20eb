// Package conntrack makes the kernel forget UDP flows whose endpoint is gone, for our VIPs only (S59, S60, S70 of the Service
// specification). Conntrack would otherwise send a client that keeps its source port to the old endpoint for as long as it sends.
// TCP needs no such help: its connections end by themselves, and those of an endpoint on its way out shall go on.
//
// Both engines use it after they have written the kernel. Which flows are meant is decided by a pure function.
package conntrack
