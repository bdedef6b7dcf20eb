package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/lb"
)

// AnnotationPrefix begins the names of our annotations.
const AnnotationPrefix = "fairlead.dev/"

// AnnotationQuota, after the prefix, is set on a Namespace: how many addresses of all pools together its Services may own.
const AnnotationQuota = "max-addresses"

// maxPerFamily is the highest value of AnnotationPerFamily, and how many addresses of a family may be named.
const maxPerFamily = 16

// The annotations of a Service, after the prefix. The last is an output, the others are wishes. That for a release is taken
// away when it is fulfilled.
const (
	AnnotationPool       = "address-pool"
	AnnotationAddresses  = "loadBalancerIPs"
	AnnotationSharing    = "allow-shared-ip"
	AnnotationPerFamily  = "addresses-per-family"
	AnnotationRelease    = "release"
	AnnotationScheduler  = "scheduler"  // for the datapath, whosever Service it is
	AnnotationForwarding = "forwarding" // for the datapath
	AnnotationFromPool   = "ip-allocated-from-pool"
)

// prefixes lists ours first: it wins where an older name says something else.
func prefixes() []string { return []string{AnnotationPrefix, "metallb.io/", "metallb.universe.tf/"} }

// annotation returns the value of the annotation called name under ours or an older prefix. Two that contradict each other
// are refused; the value that counts meanwhile is ours.
func annotation(s *corev1.Service, name string) (string, lb.Refusal) {
	value, from := "", ""
	for _, prefix := range prefixes() {
		v, ok := s.Annotations[prefix+name]
		switch {
		case !ok:
		case from == "":
			value, from = v, prefix+name
		case v != value:
			return value, badRequest("annotation %s is %q but %s is %q; delete the second", from, value, prefix+name, v)
		}
	}
	return value, lb.Refusal{}
}

func badRequest(format string, args ...any) lb.Refusal {
	return lb.Refusal{Reason: lb.BadRequest, Message: fmt.Sprintf(format, args...)}
}

// release reports whether the Service is to move. MetalLB has no such annotation, so that only ours counts.
func release(s *corev1.Service) (bool, lb.Refusal) {
	const name = AnnotationPrefix + AnnotationRelease
	switch value := s.Annotations[name]; value {
	case "true":
		return true, lb.Refusal{}
	case "", "false":
		return false, lb.Refusal{}
	default:
		return false, badRequest("annotation %s is %q; write \"true\" to have new addresses, or delete it", name, value)
	}
}

// perFamily returns how many addresses of each family the Service asks for, 0 if it does not say. MetalLB has no such annotation, so that only
// ours counts.
func perFamily(s *corev1.Service) (int, lb.Refusal) {
	const name = AnnotationPrefix + AnnotationPerFamily
	value, ok := s.Annotations[name]
	if !ok {
		return 0, lb.Refusal{}
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > maxPerFamily {
		return 0, badRequest("annotation %s is %q; write a number from 1 to %d, or delete it", name, value, maxPerFamily)
	}
	return n, lb.Refusal{}
}

// Quota returns how many addresses the Services of the namespace may own together, which is otherwise where the Namespace
// does not say, or not readably; the refusal says the latter.
func Quota(ns *corev1.Namespace, otherwise int) (lb.Quota, lb.Refusal) {
	const name, flag = AnnotationPrefix + AnnotationQuota, "--max-addresses-per-namespace of lbcontroller"
	value, ok := ns.Annotations[name]
	if !ok {
		return lb.Quota{Max: otherwise, Source: fmt.Sprintf("annotation %s of the Namespace, which overrides %s", name, flag)}, lb.Refusal{}
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 {
		problem := fmt.Sprintf("is %q, not a number from 0 (no quota) up, so that %s counts", value, flag)
		return lb.Quota{Max: otherwise, Source: fmt.Sprintf("annotation %s of the Namespace, which %s", name, problem)},
			lb.Refusal{Reason: lb.BadRequest, Message: fmt.Sprintf("annotation %s %s", name, problem)}
	}
	return lb.Quota{Max: n, Source: fmt.Sprintf("annotation %s of the Namespace", name)}, lb.Refusal{}
}

// requestedAddrs returns the addresses that the Service asks for, by annotation or by spec.loadBalancerIP.
func requestedAddrs(s *corev1.Service) ([]netip.Addr, lb.Refusal) {
	value, refusal := annotation(s, AnnotationAddresses)
	if !refusal.OK() {
		return nil, refusal
	}
	fromAnnotation, refusal := parseAddrs("annotation "+AnnotationPrefix+AnnotationAddresses, value)
	if !refusal.OK() {
		return nil, refusal
	}
	fromSpec, refusal := parseAddrs("spec.loadBalancerIP", s.Spec.LoadBalancerIP)
	switch {
	case !refusal.OK():
		return nil, refusal
	case len(fromAnnotation) == 0:
		return fromSpec, lb.Refusal{}
	case len(fromSpec) > 0 && !slices.Equal(fromSpec, fromAnnotation):
		return nil, badRequest("annotation %s is %q but spec.loadBalancerIP is %q; keep one of them",
			AnnotationPrefix+AnnotationAddresses, value, s.Spec.LoadBalancerIP)
	}
	return fromAnnotation, lb.Refusal{}
}

// parseAddrs reads a comma-separated list of addresses; an empty one is no request.
func parseAddrs(field, value string) ([]netip.Addr, lb.Refusal) {
	if strings.TrimSpace(value) == "" {
		return nil, lb.Refusal{}
	}
	var out []netip.Addr
	for item := range strings.SplitSeq(value, ",") {
		addr, err := netip.ParseAddr(strings.TrimSpace(item))
		switch {
		case err != nil || addr.Zone() != "" || addr.Is4In6():
			return nil, badRequest("%s is %q: %q is not an IP address; write addresses separated by commas", field, value, strings.TrimSpace(item))
		case slices.Contains(out, addr):
			return nil, badRequest("%s is %q: %s is listed twice; delete one", field, value, addr)
		}
		out = append(out, addr)
		if n := lb.CountOf(out, lb.FamilyOf(addr)); n > maxPerFamily {
			return nil, badRequest("%s lists %d %s addresses; list %d at most", field, n, lb.FamilyOf(addr), maxPerFamily)
		}
	}
	return out, lb.Refusal{}
}
