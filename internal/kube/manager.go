package kube

import (
	"fmt"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const (
	// gracePeriod is how long writes that have begun may take to end when the process is told to. Only then the lease is
	// released, and a standby begins. A write takes less than leaseDuration.
	gracePeriod = 10 * time.Second

	// syncPatience is how long the caches may take to fill before the process gives up and is started anew. An API server
	// that is away is waited for: the pause before a restart would only grow meanwhile, to five minutes.
	syncPatience = time.Hour
)

// NewManager returns the manager that runs the controller, its caches and logs, and its lease. All namespaces are watched,
// so that a pool in the wrong one can be told so. It serves no HTTP.
func NewManager(cfg *rest.Config, opts Options, log logr.Logger) (manager.Manager, *Lease, error) {
	if err := opts.validate(); err != nil {
		return nil, nil, err
	}
	cfg = bounded(cfg)
	lease, err := newLease(cfg, opts.Namespace)
	if err != nil {
		return nil, nil, err
	}
	grace, duration, deadline, retry := gracePeriod, leaseDuration, renewDeadline, retryPeriod
	mgr, err := manager.New(cfg, manager.Options{
		Scheme:         Scheme(),
		MapperProvider: func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return mapper(), nil },
		Cache:          cache.Options{DefaultTransform: slim},
		Logger:         log,
		Metrics:        server.Options{BindAddress: "0"},

		LeaderElection:                      true,
		LeaderElectionResourceLockInterface: lease,
		LeaderElectionReleaseOnCancel:       true, // the process ends right after Start returns
		LeaseDuration:                       &duration,
		RenewDeadline:                       &deadline,
		RetryPeriod:                         &retry,
		GracefulShutdownTimeout:             &grace,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("setting up the manager: %w", err)
	}
	return mgr, lease, nil
}
