package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/fairlead-lb/fairlead/internal/explain"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/survey"
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
	f, err := explain.Read(ctx, objects, o.kube())
	if err != nil {
		return explain.Facts{}, nil, err
	}
	clients, err := o.clientset()
	if err != nil {
		return explain.Facts{}, nil, err
	}
	get := func(ctx context.Context, s explain.Speaker, path string) ([]byte, error) {
		return o.page(ctx, clients, s.Pod, path)
	}
	survey.Ask(ctx, &f, get, speakersAtOnce, view.DecisionsPath, view.DatapathPath)
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
