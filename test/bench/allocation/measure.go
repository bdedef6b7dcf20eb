package main

import (
	"context"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/test/cluster"
)

// patience is how long all Services may take to get their addresses after the last was created.
const patience = 5 * time.Minute

type bench struct {
	lab      *cluster.Lab
	services int
	quiet    time.Duration
}

func (b *bench) print(name string, value float64, unit string) {
	fmt.Printf("allocation.%d.%s %.3g %s\n", b.services, name, value, unit)
}

// measure lets begin bring about Services that want an address, waits until they have, and prints under name what that cost.
// Begin returns the time from which the wait counts.
func (b *bench) measure(ctx context.Context, name string, begin func() (time.Time, error)) error {
	history, err := b.lab.Watch(ctx, namespace)
	if err != nil {
		return err
	}
	before, err := b.statusWrites(ctx)
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	peak := b.peak(watching)
	defer func() { stop(); <-peak }()
	start, err := begin()
	if err != nil {
		return err
	}
	err = cluster.Until(ctx, patience, func() error {
		if got := history.Served(); got < b.services {
			return fmt.Errorf("%d of %d Services have an address", got, b.services)
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.print(name+".last-address", max(0, history.LastChange().Sub(start).Seconds()), "s")
	if err := b.after(ctx, name, history, before); err != nil {
		return err
	}
	stop()
	b.print(name+".rss-max", <-peak, "MiB")
	return nil
}

// after looks at the controller when all is done.
func (b *bench) after(ctx context.Context, name string, history *cluster.History, before int) error {
	time.Sleep(2 * time.Second) // the last pool status
	done, err := b.metrics(ctx)
	if err != nil {
		return err
	}
	b.print(name+".cpu", cluster.Sum(done, "process_cpu_seconds_total"), "s")
	b.print(name+".queue-to-written-mean", 1000*cluster.Sum(done, "fairlead_allocation_duration_seconds_sum")/cluster.Sum(done, "fairlead_allocation_duration_seconds_count"), "ms")
	time.Sleep(b.quiet)
	later, err := b.metrics(ctx)
	if err != nil {
		return err
	}
	writes, err := b.statusWrites(ctx)
	if err != nil {
		return err
	}
	minutes := b.quiet.Minutes()
	diff := func(metric string, labels ...string) float64 {
		return cluster.Sum(later, metric, labels...) - cluster.Sum(done, metric, labels...)
	}
	b.print(name+".writes-per-service", float64(writes-before)/float64(b.services), "writes")
	b.print(name+".afterwards-cpu", diff("process_cpu_seconds_total")/minutes, "s/min")
	b.print(name+".afterwards-patches", diff("rest_client_requests_total", `method="PATCH"`)/minutes, "per-min")
	b.print(name+".afterwards-events", diff("rest_client_requests_total", `method="POST"`)/minutes, "per-min")
	b.print(name+".events-dropped", cluster.Sum(later, "fairlead_events_dropped_total"), "Events")
	b.print(name+".outdated", cluster.Sum(later, "fairlead_allocation_outdated_total"), "decisions")
	b.print(name+".rss-after", cluster.Sum(later, "process_resident_memory_bytes")/(1<<20), "MiB")
	return history.Check(true)
}

// statusWrites is how many status writes of Services the API server has been asked for, refused ones included.
func (b *bench) statusWrites(ctx context.Context) (int, error) {
	return b.lab.Requests(ctx, `resource="services"`, `subresource="status"`, `verb="PATCH"`)
}

// peak samples the controller's memory until ctx ends and sends the most that it saw, in MiB.
func (b *bench) peak(ctx context.Context) <-chan float64 {
	out := make(chan float64, 1)
	go func() {
		most := 0.0
		for ctx.Err() == nil {
			if text, err := b.metrics(ctx); err == nil { // none while no controller runs
				most = max(most, cluster.Sum(text, "process_resident_memory_bytes")/(1<<20))
			}
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
			}
		}
		out <- most
		close(out)
	}()
	return out
}

var controllerLabels = client.MatchingLabels{"app.kubernetes.io/name": "fairlead", "app.kubernetes.io/component": "controller"}

// metrics reads the controller's metrics from its node.
func (b *bench) metrics(ctx context.Context) (string, error) {
	var pods corev1.PodList
	if err := b.lab.Client.List(ctx, &pods, client.InNamespace("fairlead-system"), controllerLabels); err != nil {
		return "", fmt.Errorf("finding the controller: %w", err)
	}
	for _, p := range pods.Items {
		if p.DeletionTimestamp == nil && p.Status.PodIP != "" {
			return b.lab.Exec(ctx, p.Spec.NodeName, "curl", "-fsS", "-m", "10", "http://"+p.Status.PodIP+":9380/metrics")
		}
	}
	return "", fmt.Errorf("no controller runs")
}

// scale sets the number of controllers and waits until so many are ready and the others gone.
func (b *bench) scale(ctx context.Context, replicas int) error {
	start := time.Now()
	_, err := b.lab.Fairlab(ctx, "kubectl", "-n", "fairlead-system", "scale", "deployment/fairlead-controller", fmt.Sprintf("--replicas=%d", replicas))
	if err != nil {
		return err
	}
	err = cluster.Until(ctx, patience, func() error {
		var pods corev1.PodList
		if err := b.lab.Client.List(ctx, &pods, client.InNamespace("fairlead-system"), controllerLabels); err != nil {
			return err
		}
		ready := 0
		for _, p := range pods.Items {
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
					ready++
				}
			}
		}
		if ready != replicas || len(pods.Items) != replicas {
			return fmt.Errorf("%d of %d controllers are ready", ready, len(pods.Items))
		}
		return nil
	})
	fmt.Fprintf(os.Stderr, "%d controllers after %.1f s\n", replicas, time.Since(start).Seconds())
	return err
}
