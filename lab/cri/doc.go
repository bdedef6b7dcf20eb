// Package cri is a container runtime for one node of the lab: it implements the Container Runtime
// Interface (KEP-2040, k8s.io/cri-api) that a kubelet expects, in the kubelet's own process, and
// runs containers as processes of the machine. An image is a program of the checkout: the last
// element of its name is a file below BinDir.
//
// A pod sandbox is a process that holds network, UTS and IPC namespaces, a veth pair to the bridge
// cni0 and one address per family. A container is a process that package container has turned into
// one: own mount and process id namespace, overlay of the host's root, credentials. Their output
// goes to log files in CRI format; exec, attach and port-forward are served by the same streaming
// server as containerd's and CRI-O's.
//
// Nothing is kept over a restart: every process is killed by the kernel when the runtime ends, and
// mounts are in namespaces that end with them. What a real runtime does and this one does not:
// cgroups (limits, statistics, OOM reasons), seccomp, AppArmor, SELinux, user namespaces,
// image volumes, bidirectional mount propagation. A pod that cannot work without one of
// them is refused with an error; limits and profiles are ignored.
//
// Callers: package node. Reading order: runtime.go, sandbox.go, container.go, exec.go.
package cri
