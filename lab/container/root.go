package container

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Hidden directories of the host start empty, as they would in an image. The lab's own state, with
// its keys, is in one of them.
const hidden = "/tmp /var/tmp /run /root /home /var/lib /var/log"

// attached is a mount that is detached from any tree: its file descriptor survives the change of
// root, so symbolic links of Source are followed outside and those of Target inside.
type attached struct {
	Mount
	fd  int
	dir bool
}

// enter builds the root file system in the calling process's mount namespace and moves into it.
// Everything is writable until restrict.
func (r Root) enter() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	mounts := slices.Concat(r.devices(), byDepth(r.Mounts))
	sources := make([]attached, 0, len(mounts))
	for _, m := range mounts {
		a, err := open(m)
		if err != nil {
			return err
		}
		sources = append(sources, a)
	}
	merged, err := Overlay(r.Lower, r.Scratch)
	if err != nil {
		return err
	}
	if err := pivot(merged); err != nil {
		return err
	}
	if err := r.mountKernel(); err != nil {
		return err
	}
	for _, a := range sources {
		if err := a.attach(); err != nil {
			return err
		}
	}
	return nil
}

// byDepth sorts mounts so that none hides another one.
func byDepth(mounts []Mount) []Mount {
	sorted := slices.Clone(mounts)
	for i := range sorted {
		sorted[i].Target = filepath.Clean("/" + sorted[i].Target)
	}
	slices.SortStableFunc(sorted, func(a, b Mount) int {
		return strings.Count(a.Target, "/") - strings.Count(b.Target, "/")
	})
	return sorted
}

func (r Root) devices() []Mount {
	if r.Privileged {
		return []Mount{{Source: "/dev", Target: "/dev"}}
	}
	var list []Mount
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		list = append(list, Mount{Source: "/dev/" + name, Target: "/dev/" + name})
	}
	return list
}

func open(m Mount) (attached, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return attached{}, fmt.Errorf("opening %s to mount it on %s: %w", m.Source, m.Target, err)
	}
	if m.ReadOnly {
		if err := setReadOnly(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE); err != nil {
			return attached{}, fmt.Errorf("making %s read-only: %w", m.Target, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return attached{}, fmt.Errorf("examining %s: %w", m.Source, err)
	}
	return attached{Mount: m, fd: fd, dir: st.Mode&unix.S_IFMT == unix.S_IFDIR}, nil
}

func setReadOnly(dirfd int, path string, flags uint) error {
	return unix.MountSetattr(dirfd, path, flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

// Overlay mounts a tmpfs on the existing directory scratch and, below that, the tree lower with an
// empty writable layer in that tmpfs; it returns where. What holds state of this machine rather
// than software, such as /run and /var/lib, is empty in it. Mounts below lower are not visible.
func Overlay(lower, scratch string) (string, error) {
	if err := unix.Mount("tmpfs", scratch, "tmpfs", unix.MS_NODEV, "mode=755"); err != nil {
		return "", fmt.Errorf("mounting the container's own layer on %s: %w", scratch, err)
	}
	upper, work, merged := scratch+"/upper", scratch+"/work", scratch+"/root"
	for _, dir := range []string{upper, work, merged} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return "", fmt.Errorf("creating overlay directory: %w", err)
		}
	}
	if err := hide(upper); err != nil {
		return "", err
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work)
	if err := unix.Mount("overlay", merged, "overlay", unix.MS_NODEV, options); err != nil {
		return "", fmt.Errorf("mounting overlay of %s: %w", lower, err)
	}
	return merged, nil
}

// hide makes the upper layer cover the hidden directories of the host.
func hide(upper string) error {
	for _, dir := range strings.Fields(hidden) {
		mode := os.FileMode(0o755)
		switch filepath.Base(dir) {
		case "tmp":
			mode = 0o777 | os.ModeSticky
		case "root":
			mode = 0o700
		}
		if err := os.MkdirAll(upper+dir, 0o755); err != nil {
			return fmt.Errorf("hiding %s: %w", dir, err)
		}
		if err := os.Chmod(upper+dir, mode); err != nil {
			return fmt.Errorf("hiding %s: %w", dir, err)
		}
		if err := unix.Setxattr(upper+dir, "trusted.overlay.opaque", []byte("y"), 0); err != nil {
			return fmt.Errorf("hiding %s: %w", dir, err)
		}
	}
	return nil
}

// pivot makes dir the root of the mount namespace and forgets the old one (pivot_root(2),
// "pivot_root(".", ".")"). The caller's root may be another one than the namespace's, which it is
// in a node; entering the namespace that one is in already leads to its root.
func pivot(dir string) error {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening new root: %w", err)
	}
	defer unix.Close(root)
	if err := join([]Namespace{{Kind: "mnt", Path: "/proc/self/ns/mnt"}}); err != nil {
		return err
	}
	if err := unix.Fchdir(root); err != nil {
		return fmt.Errorf("entering new root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmounting old root: %w", err)
	}
	return unix.Chdir("/")
}

