package cri

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// containerState is one container. Fields above state are set before it is published.
type containerState struct {
	id      string
	config  *runtimeapi.ContainerConfig
	sandbox *sandbox
	program program
	imageID string
	created time.Time
	dir     string
	log     *logFile
	stdout  output
	stderr  output
	ended   chan struct{} // closed when it has exited and its output is in the log

	// The rest is guarded by Runtime.mu.
	state    runtimeapi.ContainerState
	process  *exec.Cmd // nil before the start
	terminal *os.File  // nil without tty
	stdin    *os.File  // nil without stdin
	started  time.Time
	finished time.Time
	code     int
	reason   string
	message  string
}

// CreateContainer implements internalapi.RuntimeService. Nothing runs yet.
func (r *Runtime) CreateContainer(_ context.Context, sandboxID string, config *runtimeapi.ContainerConfig, pod *runtimeapi.PodSandboxConfig) (string, error) {
	p, err := r.options.Images.find(config.GetImage().GetImage())
	if err != nil {
		return "", err
	}
	image, err := p.image(config.GetImage().GetUserSpecifiedImage())
	if err != nil {
		return "", err
	}
	for _, m := range config.GetMounts() {
		if m.GetImage().GetImage() != "" || m.GetPropagation() == runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL {
			return "", fmt.Errorf("mounting %s: image volumes and bidirectional mount propagation are not supported by the lab", m.GetContainerPath())
		}
	}
	id := newID()
	c := &containerState{
		id: id, config: config, program: p, imageID: image.GetId(), created: time.Now(),
		dir: filepath.Join(r.options.Dir, id), ended: make(chan struct{}),
	}
	logPath := ""
	if pod.GetLogDirectory() != "" && config.GetLogPath() != "" {
		logPath = filepath.Join(pod.GetLogDirectory(), config.GetLogPath())
	}
	if c.log, err = openLog(logPath); err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.sandbox = r.sandboxes[sandboxID]; c.sandbox == nil {
		c.log.close()
		return "", notFound("pod sandbox", sandboxID)
	}
	r.containers[id] = c
	return id, nil
}

// StartContainer implements internalapi.RuntimeService. It returns when the program is executed.
func (r *Runtime) StartContainer(_ context.Context, id string) error {
	r.mu.Lock()
	c := r.containers[id]
	ready := c != nil && c.sandbox.ready && c.state == runtimeapi.ContainerState_CONTAINER_CREATED
	r.mu.Unlock()
	if c == nil {
		return notFound("container", id)
	}
	if !ready {
		return fmt.Errorf("container %s has been started, or its sandbox has ended", id)
	}
	err := r.start(c)
	if err == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c.state, c.reason, c.message, c.code = runtimeapi.ContainerState_CONTAINER_EXITED, "StartError", err.Error(), 128
	if failed := (*StartError)(nil); errors.As(err, &failed) {
		c.code = failed.Code
	}
	c.started, c.finished = time.Now(), time.Now()
	c.log.close()
	close(c.ended)
	return err
}

func (r *Runtime) start(c *containerState) error {
	spec, pidNS, err := r.plan(c)
	if err != nil {
		return err
	}
	cmd, err := r.command(c.dir, spec)
	if err != nil {
		return err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if c.pidMode() == runtimeapi.NamespaceMode_CONTAINER {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWPID
	}
	pipes, err := connect(cmd, c.config.GetTty(), c.config.GetStdin(), "/dev/ptmx")
	if err != nil {
		return err
	}
	err = r.spawner.launch(cmd, pidNS)
	pipes.closeChild()
	if err != nil {
		pipes.closeParent()
		return err
	}
	r.mu.Lock()
	c.process, c.started, c.state = cmd, time.Now(), runtimeapi.ContainerState_CONTAINER_RUNNING
	c.terminal, c.stdin = pipes.terminal, pipes.stdin
	r.mu.Unlock()
	go r.watch(c, pipes)
	return nil
}

// drainTime is how long output of a dead container is waited for: a process outside its pid
// namespace may hold the pipe.
const drainTime = 2 * time.Second

// watch copies a container's output until it ends and records how it ended.
func (r *Runtime) watch(c *containerState, p *pipes) {
	var pumps sync.WaitGroup
	pump := func(from *os.File, o *output, stream string) {
		pumps.Go(func() {
			if err := o.pump(from, &lineWriter{log: c.log, stream: stream}); err != nil {
				r.options.Log.Warn("container log is incomplete", "container", c.id, "err", err)
			}
		})
	}
	pump(p.stdout, &c.stdout, "stdout")
	if p.stderr != nil {
		pump(p.stderr, &c.stderr, "stderr")
	}
	c.process.Wait() // the state says more than the error
	finished := time.Now()
	timer := time.AfterFunc(drainTime, p.closeParent)
	pumps.Wait()
	timer.Stop()
	p.closeParent()
	c.log.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	c.state, c.finished, c.code = runtimeapi.ContainerState_CONTAINER_EXITED, finished, exitCode(c.process.ProcessState)
	c.reason = "Error"
	if c.code == 0 {
		c.reason = "Completed"
	}
	close(c.ended)
}

// StopContainer implements internalapi.RuntimeService: the stop signal, then SIGKILL after timeout
// seconds. It returns when the container has ended.
func (r *Runtime) StopContainer(ctx context.Context, id string, timeout int64) error {
	r.mu.Lock()
	c := r.containers[id]
	running := c != nil && c.state == runtimeapi.ContainerState_CONTAINER_RUNNING
	r.mu.Unlock()
	if c == nil {
		return notFound("container", id)
	}
	if !running {
		return nil
	}
	if timeout > 0 {
		// Errors of signals mean that the process has ended.
		c.process.Process.Signal(stopSignal(c.config.GetStopSignal()))
		timer := time.NewTimer(time.Duration(timeout) * time.Second)
		defer timer.Stop()
		select {
		case <-c.ended:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("stopping container %s: %w", id, ctx.Err())
		case <-timer.C:
		}
	}
	c.process.Process.Kill()
	select {
	case <-c.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("killing container %s: %w", id, ctx.Err())
	}
}

// RemoveContainer implements internalapi.RuntimeService. Logs belong to the kubelet.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	if err := r.StopContainer(ctx, id, 0); err != nil && status.Code(err) != codes.NotFound {
		return err
	}
	r.mu.Lock()
	c := r.containers[id]
	delete(r.containers, id)
	r.mu.Unlock()
	if c == nil {
		return nil
	}
	c.log.close()
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("removing files of container %s: %w", id, err)
	}
	return nil
}

