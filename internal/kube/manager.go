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

// LeaseName is the name of the Lease by which the controllers elect one to allocate.
const LeaseName = "fairlead-controller"

// gracePeriod is how long the worker may take to finish its item when the process is told to end.
const gracePeriod = 10 * time.Second

// NewManager returns the manager that runs the controller: its caches, its lease, its logs. All namespaces are watched, so
// that a pool in the wrong one can be told so. It serves no HTTP.
func NewManager(cfg *rest.Config, opts Options, log logr.Logger) (manager.Manager, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	grace := gracePeriod
	mgr, err := manager.New(cfg, manager.Options{
		Scheme:         Scheme(),
		MapperProvider: func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return mapper(), nil },
		Cache:          cache.Options{DefaultTransform: slim},
		Logger:         log,
		Metrics:        server.Options{BindAddress: "0"},

		LeaderElection:                true,
		LeaderElectionID:              LeaseName,
		LeaderElectionNamespace:       opts.Namespace,
		LeaderElectionReleaseOnCancel: true, // the process ends right after Start returns
		GracefulShutdownTimeout:       &grace,
	})
	if err != nil {
		return nil, fmt.Errorf("setting up the manager: %w", err)
	}
	return mgr, nil
}