// mountKernel mounts the kernel's own file systems, which show the namespaces of this process.
func (r Root) mountKernel() error {
	sys := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if !r.Privileged {
		sys |= unix.MS_RDONLY
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", sys, ""); err != nil {
		return fmt.Errorf("mounting /sys: %w", err)
	}
	if r.Privileged {
		return nil
	}
	if err := unix.Mount("tmpfs", "/dev", "tmpfs", unix.MS_NOSUID, "mode=755,size=64k"); err != nil {
		return fmt.Errorf("mounting /dev: %w", err)
	}
	for dir, fs := range map[string]struct{ kind, options string }{
		"/dev/pts": {"devpts", "newinstance,ptmxmode=0666,mode=0620"},
		"/dev/shm": {"tmpfs", "mode=1777,size=64m"},
	} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("creating %s: %w", dir, err)
		}
		if err := unix.Mount(fs.kind, dir, fs.kind, unix.MS_NOSUID|unix.MS_NOEXEC, fs.options); err != nil {
			return fmt.Errorf("mounting %s: %w", dir, err)
		}
	}
	for name, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, "/dev/"+name); err != nil {
			return fmt.Errorf("linking /dev/%s: %w", name, err)
		}
	}
	return nil
}

func (a attached) attach() error {
	defer unix.Close(a.fd)
	if err := a.createTarget(); err != nil {
		return fmt.Errorf("creating mount point %s: %w", a.Target, err)
	}
	flags := unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_SYMLINKS
	if err := unix.MoveMount(a.fd, "", unix.AT_FDCWD, a.Target, flags); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", a.Source, a.Target, err)
	}
	return nil
}

func (a attached) createTarget() error {
	if a.dir {
		return os.MkdirAll(a.Target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(a.Target), 0o755); err != nil {
		return err
	}
	if _, err := os.Stat(a.Target); err == nil {
		return nil
	}
	// A link of the host may lead to a hidden directory, as /etc/resolv.conf does with systemd-resolved.
	if err := os.Remove(a.Target); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.WriteFile(a.Target, nil, 0o644)
}

// restrict makes read-only or invisible what must not be changed or seen.
func (r Root) restrict() error {
	for _, path := range r.ReadOnlyPaths {
		if err := makeReadOnly(path); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("making %s read-only: %w", path, err)
		}
	}
	for _, path := range r.Masked {
		if err := mask(path); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("masking %s: %w", path, err)
		}
	}
	if r.ReadOnly {
		if err := setReadOnly(unix.AT_FDCWD, "/", 0); err != nil {
			return fmt.Errorf("making root read-only: %w", err)
		}
	}
	return nil
}

func makeReadOnly(path string) error {
	if err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return setReadOnly(unix.AT_FDCWD, path, unix.AT_RECURSIVE)
}

func mask(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return unix.Mount("tmpfs", path, "tmpfs", unix.MS_RDONLY, "size=0k")
	}
	return unix.Mount("/dev/null", path, "", unix.MS_BIND, "")
}
