package main

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/lab/config"
	"github.com/fairlead-lb/fairlead/lab/control"
	"github.com/fairlead-lb/fairlead/lab/enter"
	"github.com/fairlead-lb/fairlead/lab/topology"
)

func TestSplit(t *testing.T) {
	tests := []struct {
		args        []string
		rest        []string
		name, state string
		ok          bool
	}{
		{[]string{"get", "pods"}, []string{"get", "pods"}, "lab", "/s", true},
		{[]string{"--name", "x", "get", "--name", "y"}, []string{"get", "--name", "y"}, "x", "/s", true},
		{[]string{"--state=/t", "--name=x", "-n", "default"}, []string{"-n", "default"}, "x", "/t", true},
		{[]string{"--namespace", "x"}, []string{"--namespace", "x"}, "lab", "/s", true},
		{[]string{"--name"}, nil, "lab", "/s", false},
		{nil, nil, "lab", "/s", true},
	}
	for _, tt := range tests {
		flags := &labFlags{name: "lab", state: "/s"}
		rest, err := flags.split(tt.args)
		if (err == nil) != tt.ok || flags.name != tt.name || flags.state != tt.state || !cmp.Equal(rest, tt.rest) {
			t.Errorf("split(%q) = %q, %v with lab %s in %s; want %q, lab %s in %s", tt.args, rest, err, flags.name, flags.state, tt.rest, tt.name, tt.state)
		}
	}
}

func TestDir(t *testing.T) {
	if dir, err := (&labFlags{name: "x", state: "/s"}).dir(); err != nil || dir != "/s/x" {
		t.Errorf("dir() = %s, %v; want /s/x", dir, err)
	}
	if dir, err := (&labFlags{name: "..", state: "/s"}).dir(); err == nil {
		t.Errorf("dir() of lab .. = %s, which `down` would remove", dir)
	}
}

func TestPick(t *testing.T) {
	members := []control.Member{{Name: "client", Up: true, Pid: 7}, {Name: "node-1"}}
	tests := []struct{ name, err string }{
		{"client", ""},
		{"node-1", "node-1 is off"},
		{"node-2", "there are client, node-1"},
	}
	for _, tt := range tests {
		m, err := pick(members, tt.name)
		if tt.err == "" && (err != nil || m.Name != tt.name) {
			t.Errorf("pick(%s) = %v, %v", tt.name, m, err)
		}
		if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("pick(%s) = %v, want an error with %q", tt.name, err, tt.err)
		}
	}
}

func TestTarget(t *testing.T) {
	tests := []struct {
		member control.Member
		want   enter.Target
	}{
		{control.Member{Pid: 7, NetNS: "/proc/7/ns/net"}, enter.Target{Proc: "/proc/99/root/proc/7", NetNS: "/proc/99/root/proc/7/ns/net"}},
		{control.Member{NetNS: "/run/netns/control-plane"}, enter.Target{Proc: "/proc/99", NetNS: "/proc/99/root/run/netns/control-plane"}},
	}
	for _, tt := range tests {
		if got := target(99, tt.member); got != tt.want {
			t.Errorf("target(99, %v) = %v, want %v", tt.member, got, tt.want)
		}
	}
}

func TestLogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubelet.log")
	log := logFile{path: path, prefix: "kubelet: "}
	var out bytes.Buffer
	steps := []struct {
		content string
		more    bool
		want    string
	}{
		{"one\ntw", true, "kubelet: one\n"},
		{"one\ntwo\n", true, "kubelet: one\nkubelet: two\n"},
		{"one\ntwo\nend", false, "kubelet: one\nkubelet: two\nkubelet: end"},
	}
	for _, step := range steps {
		if err := os.WriteFile(path, []byte(step.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := log.print(&out, step.more); err != nil {
			t.Fatal(err)
		}
		if out.String() != step.want {
			t.Errorf("printed %q, want %q", out.String(), step.want)
		}
	}
}

func TestPrintStatus(t *testing.T) {
	status := control.Status{
		Lab:          config.Lab{Name: "lab", Nodes: 2, KubeProxy: config.KubeProxyNFTables, Router: config.RouterNone},
		Ready:        true,
		Kubeconfig:   "/s/lab/kubeconfig",
		ControlPlane: []control.Component{{Name: "etcd", Pid: 8, Health: "ok"}, {Name: "kube-apiserver", Health: "stopped"}},
		Members: []control.Member{
			{Name: "client", Up: true, Pid: 40, Addrs: []netip.Addr{topology.ClientAddr()}, Links: []control.Link{{Name: "eth0", Up: true}}},
			{Name: "node-1", Up: true, Pid: 41, Links: []control.Link{{Name: "eth0"}, {Name: "mgmt0", Up: true}}, Node: &control.Node{Ready: true, Engine: "nft"}},
			{Name: "node-2", Links: []control.Link{{Name: "eth0"}}, Node: &control.Node{Reason: "NodeStatusUnknown"}},
		},
	}
	const want = `lab lab: up, 2 nodes, kube-proxy nftables, router none
kubeconfig: /s/lab/kubeconfig

CONTROL PLANE   LAB PID  HEALTH
etcd            8        ok
kube-apiserver  0        stopped

MEMBER  POWER  LAB PID  LINKS               ADDRESSES    KUBERNETES                    DATAPATH
client  on     40       eth0:up             192.0.2.100  -                             -
node-1  on     41       eth0:down mgmt0:up               Ready                         nft
node-2  off    0        eth0:down                        NotReady (NodeStatusUnknown)  -
`
	var out bytes.Buffer
	if err := printStatus(&out, status); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func TestCompleteRefuses(t *testing.T) {
	t.Setenv(slowEnv, "0.1")
	if err := complete(&config.Lab{BinDir: "/bin"}, "lab"); err == nil || !strings.Contains(err.Error(), slowEnv) {
		t.Errorf("complete() = %v, want an error that names %s", err, slowEnv)
	}
}
