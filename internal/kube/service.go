package kube

import (
	"net/netip"
	"strings"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	netutils "k8s.io/utils/net"

	"github.com/fairlead-lb/fairlead/lb"
)

// Service converts s, which must be one of [Options.Ours]. A refusal, always BadRequest, means that some wish in it could
// not be read; the rest of the Service is converted all the same, so that the addresses it has are served on.
func Service(s *corev1.Service, namespaceLabels map[string]string) (lb.Service, lb.Refusal) {
	out := served(s)
	out.UID = string(s.UID)
	out.Labels, out.NamespaceLabels = s.Labels, namespaceLabels
	out.FamilyPolicy = lb.SingleStack
	out.Selector = labels.Set(s.Spec.Selector).String()
	if s.Spec.IPFamilyPolicy != nil {
		out.FamilyPolicy = lb.FamilyPolicy(*s.Spec.IPFamilyPolicy)
	}
	var refusals [5]lb.Refusal
	out.RequestedAddrs, refusals[0] = requestedAddrs(s)
	out.RequestedPool, refusals[1] = annotation(s, AnnotationPool)
	out.SharingKey, refusals[2] = annotation(s, AnnotationSharing)
	out.Release, refusals[3] = release(s)
	out.PerFamily, refusals[4] = perFamily(s)
	out.Pool = s.Annotations[AnnotationPrefix+AnnotationFromPool]
	if out.Pool == "" { // what MetalLB wrote is a report of the past, not a wish: it can contradict nothing
		out.Pool, _ = annotation(s, AnnotationFromPool)
	}
	for _, r := range refusals {
		if !r.OK() {
			return out, r
		}
	}
	return out, lb.Refusal{}
}

// served returns what forwarding needs to know of s, whosever it is.
func served(s *corev1.Service) lb.Service {
	out := lb.Service{
		Key:                   lb.ServiceKey{Namespace: s.Namespace, Name: s.Name},
		Families:              families(s),
		ExternalTrafficPolicy: lb.Cluster,
		InternalTrafficPolicy: lb.Cluster,
		SessionAffinity:       affinity(s),
		SourceRanges:          sourceRanges(s),
		Ingress:               ingress(s),
		Scheduler:             s.Annotations[AnnotationPrefix+AnnotationScheduler],
		Forwarding:            lb.Method(s.Annotations[AnnotationPrefix+AnnotationForwarding]),
	}
	if s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		out.ExternalTrafficPolicy = lb.Local
		if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
			out.HealthCheckNodePort = uint16(s.Spec.HealthCheckNodePort)
		}
	}
	if p := s.Spec.InternalTrafficPolicy; p != nil && *p == corev1.ServiceInternalTrafficPolicyLocal {
		out.InternalTrafficPolicy = lb.Local
	}
	for _, p := range s.Spec.Ports {
		out.Ports = append(out.Ports, lb.Port{Name: intern(p.Name), Protocol: protocol(p.Protocol), Port: uint16(p.Port), NodePort: uint16(p.NodePort)})
	}
	return out
}

// reach adds where s is reached besides the addresses in its status. One that another proxy serves is reached by us nowhere.
func reach(s *corev1.Service, out *lb.Service) {
	if !Forwarded(s) {
		return
	}
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 { // a very old object
		ips = []string{s.Spec.ClusterIP}
	}
	for _, list := range []struct {
		from []string
		to   *[]netip.Addr
	}{{ips, &out.ClusterIPs}, {s.Spec.ExternalIPs, &out.ExternalIPs}} {
		for _, ip := range list.from {
			if addr, ok := parseSloppy(ip); ok {
				*list.to = append(*list.to, addr)
			}
		}
	}
}

// families returns spec.ipFamilies; where a very old object has none, the families of its cluster IPs.
func families(s *corev1.Service) []lb.Family {
	var out []lb.Family
	for _, f := range s.Spec.IPFamilies {
		if f == corev1.IPv6Protocol {
			out = append(out, lb.IPv6)
		} else {
			out = append(out, lb.IPv4)
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, ip := range s.Spec.ClusterIPs {
		if addr, ok := parseSloppy(ip); ok {
			out = append(out, lb.FamilyOf(addr))
		}
	}
	return out
}

func affinity(s *corev1.Service) time.Duration {
	if s.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		return time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
	}
	return time.Duration(corev1.DefaultClientIPServiceAffinitySeconds) * time.Second
}

// sourceRanges returns spec.loadBalancerSourceRanges. The API server has validated them, with the leading zeros that it
// once allowed.
func sourceRanges(s *corev1.Service) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range s.Spec.LoadBalancerSourceRanges {
		_, cidr, err := netutils.ParseCIDRSloppy(strings.TrimSpace(text))
		if err != nil {
			continue
		}
		addr, _ := netip.AddrFromSlice(cidr.IP)
		bits, _ := cidr.Mask.Size()
		out = append(out, netip.PrefixFrom(addr.Unmap(), bits))
	}
	return out
}

// ingress returns the addresses in the status; an absent ipMode is VIP, entries without an ip do not concern us (S44).
func ingress(s *corev1.Service) []lb.Ingress {
	var out []lb.Ingress
	for _, in := range s.Status.LoadBalancer.Ingress {
		addr, ok := parseSloppy(in.IP)
		if !ok {
			continue
		}
		mode := lb.ModeVIP
		if in.IPMode != nil && *in.IPMode == corev1.LoadBalancerIPModeProxy {
			mode = lb.ModeProxy
		}
		out = append(out, lb.Ingress{Addr: addr, Mode: mode})
	}
	return out
}

func parseSloppy(text string) (netip.Addr, bool) {
	addr, ok := netip.AddrFromSlice(netutils.ParseIPSloppy(text))
	return addr.Unmap(), ok
}

func protocol(p corev1.Protocol) lb.Protocol {
	switch p {
	case "", corev1.ProtocolTCP:
		return lb.TCP
	case corev1.ProtocolUDP:
		return lb.UDP
	}
	return lb.Protocol(p)
}

// intern returns s in memory that equal strings share: names of nodes, zones and ports come again tens of thousands of times.
func intern(s string) string { return unique.Make(s).Value() }
