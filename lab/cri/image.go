package cri

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/fairlead-lb/fairlead/lab/container"
)

// ErrNoImage is returned for an image that no program stands for.
var ErrNoImage = errors.New("no such image")

// Images is the lab's image service: a table from names to programs. It has no state.
type Images struct {
	binDir string
	shim   string
}

// NewImages serves the programs below binDir; shim is the program with the hidden commands of
// package container, which serves as pause image.
func NewImages(binDir, shim string) *Images { return &Images{binDir: binDir, shim: shim} }

// program is what an image stands for.
type program struct {
	name       string
	file       string            // decides the image's id and size
	mounts     []container.Mount // none if the program is part of the host's root
	entrypoint []string
	args       []string // default arguments, used if a container gives neither command nor arguments
}

// imageName returns the last path element of an image, without tag and digest.
func imageName(image string) string {
	name, _, _ := strings.Cut(image, "@")
	name = name[strings.LastIndex(name, "/")+1:]
	name, _, _ = strings.Cut(name, ":")
	return name
}

func (i *Images) find(image string) (program, error) {
	name := imageName(image)
	switch name {
	case "pause":
		target := "/fairlab"
		return program{name: name, file: i.shim, mounts: []container.Mount{{Source: i.shim, Target: target, ReadOnly: true}}, entrypoint: []string{target, "pause"}}, nil
	case "busybox", "debian", "distroless-iptables", "glibc-dns-testing":
		return program{name: name, file: "/bin/sh", args: []string{"sh"}}, nil
	case "nginx": // Debian's, whose directories are hidden
		return program{name: name, file: "/usr/sbin/nginx", args: []string{"sh", "-c", "mkdir -p /var/lib/nginx /var/log/nginx && exec nginx -g 'daemon off;'"}}, nil
	}
	file := filepath.Join(i.binDir, name)
	if name == "" || !executable(file) {
		return program{}, fmt.Errorf("%w: %q stands for no program: this lab runs images by the last element of their name, from %s: %s",
			ErrNoImage, image, i.binDir, strings.Join(i.names(), ", "))
	}
	p := program{name: name, file: file, mounts: []container.Mount{{Source: file, Target: "/" + name, ReadOnly: true}}, entrypoint: []string{"/" + name}}
	if name == "agnhost" {
		p.args = []string{"pause"} // as the CMD of the upstream image, which holds more files
		for _, target := range []string{"/coredns", "/localhost.crt", "/localhost.key", wgetrc} {
			if more := filepath.Join(i.binDir, filepath.Base(target)); exists(more) {
				p.mounts = append(p.mounts, container.Mount{Source: more, Target: target, ReadOnly: true})
			}
		}
	}
	return p, nil
}

// wgetrc makes the machine's wget, which is GNU's and would try 20 times, give up as soon as that of upstream's image, which is busybox's.
const wgetrc = "/etc/wgetrc"

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func executable(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// names lists what find knows, for messages.
func (i *Images) names() []string {
	list := []string{"busybox", "debian", "distroless-iptables", "glibc-dns-testing", "nginx", "pause"}
	entries, err := os.ReadDir(i.binDir)
	if err != nil {
		return list
	}
	for _, e := range entries {
		if executable(filepath.Join(i.binDir, e.Name())) {
			list = append(list, e.Name())
		}
	}
	return list
}

// image describes a program. The id contains the name, so that find resolves it again, and changes
// with the file, so that a status shows which build ran.
func (p program) image(tag string) (*runtimeapi.Image, error) {
	info, err := os.Stat(p.file)
	if err != nil {
		return nil, fmt.Errorf("examining image %s: %w", p.name, err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", p.file, info.Size(), info.ModTime().UnixNano()))
	id := fmt.Sprintf("fairlab/%s@sha256:%x", p.name, sum)
	return &runtimeapi.Image{
		Id: id, RepoTags: []string{tag}, RepoDigests: []string{id}, Size: uint64(max(info.Size(), 1)),
		Uid: &runtimeapi.Int64Value{Value: 0}, Spec: &runtimeapi.ImageSpec{Image: id},
	}, nil
}

// ListImages implements internalapi.ImageManagerService. It lists nothing: programs are files of
// the checkout, which the kubelet neither accounts for nor cleans up.
func (i *Images) ListImages(context.Context, *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	return nil, nil
}

// ImageStatus implements internalapi.ImageManagerService.
func (i *Images) ImageStatus(_ context.Context, spec *runtimeapi.ImageSpec, _ bool) (*runtimeapi.ImageStatusResponse, error) {
	p, err := i.find(spec.GetImage())
	if errors.Is(err, ErrNoImage) {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	image, err := p.image(spec.GetImage())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ImageStatusResponse{Image: image}, nil
}

// PullImage implements internalapi.ImageManagerService. There is nothing to fetch; it fails for
// images that do not exist.
func (i *Images) PullImage(_ context.Context, spec *runtimeapi.ImageSpec, _ *runtimeapi.AuthConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	p, err := i.find(spec.GetImage())
	if err != nil {
		return "", err
	}
	image, err := p.image(spec.GetImage())
	if err != nil {
		return "", err
	}
	return image.GetId(), nil
}

// RemoveImage implements internalapi.ImageManagerService and does nothing.
func (i *Images) RemoveImage(context.Context, *runtimeapi.ImageSpec) error { return nil }

// ImageFsInfo implements internalapi.ImageManagerService; images take no room of their own.
func (i *Images) ImageFsInfo(context.Context) (*runtimeapi.ImageFsInfoResponse, error) {
	usage := []*runtimeapi.FilesystemUsage{{
		FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: "/"}, UsedBytes: &runtimeapi.UInt64Value{}, InodesUsed: &runtimeapi.UInt64Value{},
	}}
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: usage, ContainerFilesystems: usage}, nil
}

// Close implements internalapi.ImageManagerService.
func (i *Images) Close(context.Context) error { return nil }
