// Package supervisor is a running lab. Run is pid 1 of the lab's pid namespace and
// lives in the network namespace that is the switch; it builds the network, starts
// the control plane and boots the members, then serves package control's requests.
//
// It owns no resource outside its namespaces but the state directory and one
// listening socket that it was given. When it ends, however it ends, the kernel
// kills every process of the lab and drops every namespace, link, route and mount.
// That is how a lab is stopped, so there is no orderly shutdown to get wrong.
//
// Reading order: supervisor.go, start.go, power.go, server.go, status.go.
package supervisor
