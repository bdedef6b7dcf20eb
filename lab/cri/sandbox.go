package cri

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// notFound is what the kubelet takes for "already gone".
func notFound(kind, id string) error {
	return status.Errorf(codes.NotFound, "%s %s does not exist", kind, id)
}

// sandbox is a pod's set of namespaces, held by a process that does nothing. All fields but ready
// are set before the sandbox is published.
type sandbox struct {
	id      string
	config  *runtimeapi.PodSandboxConfig
	created time.Time
	pause   *exec.Cmd
	ended   chan struct{} // closed when pause has ended
	dir     string        // files that are mounted into containers
	link    string        // the node's end of the veth pair; "" in the node's network
	number  int           // of the addresses
	addrs   []netip.Addr

	ready bool // guarded by Runtime.mu
}

func (s *sandbox) namespaces() *runtimeapi.NamespaceOption {
	if o := s.config.GetLinux().GetSecurityContext().GetNamespaceOptions(); o != nil {
		return o
	}
	return &runtimeapi.NamespaceOption{}
}

func (s *sandbox) hostNetwork() bool {
	return s.namespaces().GetNetwork() == runtimeapi.NamespaceMode_NODE
}

// ns returns the path of one of the sandbox's namespaces.
func (s *sandbox) ns(kind string) string {
	return fmt.Sprintf("/proc/%d/ns/%s", s.pause.Process.Pid, kind)
}

// RunPodSandbox implements internalapi.RuntimeService.
func (r *Runtime) RunPodSandbox(_ context.Context, config *runtimeapi.PodSandboxConfig, handler string) (string, error) {
	if err := supported(config, handler); err != nil {
		return "", err
	}
	id := newID()
	s := &sandbox{id: id, config: config, created: time.Now(), ended: make(chan struct{}), ready: true, dir: filepath.Join(r.options.Dir, id)}
	if err := s.writeFiles(); err != nil {
		return "", err
	}
	if err := r.startPause(s); err != nil {
		return "", errors.Join(err, os.RemoveAll(s.dir))
	}
	if !s.hostNetwork() {
		link := "veth" + id[:8]
		addrs, number, err := r.network.attach(s.pause.Process.Pid, link)
		if err != nil {
			s.pause.Process.Kill()
			<-s.ended
			return "", errors.Join(fmt.Errorf("setting up pod network: %w", err), os.RemoveAll(s.dir))
		}
		s.link, s.addrs, s.number = link, addrs, number
		if err := r.expose(s); err != nil {
			s.pause.Process.Kill()
			<-s.ended
			return "", errors.Join(err, r.network.detach(link, number), os.RemoveAll(s.dir))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sandboxes[id] = s
	return id, nil
}

// expose makes the host ports that a pod asks for lead to it.
func (r *Runtime) expose(s *sandbox) error {
	ports, err := hostPortsOf(s.id, s.config.GetPortMappings(), s.addrs)
	if err != nil {
		return err
	}
	return r.network.expose(ports)
}

// supported refuses what would silently be missing.
func supported(config *runtimeapi.PodSandboxConfig, handler string) error {
	if handler != "" {
		return fmt.Errorf("runtime handler %q is not supported by the lab", handler)
	}
	o := config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	if u := o.GetUsernsOptions(); u != nil && u.GetMode() == runtimeapi.NamespaceMode_POD {
		return errors.New("user namespaces are not supported by the lab")
	}
	return nil
}

// writeFiles creates the files that a runtime owns: name resolution and host name.
func (s *sandbox) writeFiles() error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return fmt.Errorf("creating sandbox directory: %w", err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "resolv.conf"), resolvConf(s.config.GetDnsConfig()), 0o644); err != nil {
		return fmt.Errorf("writing resolv.conf: %w", err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "hostname"), []byte(s.config.GetHostname()+"\n"), 0o644); err != nil {
		return fmt.Errorf("writing hostname: %w", err)
	}
	return nil
}

func resolvConf(dns *runtimeapi.DNSConfig) []byte {
	var b strings.Builder
	if len(dns.GetSearches()) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(dns.GetSearches(), " "))
	}
	for _, server := range dns.GetServers() {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if len(dns.GetOptions()) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(dns.GetOptions(), " "))
	}
	return []byte(b.String())
}

