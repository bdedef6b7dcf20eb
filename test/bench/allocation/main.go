package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/test/cluster"
)

// namespace is where the Services are.
const namespace = "flood"

func main() {
	n := flag.Int("services", 10000, "how many Services")
	quiet := flag.Duration("quiet", time.Minute, "how long to look for work after the last address")
	speakers := flag.Bool("speakers", false, "let the speakers run too")
	bin := flag.String("bin", "bin", "directory of the binaries")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *bin, *n, *quiet, *speakers); err != nil {
		fmt.Fprintln(os.Stderr, "allocation:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, n int, quiet time.Duration, speakers bool) (err error) {
	lab, err := cluster.StartAnew(ctx, bin, "bench", "--nodes", "1", "--kube-proxy", "none")
	if err != nil {
		return err
	}
	defer func() {
		if e := lab.Down(context.WithoutCancel(ctx)); err == nil {
			err = e
		}
	}()
	b := &bench{lab: lab, services: n, quiet: quiet}
	b.print("allocator-alone", float64(decide(n).Microseconds())/1000, "ms")
	if err := b.prepare(ctx, speakers); err != nil {
		return err
	}
	if err := b.running(ctx); err != nil {
		return err
	}
	return b.starting(ctx)
}

// prepare installs Fairlead and makes a pool that is large enough.
func (b *bench) prepare(ctx context.Context, speakers bool) error {
	args := []string{"install", "--set", "controller.replicas=1"}
	if !speakers {
		args = append(args, "--set", "speaker.nodeSelector.speakers=none")
	}
	if _, err := b.lab.Fairlab(ctx, args...); err != nil {
		return err
	}
	return b.lab.Client.Create(ctx, &v1beta1.IPAddressPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: "bench"},
		Spec:       v1beta1.IPAddressPoolSpec{Addresses: []string{"198.18.0.0/15"}}, // RFC 2544: for benchmarks
	})
}

// running creates the Services beside a running controller.
func (b *bench) running(ctx context.Context) error {
	if err := b.scale(ctx, 1); err != nil {
		return err
	}
	if err := b.lab.Client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		return err
	}
	return b.measure(ctx, "running", func() (time.Time, error) {
		start := time.Now()
		err := b.lab.Flood(ctx, namespace, b.services, nil)
		b.print("running.create-rate", float64(b.services)/time.Since(start).Seconds(), "Services/s")
		return time.Now(), err
	})
}

// starting takes the addresses of the Services away while no controller runs and starts one.
func (b *bench) starting(ctx context.Context) error {
	if err := b.scale(ctx, 0); err != nil {
		return err
	}
	if err := b.clear(ctx); err != nil {
		return err
	}
	return b.measure(ctx, "starting", func() (time.Time, error) {
		start := time.Now()
		return start, b.scale(ctx, 1)
	})
}

// clear makes every Service as if it had just been created.
func (b *bench) clear(ctx context.Context) error {
	var list corev1.ServiceList
	if err := b.lab.Client.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return fmt.Errorf("listing Services: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(32)
	body := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":null},"status":{"conditions":null,"loadBalancer":null}}`))
	for i := range list.Items {
		g.Go(func() error { return b.lab.Client.Status().Patch(ctx, &list.Items[i], body) })
	}
	return g.Wait()
}
