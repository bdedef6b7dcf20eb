package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-lb/fairlead/lab/config"
	"github.com/fairlead-lb/fairlead/lab/daemon"
	"github.com/fairlead-lb/fairlead/lab/fabric"
	"github.com/fairlead-lb/fairlead/lab/kubeapi"
	"github.com/fairlead-lb/fairlead/lab/member"
	"github.com/fairlead-lb/fairlead/lab/netns"
	"github.com/fairlead-lb/fairlead/lab/reaper"
	"github.com/fairlead-lb/fairlead/lab/sandbox"
	"github.com/fairlead-lb/fairlead/lab/state"
	"github.com/fairlead-lb/fairlead/lab/topology"
)

// controlPlaneNS is the control plane's network namespace.
const controlPlaneNS = "/run/netns/" + topology.ControlPlane

// Options are what Run needs.
type Options struct {
	Dir     state.Dir
	Lab     config.Lab
	HostAPI net.Listener // in the machine's namespace; proxied to the API server
	Log     *slog.Logger
}

// supervisor is the state of a running lab.
type supervisor struct {
	Options
	group    *errgroup.Group
	reaper   *reaper.Reaper
	progress *progress
	plan     []topology.Member

	network *fabric.Switch
	api     *kubeapi.Client

	mu         sync.Mutex
	components []*daemon.Daemon
	machines   map[string]member.Machine
}

// Run builds and keeps a lab until ctx ends. A lab whose control plane or nodes do
// not come up is kept too, so that its logs and members can be looked at.
func Run(ctx context.Context, o Options) error {
	listener, err := net.Listen("unix", o.Dir.ControlSocket())
	if err != nil {
		return fmt.Errorf("opening control socket: %w", err)
	}
	if err := sandbox.Furnish("fairlab-" + o.Lab.Name); err != nil {
		return errors.Join(err, listener.Close())
	}
	group, ctx := errgroup.WithContext(ctx)
	s := &supervisor{
		Options:  o,
		group:    group,
		reaper:   reaper.New(),
		progress: newProgress(),
		plan:     topology.Plan(o.Lab.Nodes, o.Lab.DualStack),
		machines: map[string]member.Machine{},
	}
	if err := s.build(); err != nil {
		return errors.Join(err, listener.Close())
	}
	group.Go(func() error { return s.reaper.Run(ctx) })
	group.Go(func() error { return s.serve(ctx, listener) })
	group.Go(func() error { return s.proxy(ctx) })
	group.Go(func() error {
		if err := s.start(ctx); err != nil {
			s.Log.Error("lab did not come up", "err", err)
			s.progress.fail(err)
		}
		return nil
	})
	return group.Wait()
}

// run starts a daemon of the control plane, in its network namespace.
func (s *supervisor) run(ctx context.Context, name string, args []string) *daemon.Daemon {
	d := daemon.New(daemon.Spec{
		Name: name,
		Argv: append([]string{s.program("fairlab-kube"), name}, args...),
		Log:  s.Dir.Log(name),
	}, daemon.Options{
		Reaper: s.reaper,
		Log:    s.Log,
		Start: func(cmd *exec.Cmd) (child *reaper.Child, err error) {
			enterErr := netns.Do(controlPlaneNS, func() error {
				child, err = s.reaper.Start(cmd)
				return err
			})
			return child, enterErr
		},
	})
	s.group.Go(func() error { return d.Run(ctx) })
	return d
}

func (s *supervisor) addComponent(d *daemon.Daemon) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.components = append(s.components, d)
}

// dial connects from the control plane's namespace.
func (s *supervisor) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return netns.Dial(ctx, controlPlaneNS, network, address)
}

func (s *supervisor) program(name string) string { return s.Lab.BinDir + "/" + name }

// apiServerAddr is where the API server is inside the lab.
func apiServerAddr() netip.AddrPort {
	return netip.AddrPortFrom(topology.ControlPlaneAddr(), 443)
}

// component returns the daemon of that name; false before it was started.
func (s *supervisor) component(name string) (*daemon.Daemon, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.components {
		if d.Name() == name {
			return d, true
		}
	}
	return nil, false
}
