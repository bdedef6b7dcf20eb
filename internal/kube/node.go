package kube

import (
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/lb"
)

// autoscalerTaint marks a node that the cluster autoscaler is about to remove.
const autoscalerTaint = "ToBeDeletedByClusterAutoscaler"

// Node converts n.
func Node(n *corev1.Node) lb.Node {
	out := lb.Node{
		Name:     lb.NodeName(n.Name),
		Labels:   n.Labels,
		Excluded: excluded(n.Labels),
		Deleting: n.DeletionTimestamp != nil || slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == autoscalerTaint }),
		Cordoned: n.Spec.Unschedulable,
	}
	for _, text := range n.Spec.PodCIDRs {
		if p, err := netip.ParsePrefix(text); err == nil {
			out.PodCIDRs = append(out.PodCIDRs, p.Masked())
		}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable {
			out.NetworkUnavailable = c.Status == corev1.ConditionTrue
		}
	}
	for _, a := range n.Status.Addresses {
		if addr, ok := parseSloppy(a.Address); ok && a.Type == corev1.NodeInternalIP {
			out.Addrs = append(out.Addrs, addr)
		}
	}
	return out
}

// excluded reads the label as H11 says: "false" keeps the node, an empty or unreadable value excludes it.
func excluded(labels map[string]string) bool {
	value, ok := labels[corev1.LabelNodeExcludeBalancers]
	if !ok {
		return false
	}
	exclude, err := strconv.ParseBool(value)
	return err != nil || exclude
}
