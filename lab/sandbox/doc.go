// Package sandbox furnishes fresh mount, pid, network, UTS and IPC namespaces, for
// the calling process and all that it starts: /proc and /sys show the namespaces,
// /run is private and empty, the host name is the member's. The supervisor and the
// init of every member call it first.
package sandbox
