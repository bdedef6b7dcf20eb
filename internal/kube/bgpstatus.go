package kube

import (
	"context"
	"errors"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

// writeBGP says on the objects of BGP, in all namespaces, whether they are in force. How sessions are is the speakers' to say, and
// whether there is a password: no Secret of a peer can be read here.
func (c *Cluster) writeBGP(ctx context.Context) error {
	var peers v1beta1.BGPPeerList
	var advertisements v1beta1.BGPAdvertisementList
	var profiles v1beta1.BFDProfileList
	var communities v1beta1.CommunityList
	for _, list := range []client.ObjectList{&peers, &advertisements, &profiles, &communities} {
		if err := c.cached.client.List(ctx, list); err != nil {
			return fmt.Errorf("listing %T: %w", list, err)
		}
	}
	var here v1beta1.CommunityList
	for _, one := range communities.Items {
		if one.Namespace == c.opts.Namespace {
			here.Items = append(here.Items, one)
		}
	}
	aliases, refusals := Aliases(&here)
	known := map[string]lb.BFDProfile{}
	var errs []error
	for i := range profiles.Items {
		p := &profiles.Items[i]
		parsed, refusal := BFDProfile(p)
		if p.Namespace == c.opts.Namespace {
			known[p.Name] = parsed
		}
		errs = append(errs, c.writeReady(ctx, p, &p.Status.Conditions, refusal, func() any { return p.Status }))
	}
	for i := range communities.Items {
		o := &communities.Items[i]
		errs = append(errs, c.writeReady(ctx, o, &o.Status.Conditions, refusals[o.Name], func() any { return o.Status }))
	}
	for i := range advertisements.Items {
		a := &advertisements.Items[i]
		_, refusal := BGPAdvertisement(a, aliases)
		errs = append(errs, c.writeReady(ctx, a, &a.Status.Conditions, refusal, func() any { return a.Status }))
	}
	for i := range peers.Items {
		p := &peers.Items[i]
		_, refusal := BGPPeer(p, known)
		errs = append(errs, c.writeReady(ctx, p, &p.Status.Conditions, refusal, func() any { return p.Status }))
	}
	return errors.Join(errs...)
}