func (r *Runtime) startPause(s *sandbox) error {
	args := []string{"pause", "--status"}
	flags := uintptr(0)
	if !s.hostNetwork() {
		flags |= syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS
		args = append(args, "--hostname", s.config.GetHostname())
		for _, sysctl := range strings.Fields(podSysctls) {
			if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
				args = append(args, "--sysctl", sysctl)
			}
		}
	}
	o := s.namespaces()
	if o.GetIpc() == runtimeapi.NamespaceMode_POD {
		flags |= syscall.CLONE_NEWIPC
	}
	if o.GetPid() == runtimeapi.NamespaceMode_POD {
		flags |= syscall.CLONE_NEWPID
	}
	for name, value := range s.config.GetLinux().GetSysctls() {
		args = append(args, "--sysctl", name+"="+value)
	}
	s.pause = exec.Command(r.options.Shim, args...)
	s.pause.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if err := r.spawner.launch(s.pause, ""); err != nil {
		return fmt.Errorf("starting pod sandbox: %w", err)
	}
	go func() {
		s.pause.Wait() // its exit code means nothing
		r.mu.Lock()
		s.ready = false
		r.mu.Unlock()
		close(s.ended)
	}()
	return nil
}

// StopPodSandbox implements internalapi.RuntimeService: the pod's network ends here.
func (r *Runtime) StopPodSandbox(ctx context.Context, id string) error {
	r.mu.Lock()
	s := r.sandboxes[id]
	var inside []string
	for _, c := range r.containers {
		if c.sandbox == s && c.state == runtimeapi.ContainerState_CONTAINER_RUNNING {
			inside = append(inside, c.id)
		}
	}
	var link string
	if s != nil {
		s.ready = false
		link, s.link = s.link, ""
	}
	r.mu.Unlock()
	if s == nil {
		return nil
	}
	var errs []error
	for _, c := range inside {
		errs = append(errs, r.StopContainer(ctx, c, 0))
	}
	s.pause.Process.Kill() // fails only if it has ended
	<-s.ended
	if link != "" {
		errs = append(errs, r.network.conceal(s.id), r.network.detach(link, s.number))
	}
	return errors.Join(errs...)
}

// RemovePodSandbox implements internalapi.RuntimeService.
func (r *Runtime) RemovePodSandbox(ctx context.Context, id string) error {
	if err := r.StopPodSandbox(ctx, id); err != nil {
		return err
	}
	r.mu.Lock()
	s := r.sandboxes[id]
	var inside []string
	for _, c := range r.containers {
		if s != nil && c.sandbox == s {
			inside = append(inside, c.id)
		}
	}
	delete(r.sandboxes, id)
	r.mu.Unlock()
	var errs []error
	for _, c := range inside {
		errs = append(errs, r.RemoveContainer(ctx, c))
	}
	if s != nil {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

func (s *sandbox) state() runtimeapi.PodSandboxState {
	if s.ready {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}

// PodSandboxStatus implements internalapi.RuntimeService.
func (r *Runtime) PodSandboxStatus(_ context.Context, id string, _ bool) (*runtimeapi.PodSandboxStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[id]
	if s == nil {
		return nil, notFound("pod sandbox", id)
	}
	network := &runtimeapi.PodSandboxNetworkStatus{}
	for i, a := range s.addrs {
		if i == 0 {
			network.Ip = a.String()
		} else {
			network.AdditionalIps = append(network.AdditionalIps, &runtimeapi.PodIP{Ip: a.String()})
		}
	}
	return &runtimeapi.PodSandboxStatusResponse{Status: &runtimeapi.PodSandboxStatus{
		Id: s.id, Metadata: s.config.GetMetadata(), State: s.state(), CreatedAt: s.created.UnixNano(), Network: network,
		Linux:  &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{Options: s.namespaces()}},
		Labels: s.config.GetLabels(), Annotations: s.config.GetAnnotations(),
	}}, nil
}

// ListPodSandbox implements internalapi.RuntimeService; the newest come first.
func (r *Runtime) ListPodSandbox(_ context.Context, filter *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*runtimeapi.PodSandbox
	for _, s := range r.sandboxes {
		if filter.GetId() != "" && filter.GetId() != s.id ||
			filter.GetState() != nil && filter.GetState().GetState() != s.state() ||
			!matches(filter.GetLabelSelector(), s.config.GetLabels()) {
			continue
		}
		list = append(list, &runtimeapi.PodSandbox{
			Id: s.id, Metadata: s.config.GetMetadata(), State: s.state(), CreatedAt: s.created.UnixNano(),
			Labels: s.config.GetLabels(), Annotations: s.config.GetAnnotations(),
		})
	}
	slices.SortFunc(list, func(a, b *runtimeapi.PodSandbox) int { return int(b.GetCreatedAt() - a.GetCreatedAt()) })
	return list, nil
}

func matches(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

// UpdatePodSandboxResources implements internalapi.RuntimeService; there are no limits to update.
func (r *Runtime) UpdatePodSandboxResources(context.Context, *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}
