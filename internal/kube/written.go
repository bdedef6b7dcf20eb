package kube

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/fairlead-lb/fairlead/lb"
)

// written holds what the API server answered to our writes until the cache has caught up with it, so that no decision is
// made, and nothing written, on what we know to be outdated. It is safe for concurrent use.
type written struct {
	mu       sync.Mutex
	services map[lb.ServiceKey]*corev1.Service
}

// put remembers s as the API server has it after our write.
func (w *written) put(key lb.ServiceKey, s *corev1.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.services == nil {
		w.services = map[lb.ServiceKey]*corev1.Service{}
	}
	w.services[key] = s
}

// newest returns the newer of cached, nil if the cache holds none, and what we wrote. A Service that has left the cache is
// gone: what we write to has been there before. Versions that cannot be compared count as new.
func (w *written) newest(key lb.ServiceKey, cached *corev1.Service) *corev1.Service {
	w.mu.Lock()
	defer w.mu.Unlock()
	ours, ok := w.services[key]
	if !ok {
		return cached
	}
	if cached != nil {
		if order, err := resourceversion.CompareResourceVersion(cached.ResourceVersion, ours.ResourceVersion); err == nil && order < 0 {
			return ours
		}
	}
	delete(w.services, key)
	return cached
}
