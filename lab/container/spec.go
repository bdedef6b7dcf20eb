package container

import (
	"encoding/json"
	"fmt"
	"os"
)

// Spec says what the calling process is to become.
type Spec struct {
	// Join lists the namespaces that are entered first, in this order.
	Join []Namespace `json:"join,omitempty"`
	// Root is built and entered. Nil in a process that joins a container's mount namespace.
	Root *Root `json:"root,omitempty"`
	// Process is executed last.
	Process Process `json:"process"`
}

// Namespace is one namespace to enter. The process id namespace cannot be joined by a process for
// itself; whoever starts the process does that.
type Namespace struct {
	// Kind is net, uts, ipc or mnt.
	Kind string `json:"kind"`
	// Path is a file such as /proc/7/ns/net.
	Path string `json:"path"`
}

// Root describes a root file system: Lower below a layer in memory, with proc, sys, dev and Mounts
// on top. The calling process must have a mount namespace of its own.
type Root struct {
	// Lower is the directory that shows through.
	Lower string `json:"lower"`
	// Scratch is an existing directory to mount on; nothing is stored in it.
	Scratch string `json:"scratch"`
	// Mounts are bound in order of their depth.
	Mounts []Mount `json:"mounts,omitempty"`
	// ReadOnly makes the root, but not the mounts, read-only.
	ReadOnly bool `json:"readOnly,omitempty"`
	// Privileged leaves /sys writable and shows all devices.
	Privileged bool `json:"privileged,omitempty"`
	// Masked paths appear empty, ReadOnlyPaths cannot be written; those that do not exist are skipped.
	Masked        []string `json:"masked,omitempty"`
	ReadOnlyPaths []string `json:"readOnlyPaths,omitempty"`
}

// Mount binds a file or directory, with everything mounted below it.
type Mount struct {
	// Source is a path outside the container; symbolic links are followed.
	Source string `json:"source"`
	// Target is a path inside; it is created where it does not exist.
	Target string `json:"target"`
	// ReadOnly holds for mounts below Source, too.
	ReadOnly bool `json:"readOnly,omitempty"`
}

// Process is a program and its credentials.
type Process struct {
	// Args is the command line; Args[0] is looked up in the PATH of Env.
	Args []string `json:"args"`
	// Env is the whole environment, KEY=value.
	Env []string `json:"env,omitempty"`
	// Dir is the working directory, "/" if empty. It is created where a Root is built.
	Dir string `json:"dir,omitempty"`
	// UID, GID and Groups are the numeric identity.
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
	// Capabilities bound what the process and its children can get.
	Capabilities Capabilities `json:"capabilities"`
	// NoNewPrivs keeps set-user-id programs from raising privileges.
	NoNewPrivs bool `json:"noNewPrivs,omitempty"`
	// OOMScoreAdj is -1000 (never killed for memory) to 1000 (killed first).
	OOMScoreAdj int `json:"oomScoreAdj,omitempty"`
}

// WriteSpec writes the file that Main reads.
func WriteSpec(file string, s Spec) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encoding container spec: %w", err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return fmt.Errorf("writing container spec: %w", err)
	}
	return nil
}

func readSpec(file string) (Spec, error) {
	var s Spec
	data, err := os.ReadFile(file)
	if err != nil {
		return Spec{}, fmt.Errorf("reading container spec: %w", err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return Spec{}, fmt.Errorf("parsing container spec %s: %w", file, err)
	}
	if len(s.Process.Args) == 0 {
		return Spec{}, fmt.Errorf("parsing container spec %s: no command", file)
	}
	return s, nil
}
