package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/lab/container"
	"github.com/fairlead-lb/fairlead/lab/nodeconfig"
)

// disk is where the parts of a node's file system are.
type disk struct {
	lower string // the machine's root, for containers
	logs  string
	state string // the kubelet's
}

// enterDisk gives the calling process a root directory of the node's own and enters it, so that
// the kubelet and hostPath volumes of several nodes and of the machine do not meet. It is an overlay
// of the machine's root whose changes are lost with the node, but for /var/lib, which is a directory
// below RootDir, and /var/log, the directory above LogDir. The paths of cfg stay valid.
func enterDisk(cfg nodeconfig.Config) (disk, error) {
	d := disk{lower: filepath.Join(cfg.RootDir, "lower"), logs: "/var/log/pods", state: "/var/lib/kubelet"}
	varLib, scratch := filepath.Join(cfg.RootDir, "disk"), filepath.Join(cfg.RootDir, "root")
	for _, dir := range []string{d.lower, varLib, scratch, cfg.LogDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return disk{}, fmt.Errorf("creating node directory: %w", err)
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return disk{}, fmt.Errorf("making mounts private: %w", err)
	}
	if err := unmountAll(scratch, d.lower); err != nil {
		return disk{}, err
	}
	// Without what is mounted below: the machine's proc, sys and run are not for containers.
	if err := unix.Mount("/", d.lower, "", unix.MS_BIND, ""); err != nil {
		return disk{}, fmt.Errorf("binding the machine's root: %w", err)
	}
	root, err := container.Overlay(d.lower, scratch)
	if err != nil {
		return disk{}, err
	}
	binds := [][2]string{
		{"/proc", "/proc"}, {"/sys", "/sys"}, {"/dev", "/dev"}, {"/run", "/run"}, {varLib, "/var/lib"},
		{cfg.RootDir, cfg.RootDir}, {filepath.Dir(cfg.LogDir), "/var/log"}, {cfg.LogDir, d.logs}, {cfg.BinDir, cfg.BinDir},
	}
	for _, file := range []string{cfg.Kubeconfig, cfg.ClientCAFile, cfg.ServerCertFile, cfg.ServerKeyFile} {
		binds = append(binds, [2]string{filepath.Dir(file), filepath.Dir(file)})
	}
	for _, b := range binds {
		target := filepath.Join(root, b[1])
		if err := os.MkdirAll(target, 0o755); err != nil {
			return disk{}, fmt.Errorf("creating mount point: %w", err)
		}
		if err := unix.Mount(b[0], target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return disk{}, fmt.Errorf("binding %s: %w", b[1], err)
		}
	}
	if err := unix.Chroot(root); err != nil {
		return disk{}, fmt.Errorf("entering node's root: %w", err)
	}
	return d, unix.Chdir("/")
}

// unmountAll removes what an agent that died in the same mount namespace has left.
func unmountAll(dirs ...string) error {
	for _, dir := range dirs {
		for {
			err := unix.Unmount(dir, unix.MNT_DETACH)
			if errors.Is(err, unix.EINVAL) {
				break
			}
			if err != nil {
				return fmt.Errorf("unmounting %s: %w", dir, err)
			}
		}
	}
	return nil
}
