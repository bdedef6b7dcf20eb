// Package liveness watches the routers by BFD (RFC 5880 to 5883) for the BGP sessions, and lets them watch us. It stands between the
// speaker and the process with the sessions: what the speaker wants passes through it with BFDDown filled in, and what is reported
// gets the BFD sessions' states.
//
// It runs in the speaker, not beside the sessions: BFD shall attest that this node forwards, which the speaker sees to. So it goes
// on while the sessions' process restarts, and its packets say so by the C bit (RFC 5882 section 4.3): a router that keeps our paths over
// that restart drops them if BFD goes down meanwhile, whatever it thinks of restarts. And it ends when the speaker crashes.
//
// A restart of the speaker as planned ends BFD too. The sessions close first, in silence where graceful restart was agreed on, so
// that the router already keeps our paths for their sake when BFD says AdminDown, which is no failure (RFC 5882 section 3.2).
//
// A session is taken down only if BFD had been Up: a router without BFD keeps its session. It is opened again when BFD is Up, or after
// [giveUp]: many routers run BFD only beside a BGP session that is up.
package liveness
