package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"github.com/fairlead-lb/fairlead/internal/explain"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/view"
)

// What is asked of the speakers: how many at a time, and how long each may take. One on a node without power does not answer.
const (
	speakersAtOnce = 16
	speakerTimeout = 3 * time.Second
)

// facts asks the API server, and through it every speaker.
func (o *options) facts(ctx context.Context) (explain.Facts, kube.Objects, error) {
	objects, err := o.objects(ctx)
	if err != nil {
		return explain.Facts{}, nil, err
	}
	f, err := explain.FromObjects(objects, o.kube())
	if err != nil {
		return explain.Facts{}, nil, err
	}
	clients, err := o.clientset()
	if err != nil {
		return explain.Facts{}, nil, err
	}
	nodes := slices.Sorted(maps.Keys(f.Speakers))
	answers := make([]explain.Speaker, len(nodes)) // of each its own goroutine; the map is written when they have ended
	var g errgroup.Group
	g.SetLimit(speakersAtOnce)
	for i, node := range nodes {
		answers[i].Pod = f.Speakers[node].Pod
		g.Go(func() error {
			for path, into := range map[string]any{view.DecisionsPath: &answers[i].Decisions, view.DatapathPath: &answers[i].Datapath} {
				if err := o.ask(ctx, clients, answers[i].Pod, path, into); err != nil {
					answers[i].Error = err.Error()
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return explain.Facts{}, nil, err
	}
	for i, node := range nodes {
		f.Speakers[node] = answers[i]
	}
	return f, objects, nil
}

func (o *options) clientset() (*kubernetes.Clientset, error) {
	cfg, err := o.rest()
	if err != nil {
		return nil, err
	}
	clients, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("setting up the client: %w", err)
	}
	return clients, nil
}

// page reads what a speaker serves at path, through the API server's proxy to pods.
func (o *options) page(ctx context.Context, clients *kubernetes.Clientset, pod, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, speakerTimeout)
	defer cancel()
	text, err := clients.CoreV1().Pods(o.fairlead).ProxyGet("http", pod, strconv.Itoa(o.speakerPort), path, nil).DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking pod %s: %w", pod, err)
	}
	return text, nil
}

func (o *options) ask(ctx context.Context, clients *kubernetes.Clientset, pod, path string, into any) error {
	text, err := o.page(ctx, clients, pod, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("reading the answer of pod %s: %w", pod, err)
	}
	return nil
}
