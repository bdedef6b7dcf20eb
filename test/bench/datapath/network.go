package main

import (
	"context"
	"fmt"
	"os/exec"
)

// The addresses of the bench.
const (
	nodeAddr = "192.0.2.11"
	podAddr  = "10.244.0.1" // of the first endpoint of the first Service; the other four follow
)

const topology = `
set -e
mount --make-rprivate /
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
ip link set lo up
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
for ns in client pod; do ip netns add $ns; ip -n $ns link set lo up; done
sysctl -qw net.ipv4.ip_local_port_range="1024 65000"
ip netns exec client sysctl -qw net.ipv4.ip_local_port_range="1024 65000" net.ipv4.tcp_tw_reuse=1
ip link add eth0 type veth peer name eth0 netns client
ip addr add 192.0.2.11/24 dev eth0; ip link set eth0 up
ip -n client addr add 192.0.2.100/24 dev eth0; ip -n client link set eth0 up; ip -n client route add default via 192.0.2.11
ip link add pod type veth peer name eth0 netns pod
ip addr add 10.244.0.254/24 dev pod; ip link set pod up
for i in 1 2 3 4 5; do ip -n pod addr add 10.244.0.$i/24 dev eth0; done
ip -n pod link set eth0 up; ip -n pod route add default via 10.244.0.254
ip route add 10.244.0.0/16 dev pod
ip route add default via 192.0.2.1
`

func buildNetwork(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "bash", "-c", topology).CombinedOutput()
	if err != nil {
		return fmt.Errorf("building the network: %w\n%s", err, out)
	}
	return serve()
}
