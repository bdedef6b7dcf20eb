package cri

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
)

// Options configure a Runtime. All paths are absolute.
type Options struct {
	// Dir holds scratch files; it is emptied at the start.
	Dir string
	// Lower is the root that containers see below their own layer.
	Lower string
	// Shim is the program with the hidden commands `container` and `pause`: fairlab.
	Shim string
	// Images resolves image names.
	Images *Images
	// PodCIDRs are the prefixes of pod addresses, at most one per family. At most 65533 addresses of each are used.
	PodCIDRs []netip.Prefix
	// Log gets what happens apart from calls, which return their errors.
	Log *slog.Logger
}

func (o Options) validate() error {
	var errs []error
	for _, f := range []struct{ field, path string }{{"Dir", o.Dir}, {"Lower", o.Lower}, {"Shim", o.Shim}} {
		if !filepath.IsAbs(f.path) {
			errs = append(errs, fmt.Errorf("%s %q is not an absolute path", f.field, f.path))
		}
	}
	if o.Images == nil || o.Log == nil {
		errs = append(errs, errors.New("Images or Log is missing"))
	}
	if len(o.PodCIDRs) == 0 {
		errs = append(errs, errors.New("PodCIDRs is empty"))
	}
	return errors.Join(errs...)
}

// Runtime implements internalapi.RuntimeService. It works while Run runs; its methods are safe for
// concurrent use.
type Runtime struct {
	options  Options
	network  *network
	spawner  *spawner
	streams  streaming.Server
	listener net.Listener

	mu         sync.Mutex // guards the maps and the mutable fields of what is in them
	sandboxes  map[string]*sandbox
	containers map[string]*containerState
}

var _ internalapi.RuntimeService = (*Runtime)(nil)

// New prepares a runtime in the calling process's namespaces and listens on the loopback interface
// for streams.
func New(o Options) (*Runtime, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("checking runtime options: %w", err)
	}
	if err := os.RemoveAll(o.Dir); err != nil {
		return nil, fmt.Errorf("emptying runtime directory: %w", err)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("creating runtime directory: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for streams: %w", err)
	}
	r := &Runtime{
		options: o, network: newNetwork(o.PodCIDRs), spawner: newSpawner(), listener: listener,
		sandboxes: map[string]*sandbox{}, containers: map[string]*containerState{},
	}
	config := streaming.DefaultConfig
	config.BaseURL = &url.URL{Scheme: "http", Host: listener.Addr().String(), Path: "/"}
	if r.streams, err = streaming.NewServer(config, (*streamRuntime)(r)); err != nil {
		listener.Close()
		return nil, fmt.Errorf("creating stream server: %w", err)
	}
	return r, nil
}

// Run serves until ctx ends. All containers are killed then, without grace.
func (r *Runtime) Run(ctx context.Context) error {
	server := &http.Server{Handler: r.streams, ReadHeaderTimeout: 30 * time.Second}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.spawner.run(ctx) })
	group.Go(func() error {
		if err := server.Serve(r.listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving streams: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	return group.Wait()
}

func newID() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// Version implements internalapi.RuntimeService.
func (r *Runtime) Version(context.Context, string) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "fairlab", RuntimeVersion: "1.0.0", RuntimeApiVersion: "v1"}, nil
}

// Status implements internalapi.RuntimeService: whoever can ask can run pods.
func (r *Runtime) Status(context.Context, bool) (*runtimeapi.StatusResponse, error) {
	return &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: runtimeapi.RuntimeReady, Status: true}, {Type: runtimeapi.NetworkReady, Status: true},
	}}}, nil
}

// RuntimeConfig implements internalapi.RuntimeService. There are no cgroups to drive.
func (r *Runtime) RuntimeConfig(context.Context) (*runtimeapi.RuntimeConfigResponse, error) {
	return &runtimeapi.RuntimeConfigResponse{Linux: &runtimeapi.LinuxRuntimeConfiguration{CgroupDriver: runtimeapi.CgroupDriver_CGROUPFS}}, nil
}

// UpdateRuntimeConfig implements internalapi.RuntimeService. The node's pod prefixes are fixed.
func (r *Runtime) UpdateRuntimeConfig(context.Context, *runtimeapi.RuntimeConfig) error { return nil }

// Close implements internalapi.RuntimeService and does nothing; the end of Run's context ends the runtime.
func (r *Runtime) Close(context.Context) error { return nil }
