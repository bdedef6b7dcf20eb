package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/lab/config"
	"github.com/fairlead-lb/fairlead/lab/controlplane"
	"github.com/fairlead-lb/fairlead/lab/fabric"
	"github.com/fairlead-lb/fairlead/lab/kubeapi"
	"github.com/fairlead-lb/fairlead/lab/netns"
	"github.com/fairlead-lb/fairlead/lab/topology"
)

// How long the steps may take on an ordinary machine; config.Lab.Slow stretches them.
const (
	etcdTimeout      = 30 * time.Second
	apiServerTimeout = 90 * time.Second
	controlTimeout   = 60 * time.Second
	nodesTimeout     = 120 * time.Second
)

// Pauses between two looks at something that is awaited.
const (
	minPoll = 20 * time.Millisecond
	maxPoll = 500 * time.Millisecond
)

// build makes everything that needs no waiting: the switch, the control plane's
// namespace, the certificates.
func (s *supervisor) build() error {
	var err error
	if s.network, err = fabric.NewSwitch(); err != nil {
		return err
	}
	if err := netns.New(controlPlaneNS); err != nil {
		return err
	}
	plan := s.plan[0] // the control plane
	if err := netns.Do(controlPlaneNS, func() error { return fabric.SetSysctls(plan.Sysctls) }); err != nil {
		return err
	}
	if err := s.network.Plug(plan, controlPlaneNS); err != nil {
		return err
	}
	if err := s.writeCredentials(); err != nil {
		return err
	}
	s.api, err = kubeapi.New(kubeapi.Options{
		URL:      "https://" + apiServerAddr().String(),
		CAFile:   controlplane.ClientCA(s.Dir),
		CertFile: controlplane.AdminCert(s.Dir),
		KeyFile:  controlplane.AdminKey(s.Dir),
		Dial:     s.dial,
	})
	return err
}

