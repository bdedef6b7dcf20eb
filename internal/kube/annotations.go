package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/lb"
)

// AnnotationPrefix begins the names of our annotations.
const AnnotationPrefix = "fairlead.dev/"

// The annotations of a Service, after the prefix. The last is an output, the others are wishes. That for a release is taken
// away when it is fulfilled.
const (
	AnnotationPool      = "address-pool"
	AnnotationAddresses = "loadBalancerIPs"
	AnnotationSharing   = "allow-shared-ip"
	AnnotationRelease   = "release"
	AnnotationFromPool  = "ip-allocated-from-pool"
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
	}
	return out, lb.Refusal{}
}
