// Package netns makes network namespaces and runs code in them. A namespace is
// named by a path: /proc/PID/ns/net of a process in it, or a file that New made.
package netns
