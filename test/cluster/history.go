package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// History watches the Services of a namespace and remembers every status that each has had, in the order of etcd's
// revisions. It is safe for concurrent use.
type History struct {
	mu         sync.Mutex
	served     map[string]time.Time // when a Service got its first address
	verdicts   map[string]int       // how often address or condition changed, by Service
	holder     map[string]string    // the Service that has an address
	violations []string
	lastChange time.Time
}

// Watch begins a history; it ends with ctx. It returns when the Services that exist have been seen.
func (l *Lab) Watch(ctx context.Context, namespace string) (*History, error) {
	set, err := kubernetes.NewForConfig(l.Config)
	if err != nil {
		return nil, fmt.Errorf("setting up the client of the history: %w", err)
	}
	h := &History{served: map[string]time.Time{}, verdicts: map[string]int{}, holder: map[string]string{}}
	factory := informers.NewSharedInformerFactoryWithOptions(set, 0, informers.WithNamespace(namespace))
	informer := factory.Core().V1().Services().Informer()
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(now any) { h.note(&corev1.Service{}, now.(*corev1.Service)) },
		UpdateFunc: func(old, now any) { h.note(old.(*corev1.Service), now.(*corev1.Service)) },
		DeleteFunc: func(old any) {
			if s, ok := old.(*corev1.Service); ok {
				h.gone(s)
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("watching Services: %w", err)
	}
	factory.StartWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return nil, fmt.Errorf("watching Services: %w", context.Cause(ctx))
	}
	return h, nil
}

// note compares two versions of a Service.
func (h *History) note(old, now *corev1.Service) {
	before, after := addresses(old), addresses(now)
	changed := !slices.Equal(before, after) || condition(old) != condition(now)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !changed {
		return
	}
	h.verdicts[now.Name]++
	h.lastChange = time.Now()
	if len(before) > 0 && !slices.Equal(before, after) {
		h.violations = append(h.violations, fmt.Sprintf("%s had %v and got %v", now.Name, before, after))
	}
	for _, a := range before {
		delete(h.holder, a)
	}
	for _, a := range after {
		if other := h.holder[a]; other != "" {
			h.violations = append(h.violations, fmt.Sprintf("%s was given to %s while %s had it", a, now.Name, other))
		}
		h.holder[a] = now.Name
	}
	if _, ok := h.served[now.Name]; !ok && len(after) > 0 {
		h.served[now.Name] = time.Now()
	}
}

func (h *History) gone(s *corev1.Service) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range addresses(s) {
		delete(h.holder, a)
	}
}

func addresses(s *corev1.Service) []string {
	var out []string
	for _, in := range s.Status.LoadBalancer.Ingress {
		out = append(out, in.IP)
	}
	return out
}

func condition(s *corev1.Service) string {
	if c := meta.FindStatusCondition(s.Status.Conditions, "fairlead.dev/Allocated"); c != nil {
		return c.Reason + c.Message
	}
	return ""
}

// Served is how many Services have got an address.
func (h *History) Served() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.served)
}

// LastChange is when a verdict on a Service was last seen.
func (h *History) LastChange() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lastChange
}

// Check returns an error that names the first few cases in which an address was on two Services at a time, or a Service's
// address changed, or, if once is set, more than one verdict was written to a Service.
func (h *History) Check(once bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	bad := slices.Clone(h.violations)
	for name, n := range h.verdicts {
		if once && n != 1 {
			bad = append(bad, fmt.Sprintf("%s was written %d times", name, n))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return fmt.Errorf("%d violations, such as: %s", len(bad), strings.Join(bad[:min(len(bad), 5)], "; "))
}
