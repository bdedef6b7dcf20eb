package kube

import (
	"context"
	"fmt"
	"sync/atomic"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
)

// Release watches the DaemonSet that a speaker belongs to, so that it knows when it ends whether another one will follow it. A pod
// that is replaced, evicted or restarted leaves its DaemonSet behind; an uninstallation, by whatever tool, deletes that
// first.
type Release struct {
	informer toolscache.Controller
	gone     atomic.Bool
}

// NewRelease watches the DaemonSet of that name in namespace once [Release.Run] is called.
func NewRelease(cfg *rest.Config, namespace, name string) (*Release, error) {
	set, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("setting up the client for the DaemonSet: %w", err)
	}
	r := &Release{}
	_, r.informer = toolscache.NewInformerWithOptions(toolscache.InformerOptions{
		ListerWatcher: toolscache.NewListWatchFromClient(set.AppsV1().RESTClient(), "daemonsets", namespace, fields.OneTermEqualSelector(metav1.ObjectNameField, name)),
		ObjectType:    &appsv1.DaemonSet{},
		Handler: toolscache.ResourceEventHandlerFuncs{
			AddFunc:    r.observe,
			UpdateFunc: func(_, now any) { r.observe(now) },
			DeleteFunc: func(any) { r.gone.Store(true) },
		},
	})
	return r, nil
}

// observe takes in the DaemonSet as it is. One that waits for its pods to end (foreground deletion) is as good as gone; one that was
// made again is not.
func (r *Release) observe(now any) {
	d, ok := now.(*appsv1.DaemonSet)
	r.gone.Store(ok && d.DeletionTimestamp != nil)
}

// Run watches until ctx is done.
func (r *Release) Run(ctx context.Context) error {
	r.informer.RunWithContext(ctx)
	return nil
}

// Gone reports whether the DaemonSet was there and has been deleted. Not knowing, because the API server is away or forbids it, is no.
func (r *Release) Gone() bool { return r.gone.Load() }
