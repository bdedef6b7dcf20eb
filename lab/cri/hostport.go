package cri

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// hostPort is a port of the node that leads to a pod.
type hostPort struct {
	sandbox  string
	protocol string       // tcp, udp or sctp
	address  netip.Addr   // of the node; the unspecified one means all
	port     int32        // of the node
	to       []netip.Addr // the pod's addresses, at most one per family
	toPort   int32
}

// hostPortsOf returns the host ports that a pod asks for.
func hostPortsOf(sandbox string, mappings []*runtimeapi.PortMapping, addrs []netip.Addr) ([]hostPort, error) {
	var ports []hostPort
	for _, m := range mappings {
		if m.GetHostPort() == 0 {
			continue
		}
		p := hostPort{sandbox: sandbox, protocol: strings.ToLower(m.GetProtocol().String()), address: netip.IPv4Unspecified(),
			port: m.GetHostPort(), to: addrs, toPort: m.GetContainerPort()}
		if text := m.GetHostIp(); text != "" {
			var err error
			if p.address, err = netip.ParseAddr(text); err != nil {
				return nil, fmt.Errorf("hostIP of port %d: %w", p.port, err)
			}
		}
		ports = append(ports, p)
	}
	return ports, nil
}

// hostPortTable is what nft reads. The priorities are one before kube-proxy's, as those of the CNI plugin portmap are.
func hostPortTable(ports []hostPort) string {
	var b strings.Builder
	b.WriteString("add table inet fairlab-hostports\ndelete table inet fairlab-hostports\n")
	if len(ports) == 0 {
		return b.String()
	}
	b.WriteString("table inet fairlab-hostports {\n\tchain ports {\n")
	for _, p := range ports {
		for _, to := range p.to {
			if !p.address.IsUnspecified() && p.address.Is4() != to.Is4() {
				continue
			}
			where := "meta nfproto " + nfproto(to) + " fib daddr type local"
			if !p.address.IsUnspecified() {
				where = family(to) + " daddr " + p.address.String()
			}
			fmt.Fprintf(&b, "\t\t%s %s dport %d dnat %s to %s\n", where, p.protocol, p.port, family(to), netip.AddrPortFrom(to, uint16(p.toPort)))
		}
	}
	b.WriteString("\t}\n\tchain prerouting { type nat hook prerouting priority -101; jump ports; }\n")
	b.WriteString("\tchain output { type nat hook output priority -101; jump ports; }\n")
	b.WriteString("\tchain postrouting {\n\t\ttype nat hook postrouting priority 99\n\t\tip saddr 127.0.0.0/8 oif != lo masquerade\n")
	for _, p := range ports { // a pod that comes to itself
		for _, to := range p.to {
			fmt.Fprintf(&b, "\t\t%[1]s saddr %[2]s %[1]s daddr %[2]s masquerade\n", family(to), to)
		}
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}

func nfproto(a netip.Addr) string {
	if a.Is6() {
		return "ipv6"
	}
	return "ipv4"
}

// family is nft's name for that of an address.
func family(a netip.Addr) string {
	if a.Is6() {
		return "ip6"
	}
	return "ip"
}

// expose makes ports lead to a pod, until conceal.
func (n *network) expose(ports []hostPort) error {
	if len(ports) == 0 {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := setSysctls("net.ipv4.conf.all.route_localnet=1"); err != nil { // 127.0.0.1 is an address of the node too
		return err
	}
	before := n.ports
	n.ports = append(slices.Clip(n.ports), ports...)
	if err := writeHostPorts(n.ports); err != nil {
		n.ports = before
		return errors.Join(err, writeHostPorts(before))
	}
	return nil
}

// conceal takes a pod's host ports away.
func (n *network) conceal(sandbox string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	rest := slices.DeleteFunc(slices.Clone(n.ports), func(p hostPort) bool { return p.sandbox == sandbox })
	if len(rest) == len(n.ports) {
		return nil
	}
	n.ports = rest
	return writeHostPorts(rest)
}

func writeHostPorts(ports []hostPort) error {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(hostPortTable(ports))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("writing host ports: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
