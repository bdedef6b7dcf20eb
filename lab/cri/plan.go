package cri

import (
	"fmt"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/fairlead-lb/fairlead/lab/container"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func (c *containerState) security() *runtimeapi.LinuxContainerSecurityContext {
	if s := c.config.GetLinux().GetSecurityContext(); s != nil {
		return s
	}
	return &runtimeapi.LinuxContainerSecurityContext{}
}

func (c *containerState) pidMode() runtimeapi.NamespaceMode {
	if o := c.security().GetNamespaceOptions(); o != nil {
		return o.GetPid()
	}
	return runtimeapi.NamespaceMode_CONTAINER
}

// plan says what the container's process has to become, and in which process id namespace it
// starts: "" means a new one or, with hostPID, the node's.
func (r *Runtime) plan(c *containerState) (container.Spec, string, error) {
	process, err := processOf(c)
	if err != nil {
		return container.Spec{}, "", err
	}
	sc := c.security()
	spec := container.Spec{
		Join: c.sandbox.join(),
		Root: &container.Root{
			Lower: r.options.Lower, Scratch: filepath.Join(c.dir, "root"), Mounts: mountsOf(c),
			ReadOnly: sc.GetReadonlyRootfs(), Privileged: sc.GetPrivileged(),
		},
		Process: process,
	}
	if !sc.GetPrivileged() {
		spec.Root.Masked, spec.Root.ReadOnlyPaths = sc.GetMaskedPaths(), sc.GetReadonlyPaths()
	}
	switch c.pidMode() {
	case runtimeapi.NamespaceMode_POD:
		return spec, c.sandbox.ns("pid"), nil
	case runtimeapi.NamespaceMode_TARGET:
		target, err := r.running(sc.GetNamespaceOptions().GetTargetId())
		if err != nil {
			return container.Spec{}, "", fmt.Errorf("joining process namespace: %w", err)
		}
		return spec, target.ns("pid"), nil
	}
	return spec, "", nil
}

// join lists the pod's namespaces that a container enters. Those which the pod shares with the
// node are the runtime's own.
func (s *sandbox) join() []container.Namespace {
	var list []container.Namespace
	if !s.hostNetwork() {
		list = append(list, container.Namespace{Kind: "net", Path: s.ns("net")}, container.Namespace{Kind: "uts", Path: s.ns("uts")})
	}
	if s.namespaces().GetIpc() == runtimeapi.NamespaceMode_POD {
		list = append(list, container.Namespace{Kind: "ipc", Path: s.ns("ipc")})
	}
	return list
}

// ns returns the path of one of a running container's namespaces.
func (c *containerState) ns(kind string) string {
	return fmt.Sprintf("/proc/%d/ns/%s", c.process.Process.Pid, kind)
}

func mountsOf(c *containerState) []container.Mount {
	list := slices.Clone(c.program.mounts)
	// The kubelet's own mounts, such as /etc/hosts, win over these.
	list = append(list, container.Mount{Source: filepath.Join(c.sandbox.dir, "resolv.conf"), Target: "/etc/resolv.conf"})
	if !c.sandbox.hostNetwork() {
		list = append(list, container.Mount{Source: filepath.Join(c.sandbox.dir, "hostname"), Target: "/etc/hostname"})
	}
	for _, m := range c.config.GetMounts() {
		list = slices.DeleteFunc(list, func(own container.Mount) bool { return own.Target == m.GetContainerPath() })
		list = append(list, container.Mount{Source: m.GetHostPath(), Target: m.GetContainerPath(), ReadOnly: m.GetReadonly()})
	}
	return list
}

func processOf(c *containerState) (container.Process, error) {
	sc := c.security()
	p := container.Process{
		Args: commandLine(c.program, c.config), Dir: c.config.GetWorkingDir(),
		NoNewPrivs: sc.GetNoNewPrivs(), OOMScoreAdj: int(c.config.GetLinux().GetResources().GetOomScoreAdj()),
	}
	var err error
	if p.UID, p.GID, err = identity(sc); err != nil {
		return container.Process{}, err
	}
	for _, g := range sc.GetSupplementalGroups() {
		p.Groups = append(p.Groups, uint32(g))
	}
	caps := sc.GetCapabilities()
	if p.Capabilities.Bounding, err = container.Bounding(sc.GetPrivileged(), caps.GetAddCapabilities(), caps.GetDropCapabilities()); err != nil {
		return container.Process{}, err
	}
	if p.Capabilities.Ambient, err = container.Ambient(caps.GetAddAmbientCapabilities()); err != nil {
		return container.Process{}, err
	}
	p.Env = environment(c.config, c.sandbox.config.GetHostname(), p.UID)
	return p, nil
}

// commandLine applies Kubernetes' rules: a command replaces entrypoint and default arguments,
// arguments replace the default arguments.
func commandLine(p program, config *runtimeapi.ContainerConfig) []string {
	switch {
	case len(config.GetCommand()) > 0:
		return slices.Concat(config.GetCommand(), config.GetArgs())
	case len(config.GetArgs()) > 0:
		return slices.Concat(p.entrypoint, config.GetArgs())
	}
	return slices.Concat(p.entrypoint, p.args)
}

func identity(sc *runtimeapi.LinuxContainerSecurityContext) (uid, gid uint32, err error) {
	if name := sc.GetRunAsUsername(); name != "" {
		u, err := user.Lookup(name)
		if err != nil {
			return 0, 0, fmt.Errorf("finding user of container: %w", err)
		}
		id, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return 0, 0, fmt.Errorf("finding user of container: %w", err)
		}
		uid = uint32(id)
	}
	if sc.GetRunAsUser() != nil {
		uid = uint32(sc.GetRunAsUser().GetValue())
	}
	return uid, uint32(sc.GetRunAsGroup().GetValue()), nil
}

// environment adds to the container's variables what every runtime sets.
func environment(config *runtimeapi.ContainerConfig, hostname string, uid uint32) []string {
	home := "/"
	if uid == 0 {
		home = "/root"
	}
	env := []string{"PATH=" + defaultPath, "HOME=" + home}
	if hostname != "" {
		env = append(env, "HOSTNAME="+hostname)
	}
	if config.GetTty() {
		env = append(env, "TERM=xterm")
	}
	for _, kv := range config.GetEnvs() {
		prefix := kv.GetKey() + "="
		env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, prefix) })
		env = append(env, prefix+string(kv.GetValue()))
	}
	return env
}
