package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/test/cluster"
	"github.com/fairlead-lb/fairlead/test/probe"
)

// echo is the Service of examples/quickstart.
var echo = types.NamespacedName{Namespace: "default", Name: "echo"}

func (d *demo) cluster(ctx context.Context) error {
	var nodes corev1.NodeList
	if err := d.Client.List(ctx, &nodes); err != nil {
		return err
	}
	var lines []string
	for _, n := range nodes.Items {
		lines = append(lines, fmt.Sprintf("%s %s", n.Name, n.Status.NodeInfo.KubeletVersion))
	}
	d.say("cluster is up", "%s", strings.Join(lines, ", "))
	return nil
}

func (d *demo) install(ctx context.Context) error {
	if _, err := d.Fairlab(ctx, "install"); err != nil {
		return err
	}
	var pods corev1.PodList
	if err := d.Client.List(ctx, &pods, client.InNamespace("fairlead-system")); err != nil {
		return err
	}
	d.say("fairlead installed by Helm", "%d pods ready in fairlead-system", len(pods.Items))
	return nil
}

func (d *demo) quickstart(ctx context.Context) error {
	if err := d.Apply(ctx, filepath.Join(filepath.Dir(d.Bin), "examples", "quickstart")); err != nil {
		return err
	}
	begin := time.Now()
	var svc corev1.Service
	err := cluster.Until(ctx, 30*time.Second, func() error {
		_, err := d.address(ctx, &svc)
		return err
	})
	if err != nil {
		return err
	}
	in := svc.Status.LoadBalancer.Ingress[0]
	d.say("address assigned", "%s from pool %s to Service %s, %d ms after it was applied (ipMode %s)", in.IP,
		svc.Annotations["fairlead.dev/ip-allocated-from-pool"], echo, time.Since(begin).Milliseconds(), *in.IPMode)
	return nil
}

// address reads the Service and returns where its first port is served.
func (d *demo) address(ctx context.Context, svc *corev1.Service) (netip.AddrPort, error) {
	if err := d.Client.Get(ctx, echo, svc); err != nil {
		return netip.AddrPort{}, err
	}
	if len(svc.Status.LoadBalancer.Ingress) == 0 {
		return netip.AddrPort{}, fmt.Errorf("service %s has no address yet", echo)
	}
	addr, err := netip.ParseAddr(svc.Status.LoadBalancer.Ingress[0].IP)
	return netip.AddrPortFrom(addr, uint16(svc.Spec.Ports[0].Port)), err
}

// answering waits until every one of a series of new connections is answered.
func (d *demo) answering(ctx context.Context, target netip.AddrPort) error {
	return cluster.Until(ctx, 60*time.Second, func() error {
		r, err := d.HTTP(ctx, target, "/hostname", 20*time.Millisecond, 400*time.Millisecond)
		if err == nil && r.Failed > 0 {
			err = fmt.Errorf("%d of %d connections to %s failed: %v", r.Failed, r.Attempts, target, r.Errors)
		}
		return err
	})
}

func (d *demo) whoAnswers(ctx context.Context) error {
	var svc corev1.Service
	target, err := d.address(ctx, &svc)
	if err != nil {
		return err
	}
	if err := d.answering(ctx, target); err != nil {
		return err
	}
	node, mac, err := d.OwnerOf(ctx, target.Addr(), d.nodes)
	if err != nil {
		return err
	}
	d.say("announced by ARP", "%s is at %s: that is %s, and nobody else answers", target.Addr(), mac, node)
	r, err := d.HTTP(ctx, target, "/hostname", 5*time.Millisecond, time.Second)
	if err != nil {
		return err
	}
	if len(r.Answers) != 3 || r.Failed > 0 {
		return fmt.Errorf("expected answers from three pods and no failure, got %+v", r)
	}
	d.say("answered by three pods", "%d connections: %s", r.OK, counts(r))
	return nil
}

func counts(r probe.Report) string {
	var parts []string
	for _, who := range slices.Sorted(maps.Keys(r.Answers)) {
		parts = append(parts, fmt.Sprintf("%s %d", who, r.Answers[who]))
	}
	return strings.Join(parts, ", ")
}

// policies shows what the pods take for the client's address under both external traffic policies.
func (d *demo) policies(ctx context.Context) error {
	for _, policy := range []corev1.ServiceExternalTrafficPolicy{corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal} {
		var svc corev1.Service
		target, err := d.address(ctx, &svc)
		if err != nil {
			return err
		}
		patch := fmt.Sprintf(`{"spec":{"externalTrafficPolicy":%q}}`, policy)
		if err := d.Client.Patch(ctx, &svc, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
			return err
		}
		var seen []string
		err = cluster.Until(ctx, 30*time.Second, func() error {
			r, err := d.HTTP(ctx, target, "/clientip", 20*time.Millisecond, 400*time.Millisecond)
			if err != nil {
				return err
			}
			seen = r.Clients()
			kept := slices.Equal(seen, []string{"192.0.2.100"})
			if r.Failed > 0 || kept != (policy == corev1.ServiceExternalTrafficPolicyLocal) {
				return fmt.Errorf("policy %s: pods saw clients %v, %d failures", policy, seen, r.Failed)
			}
			return nil
		})
		if err != nil {
			return err
		}
		d.say("policy "+string(policy), "the client is 192.0.2.100, the pods saw %s", strings.Join(seen, ", "))
	}
	return nil
}

func (d *demo) powerOff(ctx context.Context) error {
	var svc corev1.Service
	target, err := d.address(ctx, &svc)
	if err != nil {
		return err
	}
	owner, _, err := d.OwnerOf(ctx, target.Addr(), d.nodes)
	if err != nil {
		return err
	}
	type result struct {
		probe.Report
		error
	}
	done := make(chan result, 1)
	go func() {
		r, err := d.HTTP(ctx, target, "/hostname", 5*time.Millisecond, 8*time.Second*cluster.Slow())
		done <- result{r, err}
	}()
	time.Sleep(2 * time.Second) // let the client see the address work before it breaks
	if _, err := d.Fairlab(ctx, "node", "poweroff", owner); err != nil {
		return err
	}
	d.say("power cut on "+owner, "every process killed, its links down; a client opens a connection every 5 ms")
	r := <-done
	if r.error != nil {
		return r.error
	}
	heir, mac, err := d.OwnerOf(ctx, target.Addr(), d.nodes)
	if err != nil {
		return err
	}
	d.say("outage", "%.0f ms without an answer; now %s (%s) answers; %d connections, %d failed", r.LongestGap, heir, mac, r.Attempts, r.Failed)
	return d.answering(ctx, target)
}
