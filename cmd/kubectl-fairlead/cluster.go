package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/manifest"
	"github.com/fairlead-lb/fairlead/internal/migrate"
)

// page is how many objects are asked for at a time.
const page = 500

// objects reads everything that matters to Fairlead from the API server, but no Secrets.
func (o *options) objects(ctx context.Context) (kube.Objects, error) {
	cfg, err := o.rest()
	if err != nil {
		return nil, err
	}
	c, err := kube.NewClient(cfg)
	if err != nil {
		return nil, err
	}
	here := client.InNamespace(o.fairlead)
	var out kube.Objects
	for _, ask := range []struct {
		list client.ObjectList
		opts []client.ListOption
	}{
		{&v1beta1.IPAddressPoolList{}, []client.ListOption{here}},
		{&v1beta1.L2AdvertisementList{}, []client.ListOption{here}},
		{&v1beta1.BGPAdvertisementList{}, []client.ListOption{here}},
		{&v1beta1.BGPPeerList{}, []client.ListOption{here}},
		{&v1beta1.BFDProfileList{}, []client.ListOption{here}},
		{&v1beta1.CommunityList{}, []client.ListOption{here}},
		{&v1beta1.SpeakerStatusList{}, []client.ListOption{here}},
		{&corev1.ServiceList{}, nil},
		{&corev1.NamespaceList{}, nil},
		{&corev1.NodeList{}, nil},
		{&discoveryv1.EndpointSliceList{}, nil},
		{&corev1.PodList{}, []client.ListOption{here}},
		{&networkingv1.ServiceCIDRList{}, nil},
	} {
		found, err := list(ctx, c, ask.list, ask.opts)
		switch _, cidrs := ask.list.(*networkingv1.ServiceCIDRList); {
		case err != nil && cidrs && (apierrors.IsNotFound(err) || apierrors.IsForbidden(err)):
			continue // Kubernetes before 1.33 has none
		case apierrors.IsNotFound(err):
			return nil, fmt.Errorf("%w; is Fairlead installed? Its CRDs come with the chart", err)
		case err != nil:
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

func list(ctx context.Context, c client.Client, into client.ObjectList, opts []client.ListOption) (kube.Objects, error) {
	var out kube.Objects
	for {
		if err := c.List(ctx, into, append(opts, client.Limit(page), client.Continue(into.GetContinue()))...); err != nil {
			return nil, fmt.Errorf("listing %s: %w", strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", into), "*"), "List"), err)
		}
		items, err := meta.ExtractList(into)
		if err != nil {
			return nil, fmt.Errorf("listing %T: %w", into, err)
		}
		for _, item := range items {
			out = append(out, item.(client.Object))
		}
		if into.GetContinue() == "" {
			return out, nil
		}
	}
}

// metallb reads the objects of MetalLB, each in the newest version that is served, its ConfigMaps, and all Services.
func (o *options) metallb(ctx context.Context, namespace string) ([]manifest.Object, error) {
	cfg, err := o.rest()
	if err != nil {
		return nil, err
	}
	groups, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("setting up the client: %w", err)
	}
	c, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("setting up the client: %w", err)
	}
	kinds, err := served(groups)
	if err != nil {
		return nil, err
	}
	var out []manifest.Object
	for _, kind := range append(kinds, schema.GroupVersionResource{Version: "v1", Resource: "services"}) {
		if out, err = appendAll(ctx, out, c.Resource(kind), kind); err != nil {
			return nil, err
		}
	}
	maps := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	for _, name := range []string{"config", "bgpextras", "metallb-excludel2"} {
		m, err := c.Resource(maps).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("getting ConfigMap %s/%s: %w", namespace, name, err)
		}
		out = append(out, manifest.Object{Unstructured: *m})
	}
	return out, nil
}

// served returns the resources of MetalLB's group, each in the version that the API server names first: the newest.
func served(d discovery.DiscoveryInterface) ([]schema.GroupVersionResource, error) {
	groups, err := d.ServerGroups()
	if err != nil {
		return nil, fmt.Errorf("listing API groups: %w", err)
	}
	var out []schema.GroupVersionResource
	for _, g := range groups.Groups {
		for _, v := range g.Versions {
			if g.Name != migrate.Group {
				continue
			}
			resources, err := d.ServerResourcesForGroupVersion(v.GroupVersion)
			if err != nil {
				return nil, fmt.Errorf("listing resources of %s: %w", v.GroupVersion, err)
			}
			for _, r := range resources.APIResources {
				known := slices.ContainsFunc(out, func(o schema.GroupVersionResource) bool { return o.Resource == r.Name })
				if !known && !strings.Contains(r.Name, "/") {
					out = append(out, schema.GroupVersionResource{Group: g.Name, Version: v.Version, Resource: r.Name})
				}
			}
		}
	}
	return out, nil
}

func appendAll(ctx context.Context, out []manifest.Object, c dynamic.ResourceInterface, kind schema.GroupVersionResource) ([]manifest.Object, error) {
	for next := ""; ; {
		list, err := c.List(ctx, metav1.ListOptions{Limit: page, Continue: next})
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", kind.Resource, err)
		}
		for _, item := range list.Items {
			out = append(out, manifest.Object{Unstructured: item})
		}
		if next = list.GetContinue(); next == "" {
			return out, nil
		}
	}
}
