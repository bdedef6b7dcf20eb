package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// needed maps a file that must exist to the Debian package that brings it; several paths are alternatives.
var needed = []struct {
	paths []string
	pkg   string
}{
	{[]string{"/usr/bin/qemu-system-x86_64"}, "qemu-system-x86"},
	{[]string{"/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"}, "virtiofsd"},
	{[]string{"/bin/busybox"}, "busybox-static"},
	{[]string{"/usr/sbin/depmod", "/sbin/depmod"}, "kmod"},
	{[]string{"/usr/sbin/ipvsadm", "/sbin/ipvsadm"}, "ipvsadm"},
	{[]string{"/usr/sbin/nft", "/sbin/nft"}, "nftables"},
	{[]string{"/usr/sbin/ip", "/sbin/ip"}, "iproute2"},
}

// installPackages installs what is missing, with one line that says so.
func installPackages(ctx context.Context) error {
	var missing []string
	for _, n := range needed {
		if !slices.ContainsFunc(n.paths, exists) {
			missing = append(missing, n.pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	// Debian 12's virtiofsd is part of qemu-system-common; later releases have a package for it.
	if i := slices.Index(missing, "virtiofsd"); i >= 0 && exec.CommandContext(ctx, "apt-cache", "show", "virtiofsd").Run() != nil {
		missing[i] = "qemu-system-common"
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("missing Debian packages; run as root, or: apt-get install %s", strings.Join(missing, " "))
	}
	fmt.Fprintln(os.Stderr, "vm: installing", strings.Join(missing, " "))
	if err := quiet(exec.CommandContext(ctx, "apt-get", "update", "-qq")); err != nil {
		return err
	}
	install := exec.CommandContext(ctx, "apt-get", append([]string{"install", "-y", "-qq", "--no-install-recommends"}, missing...)...)
	install.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	return quiet(install)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// quiet runs a command and shows its output only if it fails.
func quiet(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("running %s: %w\n%s", filepath.Base(cmd.Path)+" "+strings.Join(cmd.Args[1:], " "), err, out)
	}
	return nil
}
