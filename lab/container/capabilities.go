package container

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Capabilities is a set of Linux capabilities, one bit each (capabilities(7)).
type Capabilities struct {
	// Bounding is what the process may have. A root process has all of it; a process of another
	// user has none of it, as in every container runtime, unless it is in Ambient.
	Bounding uint64 `json:"bounding"`
	// Ambient is what a process of another user keeps.
	Ambient uint64 `json:"ambient,omitempty"`
}

// names lists the capabilities by number.
const names = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE " +
	"NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT " +
	"SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE " +
	"AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ " +
	"PERFMON BPF CHECKPOINT_RESTORE"

// defaults is what containerd and CRI-O give a container that asks for nothing.
const defaults = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW " +
	"SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP"

// all is every capability that this package knows.
const all = uint64(1)<<(unix.CAP_CHECKPOINT_RESTORE+1) - 1

// Bounding returns the capabilities of a container: the runtime's default, plus add, minus drop,
// or all of them if privileged. Names are written as in Kubernetes, without CAP_; ALL is
// everything. As in Kubernetes, what is added by name survives drop: [ALL], and what is dropped
// by name is not in add: [ALL].
func Bounding(privileged bool, add, drop []string) (uint64, error) {
	if privileged {
		return all, nil
	}
	set, err := capMask(strings.Fields(defaults))
	if err != nil {
		panic("container: " + err.Error())
	}
	if slices.ContainsFunc(add, isAll) {
		set = all
	}
	if slices.ContainsFunc(drop, isAll) {
		set = 0
	}
	added, err := capMask(add)
	if err != nil {
		return 0, fmt.Errorf("adding capabilities: %w", err)
	}
	dropped, err := capMask(drop)
	if err != nil {
		return 0, fmt.Errorf("dropping capabilities: %w", err)
	}
	return (set | added) &^ dropped, nil
}

// Ambient returns the capabilities that are named.
func Ambient(add []string) (uint64, error) {
	if slices.ContainsFunc(add, isAll) {
		return all, nil
	}
	return capMask(add)
}

// capMask ignores ALL, which its callers handle.
func capMask(list []string) (uint64, error) {
	known := strings.Fields(names)
	var set uint64
	for _, name := range list {
		if isAll(name) {
			continue
		}
		i := slices.Index(known, strings.TrimPrefix(strings.ToUpper(name), "CAP_"))
		if i < 0 {
			return 0, fmt.Errorf("unknown capability %q", name)
		}
		set |= 1 << i
	}
	return set, nil
}

func isAll(name string) bool { return strings.EqualFold(strings.TrimPrefix(name, "CAP_"), "ALL") }
