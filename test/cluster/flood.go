package cluster

import (
	"bufio"
	"context"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// floodClients is how many Services of a flood are created at a time.
const floodClients = 32

// Flood creates Services web-0 to web-(n-1) of type LoadBalancer, all at once. They have no endpoints and no node ports. A
// Service that exists is no error; other errors of the API server end it unless retry says to try again.
func (l *Lab) Flood(ctx context.Context, namespace string, n int, retry func(error) bool) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(floodClients)
	for i := range n {
		g.Go(func() error {
			for {
				err := l.Client.Create(ctx, floodService(namespace, i))
				if err == nil || apierrors.IsAlreadyExists(err) {
					return nil
				}
				if ctx.Err() != nil || retry == nil || !retry(err) {
					return fmt.Errorf("creating Service %d: %w", i, err)
				}
			}
		})
	}
	return g.Wait()
}

func floodService(namespace string, i int) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("web-%d", i)},
		Spec: corev1.ServiceSpec{
			Type:                          corev1.ServiceTypeLoadBalancer,
			AllocateLoadBalancerNodePorts: new(false),
			Ports:                         []corev1.ServicePort{{Name: "http", Port: 80}},
		},
	}
}

// Requests sums the API server's count of requests over all series that carry all the labels, each as name="value".
func (l *Lab) Requests(ctx context.Context, labels ...string) (int, error) {
	set, err := kubernetes.NewForConfig(l.Config)
	if err != nil {
		return 0, fmt.Errorf("setting up the client for metrics: %w", err)
	}
	body, err := set.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	return int(Sum(string(body), "apiserver_request_total", labels...)), nil
}

// Sum adds up the samples of a metric, in Prometheus' text format, that carry all the labels, each as name="value".
func Sum(text, metric string, labels ...string) float64 {
	total := 0.0
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		rest, ok := strings.CutPrefix(line, metric)
		if !ok || rest == "" || (rest[0] != '{' && rest[0] != ' ') || !containsAll(rest, labels) {
			continue
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err == nil {
			total += value
		}
	}
	return total
}

func containsAll(text string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}
