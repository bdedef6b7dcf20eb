// Package container makes processes into containers: it enters or builds namespaces, a root file
// system and credentials as a Spec says, and executes the program. It is the lab's replacement of
// runc, for programs that are files of the host: a container's root is the host's root seen
// through an overlay of its own.
//
// It runs in the small process that becomes the container, as the hidden commands `container` and
// `pause` of fairlab. Package cri starts that process and owns everything else: networks, logs,
// exit codes, cleaning up. There are no cgroups, so resource limits are not enforced, and no
// seccomp or AppArmor profiles.
//
// The package imports nothing but the standard library and golang.org/x/sys, because the process
// has to start fast.
package container
