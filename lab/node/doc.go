// Package node is a node of the lab's cluster: the real kubelet of k8s.io/kubernetes, in this
// process, on the lab's own container runtime (package cri). It registers the node, keeps its
// lease, runs pods with their probes, volumes, lifecycle hooks and restarts, and serves logs, exec,
// attach and port-forward on port 10250.
//
// What the kubelet is denied is what belongs to a whole machine: cgroups, cAdvisor, evictions for
// lack of disk or memory, image garbage collection, iptables chains.
//
// Run is called in a process that has mount, network, UTS, IPC and process id namespaces of its own
// with the node's interfaces and routes in place and a /run of its own; everything ends when their init
// process ends.
// The caller is the command `fairlab-kube node`.
package node
