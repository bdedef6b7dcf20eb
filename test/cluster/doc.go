// Package cluster drives a lab (binary fairlab) from Go: it starts and stops it, runs commands in its members, applies
// manifests, probes addresses from the client outside the cluster and waits for what the API server says. The demo and the
// e2e tests share it. It runs the real binaries from a bin directory and imports nothing of the lab's module.
package cluster