// ReopenContainerLog implements internalapi.RuntimeService.
func (r *Runtime) ReopenContainerLog(_ context.Context, id string) error {
	c, err := r.running(id)
	if err != nil {
		return err
	}
	return c.log.reopen()
}

// running returns a container that runs.
func (r *Runtime) running(id string) (*containerState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil {
		return nil, notFound("container", id)
	}
	if c.state != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return nil, fmt.Errorf("container %s is not running", id)
	}
	return c, nil
}

// ListContainers implements internalapi.RuntimeService; the newest come first.
func (r *Runtime) ListContainers(_ context.Context, filter *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*runtimeapi.Container
	for _, c := range r.containers {
		if filter.GetId() != "" && filter.GetId() != c.id ||
			filter.GetState() != nil && filter.GetState().GetState() != c.state ||
			filter.GetPodSandboxId() != "" && filter.GetPodSandboxId() != c.sandbox.id ||
			!matches(filter.GetLabelSelector(), c.config.GetLabels()) {
			continue
		}
		list = append(list, &runtimeapi.Container{
			Id: c.id, PodSandboxId: c.sandbox.id, Metadata: c.config.GetMetadata(), Image: c.config.GetImage(),
			ImageRef: c.imageID, ImageId: c.imageID, State: c.state, CreatedAt: c.created.UnixNano(),
			Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(),
		})
	}
	slices.SortFunc(list, func(a, b *runtimeapi.Container) int { return int(b.GetCreatedAt() - a.GetCreatedAt()) })
	return list, nil
}

// ContainerStatus implements internalapi.RuntimeService.
func (r *Runtime) ContainerStatus(_ context.Context, id string, _ bool) (*runtimeapi.ContainerStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil {
		return nil, notFound("container", id)
	}
	s := &runtimeapi.ContainerStatus{
		Id: c.id, Metadata: c.config.GetMetadata(), State: c.state, CreatedAt: c.created.UnixNano(),
		Image: &runtimeapi.ImageSpec{Image: c.config.GetImage().GetUserSpecifiedImage()}, ImageRef: c.imageID, ImageId: c.imageID,
		Reason: c.reason, Message: c.message, ExitCode: int32(c.code), LogPath: c.log.path,
		Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(), Mounts: c.config.GetMounts(),
		StopSignal: c.config.GetStopSignal(),
	}
	if !c.started.IsZero() {
		s.StartedAt = c.started.UnixNano()
	}
	if !c.finished.IsZero() {
		s.FinishedAt = c.finished.UnixNano()
	}
	return &runtimeapi.ContainerStatusResponse{Status: s}, nil
}

// UpdateContainerResources implements internalapi.RuntimeService; there are no limits to update.
func (r *Runtime) UpdateContainerResources(context.Context, string, *runtimeapi.ContainerResources) error {
	return nil
}

// CheckpointContainer implements internalapi.RuntimeService; the lab cannot.
func (r *Runtime) CheckpointContainer(context.Context, *runtimeapi.CheckpointContainerRequest) error {
	return status.Error(codes.Unimplemented, "checkpoints are not supported by the lab")
}