// start brings the lab up, step by step.
func (s *supervisor) start(ctx context.Context) error {
	s.progress.step("network: LAN %s and %s, management %s", topology.LAN4(), topology.LAN6(), topology.Mgmt())
	steps := []func(context.Context) error{
		s.startEtcd, s.startAPIServer, s.startControllers, s.startMembers, s.awaitNodes,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	s.progress.ready(fmt.Sprintf("lab %s is ready", s.Lab.Name))
	return nil
}

func (s *supervisor) writeCredentials() error {
	hostAPI, err := netip.ParseAddrPort(s.HostAPI.Addr().String())
	if err != nil {
		return fmt.Errorf("parsing address of the host's API listener: %w", err)
	}
	files, err := controlplane.Credentials(s.Dir, s.Lab.Nodes, s.Lab.DualStack, hostAPI, time.Now())
	if err != nil {
		return fmt.Errorf("making certificates: %w", err)
	}
	if err := os.MkdirAll(s.Dir.PKI(), 0o700); err != nil {
		return fmt.Errorf("making directory of certificates: %w", err)
	}
	for _, file := range files {
		if err := os.WriteFile(file.Path, file.Data, 0o600); err != nil {
			return fmt.Errorf("writing certificates: %w", err)
		}
	}
	return nil
}

func (s *supervisor) controlPlaneOptions() controlplane.Options {
	return controlplane.Options{Dir: s.Dir, DualStack: s.Lab.DualStack, Grace: s.Lab.Grace}
}

func (s *supervisor) startEtcd(ctx context.Context) error {
	s.addComponent(s.run(ctx, controlplane.Etcd, controlplane.EtcdArgs(s.controlPlaneOptions())))
	if err := s.awaitHealth(ctx, controlplane.Etcd, controlplane.EtcdHealth, etcdTimeout); err != nil {
		return err
	}
	s.progress.step("etcd is healthy")
	return nil
}

func (s *supervisor) startAPIServer(ctx context.Context) error {
	s.addComponent(s.run(ctx, controlplane.APIServer, controlplane.APIServerArgs(s.controlPlaneOptions())))
	if err := s.awaitAPIServer(ctx); err != nil {
		return err
	}
	s.progress.step("kube-apiserver is ready")
	return nil
}

func (s *supervisor) awaitAPIServer(ctx context.Context) error {
	return s.await(ctx, controlplane.APIServer, apiServerTimeout, s.api.Ready)
}

func (s *supervisor) startControllers(ctx context.Context) error {
	o := s.controlPlaneOptions()
	s.addComponent(s.run(ctx, controlplane.ControllerManager, controlplane.ControllerManagerArgs(o)))
	s.addComponent(s.run(ctx, controlplane.Scheduler, controlplane.SchedulerArgs(o)))
	return nil // awaited while the nodes boot
}

// startMembers boots the router, the client and the nodes.
func (s *supervisor) startMembers(ctx context.Context) error {
	for n := 1; n <= s.Lab.Nodes; n++ {
		err := s.await(ctx, "Node objects", controlTimeout, func(ctx context.Context) error {
			return s.api.EnsureNode(ctx, topology.NodeName(n), topology.PodCIDRs(n, s.Lab.DualStack))
		})
		if err != nil {
			return err
		}
	}
	for _, plan := range s.plan[1:] {
		if err := s.powerOn(plan.Name); err != nil {
			return err
		}
	}
	text := fmt.Sprintf("client, router and %s have booted", nodeNames(s.Lab.Nodes))
	if s.Lab.Router != config.RouterNone {
		text += ", the router with " + string(s.Lab.Router)
	}
	s.progress.step("%s", text)
	return nil
}

func (s *supervisor) awaitNodes(ctx context.Context) error {
	if err := s.awaitHealth(ctx, controlplane.Scheduler, controlplane.SchedulerHealth, controlTimeout); err != nil {
		return err
	}
	if err := s.awaitHealth(ctx, controlplane.ControllerManager, controlplane.ControllerManagerHealth, controlTimeout); err != nil {
		return err
	}
	s.progress.step("kube-scheduler and kube-controller-manager are healthy")
	err := s.await(ctx, "nodes", nodesTimeout, func(ctx context.Context) error {
		nodes, err := s.api.Nodes(ctx)
		if err != nil {
			return err
		}
		return allReady(nodes, s.Lab.Nodes)
	})
	if err != nil {
		return err
	}
	s.progress.step("Ready: %s; kube-proxy: %s", nodeNames(s.Lab.Nodes), s.Lab.KubeProxy)
	return nil
}

func nodeNames(n int) string {
	if n == 1 {
		return topology.NodeName(1)
	}
	return topology.NodeName(1) + " to " + topology.NodeName(n)
}

// allReady names the nodes that are not.
func allReady(nodes []kubeapi.Node, want int) error {
	var waiting []string
	for _, node := range nodes {
		if !node.Ready {
			waiting = append(waiting, strings.TrimSpace(node.Name+" "+node.Reason))
		}
	}
	if len(nodes) < want {
		waiting = append(waiting, fmt.Sprintf("%d of %d nodes exist", len(nodes), want))
	}
	if len(waiting) == 0 {
		return nil
	}
	return errors.New("not ready: " + strings.Join(waiting, ", "))
}

func (s *supervisor) awaitHealth(ctx context.Context, component, url string, timeout time.Duration) error {
	return s.await(ctx, component, timeout, func(ctx context.Context) error { return s.health(ctx, url) })
}

// await looks until check is content.
func (s *supervisor) await(ctx context.Context, what string, timeout time.Duration, check func(context.Context) error) error {
	timeout = s.Lab.Timeout(timeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last error
	for pause := minPoll; ; pause = min(2*pause, maxPoll) {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting %v for %s, logs are in %s: %w", timeout, what, filepath.Clean(s.Dir.Logs()), last)
		case <-time.After(pause):
		}
	}
}
