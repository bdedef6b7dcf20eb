package cri

import (
	"net/netip"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestHostPortTable(t *testing.T) {
	addrs := []netip.Addr{netip.MustParseAddr("10.244.1.2"), netip.MustParseAddr("fd00::2")}
	ports, err := hostPortsOf("s", []*runtimeapi.PortMapping{
		{ContainerPort: 80},
		{HostPort: 8080, ContainerPort: 80},
		{HostPort: 53, ContainerPort: 5353, Protocol: runtimeapi.Protocol_UDP, HostIp: "127.0.0.1"},
	}, addrs)
	if err != nil {
		t.Fatal(err)
	}
	table := hostPortTable(ports)
	for _, want := range []string{
		"meta nfproto ipv4 fib daddr type local tcp dport 8080 dnat ip to 10.244.1.2:80\n",
		"meta nfproto ipv6 fib daddr type local tcp dport 8080 dnat ip6 to [fd00::2]:80\n",
		"ip daddr 127.0.0.1 udp dport 53 dnat ip to 10.244.1.2:5353\n",
	} {
		if strings.Count(table, want) != 1 {
			t.Errorf("%q is not there once:\n%s", want, table)
		}
	}
	if n := strings.Count(table, "dnat"); n != 3 {
		t.Errorf("%d rules, want 3:\n%s", n, table)
	}
	if table := hostPortTable(nil); strings.Contains(table, "chain") {
		t.Errorf("without ports:\n%s", table)
	}
	if _, err := hostPortsOf("s", []*runtimeapi.PortMapping{{HostPort: 1, HostIp: "x"}}, addrs); err == nil {
		t.Error("hostIP x was accepted")
	}
}
