package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/uuid"
	kubeletapp "k8s.io/kubernetes/cmd/kubelet/app"

	"github.com/fairlead-lb/fairlead/lab/cri"
	"github.com/fairlead-lb/fairlead/lab/nodeconfig"
)

// Run is a node until ctx ends; its containers are killed then. It changes the root directory of
// the process and can be called once. The kubelet ends the process by itself if it cannot work.
func Run(ctx context.Context, cfg nodeconfig.Config, log *slog.Logger) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("checking node configuration: %w", err)
	}
	if err := checkInterface(cfg.LANInterface, cfg.NodeIPs); err != nil {
		return err
	}
	d, err := enterDisk(cfg)
	if err != nil {
		return err
	}
	resolvConf := filepath.Join(cfg.RootDir, "resolv.conf")
	if err := os.WriteFile(resolvConf, nil, 0o644); err != nil {
		return fmt.Errorf("writing resolv.conf: %w", err)
	}
	shim := filepath.Join(cfg.BinDir, "fairlab")
	images := cri.NewImages(cfg.BinDir, shim)
	runtime, err := cri.New(cri.Options{
		Dir: filepath.Join(cfg.RootDir, "cri"), Lower: d.lower, Shim: shim, Images: images, PodCIDRs: cfg.PodCIDRs, Log: log,
	})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return runtime.Run(ctx) })
	group.Go(func() error { return runKubelet(ctx, cfg, d, resolvConf, runtime, images) })
	return group.Wait()
}

func runKubelet(ctx context.Context, cfg nodeconfig.Config, d disk, resolvConf string, runtime *cri.Runtime, images *cri.Images) error {
	s, err := kubeletOptions(cfg, d, resolvConf)
	if err != nil {
		return err
	}
	m, err := newMachine(cfg.Name, string(uuid.NewUUID()))
	if err != nil {
		return err
	}
	deps, err := dependencies(ctx, cfg, s, m, runtime, images)
	if err != nil {
		return err
	}
	if err := kubeletapp.RunKubelet(ctx, s, deps); err != nil {
		return fmt.Errorf("running kubelet: %w", err)
	}
	<-ctx.Done() // the kubelet's goroutines end with the process
	return nil
}

// checkInterface finds a wrong configuration before the kubelet reports it every ten seconds.
func checkInterface(name string, want []netip.Addr) error {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("finding node interface %s: %w", name, err)
	}
	addrs, err := link.Addrs()
	if err != nil {
		return fmt.Errorf("reading addresses of %s: %w", name, err)
	}
	have := map[netip.Addr]bool{}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			have[p.Addr()] = true
		}
	}
	var errs []error
	for _, a := range want {
		if !have[a] {
			errs = append(errs, fmt.Errorf("node address %s is not on %s", a, name))
		}
	}
	return errors.Join(errs...)
}
