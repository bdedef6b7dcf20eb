package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// kernel is an unpacked stock kernel and the initramfs that boots it onto the host's file tree.
type kernel struct {
	release string // what uname -r says
	image   string
	initrd  string
	modules string // directory of /lib/modules/RELEASE, depmod'ed
}

// metapackage is Debian's name for the newest kernel for virtual machines.
const metapackage = "linux-image-cloud-amd64"

// bootModules are loaded by the initramfs in this order: what finding the root file system takes.
var bootModules = []string{"virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_console", "fuse", "virtiofs", "overlay"}

//go:embed init.sh
var initScript []byte

// prepareKernel returns the cached kernel, or downloads and unpacks it first.
func prepareKernel(ctx context.Context, cache string) (kernel, error) {
	root := filepath.Join(cache, "kernel")
	if !exists(filepath.Join(root, "complete")) {
		if err := unpackKernel(ctx, root); err != nil {
			return kernel{}, err
		}
	}
	images, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return kernel{}, fmt.Errorf("want one kernel in %s, found %v (%v); remove the directory to download it again", root, images, err)
	}
	release := strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	k := kernel{release: release, image: images[0], initrd: filepath.Join(cache, "initrd"), modules: filepath.Join(root, "lib", "modules", release)}
	return k, k.writeInitrd()
}

// unpackKernel downloads Debian's kernel package and unpacks it without installing it.
func unpackKernel(ctx context.Context, root string) error {
	if err := os.RemoveAll(root); err != nil {
		return err
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	name, err := kernelPackage(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "vm: unpacking", name)
	download := exec.CommandContext(ctx, "apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", name)
	download.Dir = root
	if err := quiet(download); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(root, "*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("apt-get download %s left %v (%v)", name, debs, err)
	}
	if err := quiet(exec.CommandContext(ctx, "dpkg", "-x", debs[0], root)); err != nil {
		return err
	}
	release := strings.TrimSuffix(strings.TrimPrefix(name, "linux-image-"), "-unsigned")
	if err := quiet(exec.CommandContext(ctx, "depmod", "-b", root, release)); err != nil {
		return err
	}
	if err := os.Remove(debs[0]); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "complete"), []byte(name+"\n"), 0o644)
}

var dependsOnImage = regexp.MustCompile(`Depends: (linux-image-\S+)`)

// kernelPackage asks apt which kernel the metapackage stands for, after an update if its lists are missing.
func kernelPackage(ctx context.Context) (string, error) {
	for _, update := range []bool{false, true} {
		if update {
			if err := quiet(exec.CommandContext(ctx, "apt-get", "update", "-qq")); err != nil {
				return "", err
			}
		}
		out, _ := exec.CommandContext(ctx, "apt-cache", "depends", metapackage).Output()
		if m := dependsOnImage.FindSubmatch(out); m != nil {
			return string(m[1]), nil
		}
	}
	return "", fmt.Errorf("the package archive has no %s (a Debian package): run this on Debian, or use a host whose kernel has IPVS", metapackage)
}

// writeInitrd makes the initramfs: busybox, the boot modules and init.sh.
func (k kernel) writeInitrd() error {
	var w archive
	for _, dir := range []string{"bin", "dev", "proc", "sys", "host", "rw", "root", "modules"} {
		w.dir(dir)
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return err
	}
	w.file("bin/busybox", 0o755, busybox)
	for _, name := range bootModules {
		data, err := k.module(name)
		if err != nil {
			return err
		}
		w.file("modules/"+name+".ko", 0o644, data)
	}
	w.file("modules/order", 0o644, []byte(strings.Join(bootModules, "\n")+"\n"))
	w.file("init", 0o755, initScript)
	temporary := fmt.Sprintf("%s.%d", k.initrd, os.Getpid())
	if err := os.WriteFile(temporary, w.bytes(), 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, k.initrd)
}

// module returns the contents of a kernel module, unpacked where the distribution compresses them.
func (k kernel) module(name string) ([]byte, error) {
	var found string
	err := filepath.WalkDir(filepath.Join(k.modules, "kernel"), func(path string, d os.DirEntry, err error) error {
		base, _, _ := strings.Cut(filepath.Base(path), ".ko")
		if err == nil && !d.IsDir() && strings.ReplaceAll(base, "-", "_") == name {
			found = path
		}
		return err
	})
	if err != nil || found == "" {
		return nil, fmt.Errorf("kernel %s has no module %s: %v", k.release, name, err)
	}
	if !strings.HasSuffix(found, ".xz") {
		return os.ReadFile(found)
	}
	out, err := exec.Command("xz", "-dc", found).Output()
	if err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", found, err)
	}
	return bytes.Clone(out), nil
}
