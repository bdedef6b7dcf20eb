package nodeconfig

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const valid = `{
	"name": "node-1", "kubeconfig": "/s/node-1.kubeconfig", "rootDir": "/s/node-1", "logDir": "/s/logs", "binDir": "/bin",
	"nodeIPs": ["192.0.2.11", "2001:db8:0:1::11"], "podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"], "clusterDNS": ["10.96.0.10"],
	"clientCAFile": "/s/ca.crt", "serverCertFile": "/s/kubelet.crt", "serverKeyFile": "/s/kubelet.key", "lanInterface": "eth0"}`

func TestRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "node.json")
	read := func(text string) (Config, error) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Read(file)
	}
	got, err := read(valid)
	want := Config{
		Name: "node-1", Kubeconfig: "/s/node-1.kubeconfig", RootDir: "/s/node-1", LogDir: "/s/logs", BinDir: "/bin",
		NodeIPs:    []netip.Addr{netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("2001:db8:0:1::11")},
		PodCIDRs:   []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244:1::/64")},
		ClusterDNS: []string{"10.96.0.10"}, ClientCAFile: "/s/ca.crt", ServerCertFile: "/s/kubelet.crt", ServerKeyFile: "/s/kubelet.key", LANInterface: "eth0",
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	for _, tc := range []struct{ old, new, want string }{
		{`"/s/node-1"`, `"node-1"`, `rootDir "node-1"`},
		{`"/s/kubelet.key"`, `""`, "serverKeyFile"},
		{`"name": "node-1"`, `"name": ""`, "name is empty"},
		{`10.244.1.0/24`, `10.244.1.1/24`, "10.244.1.1/24 is not a network prefix"},
		{`"192.0.2.11", "2001:db8:0:1::11"`, ``, "nodeIPs is empty"},
		{`"192.0.2.11"`, `""`, "invalid address"},
		{`"10.244.1.0/24", "fd00:10:244:1::/64"`, ``, "podCIDRs is empty"},
		{`"name"`, `name`, "parsing"},
	} {
		if _, err := read(strings.Replace(valid, tc.old, tc.new, 1)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.new, err, tc.want)
		}
	}
}
