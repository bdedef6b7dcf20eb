// Package process runs the BGP sessions apart from the speaker: [Serve] is the process with the sessions, [Supervise] starts it again at
// once when it ends, and [Client] is the speaker's end of the unix socket between them. The speaker says what is wanted, whole at
// first and then what has changed; the process says what it has reached. Neither needs the other to start.
//
// The process has no privileges, no API server and no key of the cluster but the peers' passwords, which it is told.
//
// # What ends, and what routers hear of it
//
// Routers keep our paths beyond the end of a session only if graceful restart was agreed on, and then for its restart time. They
// must not when this node may no longer forward: that would be a black hole. The speaker attests that it does, so the process
// acts on what the speaker says, and on its silence.
//
//	what happens                                     the sessions                           the paths at the router
//	the process crashes or is killed                 break; back within a second            kept with graceful restart; else gone until then
//	the process alone is told to stop                close by Cease after Options.Grace     gone until it is back: the speaker may have been draining
//	the speaker crashes, hangs, or is killed         stay open                              withdrawn at once; or after Options.KeepOnCrash, if it is not back
//	the speaker restarts as planned (Keep), alone    close without a NOTIFICATION; those    kept with graceful restart for its restart time; else
//	or with the process (an upgrade)                 without graceful restart by Cease      withdrawn until they are back
//	the node drains, or Fairlead is removed          close by Cease, after the speaker has  GRACEFUL_SHUTDOWN first, then withdrawn, then the session ends
//	                                                 taken the paths back
//	BFD does not hear the router                     close by Cease / BFD Down, held        gone
//	the node loses power                             the router's BFD or hold timer         gone with it, also under graceful restart
//	the node reboots unannounced, and comes back     open anew, and say that forwarding     gone at once
//	within the hold time                             was not preserved (F = 0)
//
// BFD is the speaker's (package liveness), so it goes on while this process restarts, and ends with the attestation: it says so by
// the C bit. With BFD a router drops the paths of a crashed speaker by itself, whatever KeepOnCrash is.
//
// A speaker counts as hanging when it has said nothing for [silence], although it speaks every second.
package process
