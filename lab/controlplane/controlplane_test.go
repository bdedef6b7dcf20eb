package controlplane_test

import (
	"crypto/tls"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/lab/controlplane"
	"github.com/fairlead-lb/fairlead/lab/state"
)

const dir = state.Dir("/var/lib/fairlab/lab")

func credentials(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := controlplane.Credentials(dir, 2, true, netip.MustParseAddrPort("127.0.0.1:6443"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	byPath := map[string][]byte{}
	for _, f := range files {
		if _, twice := byPath[f.Path]; twice {
			t.Errorf("%s is written twice", f.Path)
		}
		byPath[f.Path] = f.Data
	}
	return byPath
}

// Every file that an argument names is one that Credentials makes.
func TestArgsNameCredentials(t *testing.T) {
	files := credentials(t)
	o := controlplane.Options{Dir: dir, DualStack: true, Grace: 50 * time.Second}
	components := map[string][]string{
		controlplane.APIServer:         controlplane.APIServerArgs(o),
		controlplane.ControllerManager: controlplane.ControllerManagerArgs(o),
		controlplane.Scheduler:         controlplane.SchedulerArgs(o),
		controlplane.KubeProxy:         controlplane.KubeProxyArgs(o, "node-1", "nftables"),
	}
	for name, args := range components {
		named := 0
		for _, arg := range args {
			flag, value, _ := strings.Cut(arg, "=")
			if !strings.HasPrefix(value, dir.PKI()) {
				continue
			}
			named++
			if _, made := files[value]; !made {
				t.Errorf("%s: %s names %s, which nobody makes", name, flag, value)
			}
		}
		if named == 0 {
			t.Errorf("%s has no credentials", name)
		}
	}
}

func TestArgsRanges(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"single stack", controlplane.APIServerArgs(controlplane.Options{Dir: dir}), "--service-cluster-ip-range=10.96.0.0/16"},
		{"dual stack", controlplane.APIServerArgs(controlplane.Options{Dir: dir, DualStack: true}), "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112"},
		{"pods", controlplane.KubeProxyArgs(controlplane.Options{Dir: dir, DualStack: true}, "node-1", "ipvs"), "--cluster-cidr=10.244.0.0/16,fd00:10:244::/48"},
		{"grace", controlplane.ControllerManagerArgs(controlplane.Options{Dir: dir, Grace: time.Minute}), "--node-monitor-grace-period=1m0s"},
		{"permissions", controlplane.APIServerArgs(controlplane.Options{Dir: dir}), "--authorization-mode=Node,RBAC"},
	}
	for _, tt := range tests {
		if !strings.Contains(strings.Join(tt.args, "\n")+"\n", tt.want+"\n") {
			t.Errorf("%s: no argument %s in\n%s", tt.name, tt.want, strings.Join(tt.args, "\n"))
		}
	}
}

type kubeconfig struct {
	Clusters []struct {
		Cluster struct {
			Server    string `json:"server"`
			Authority []byte `json:"certificate-authority-data"`
		} `json:"cluster"`
	} `json:"clusters"`
	Users []struct {
		User struct {
			Cert []byte `json:"client-certificate-data"`
			Key  []byte `json:"client-key-data"`
		} `json:"user"`
	} `json:"users"`
}

func TestKubeconfigs(t *testing.T) {
	files := credentials(t)
	tests := []struct {
		path, server, user string
		groups             []string
	}{
		{dir.Kubeconfig(), "https://127.0.0.1:6443", "fairlab-admin", []string{"system:masters"}},
		{dir.ComponentKubeconfig("node-2"), "https://198.51.100.1:443", "system:node:node-2", []string{"system:nodes"}},
		{dir.ComponentKubeconfig(controlplane.KubeProxy), "https://198.51.100.1:443", "system:kube-proxy", nil},
		{dir.ComponentKubeconfig(controlplane.Scheduler), "https://198.51.100.1:443", "system:kube-scheduler", nil},
	}
	for _, tt := range tests {
		var config kubeconfig
		if err := json.Unmarshal(files[tt.path], &config); err != nil {
			t.Errorf("%s: %v", tt.path, err)
			continue
		}
		if got := config.Clusters[0].Cluster.Server; got != tt.server {
			t.Errorf("%s: server %s, want %s", tt.path, got, tt.server)
		}
		if diff := cmp.Diff(files[controlplane.ClientCA(dir)], config.Clusters[0].Cluster.Authority); diff != "" {
			t.Errorf("%s: authority is not the cluster's", tt.path)
		}
		pair, err := tls.X509KeyPair(config.Users[0].User.Cert, config.Users[0].User.Key)
		if err != nil {
			t.Errorf("%s: %v", tt.path, err)
			continue
		}
		subject := pair.Leaf.Subject
		if subject.CommonName != tt.user || !cmp.Equal(subject.Organization, tt.groups) {
			t.Errorf("%s: user %s of %v, want %s of %v", tt.path, subject.CommonName, subject.Organization, tt.user, tt.groups)
		}
	}
}

// The API server dials kubelets by address, so their certificates have addresses.
func TestKubeletCertificate(t *testing.T) {
	files := credentials(t)
	name := controlplane.Kubelet("node-2")
	pair, err := tls.X509KeyPair(files[dir.Cert(name)], files[dir.Key(name)])
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"192.0.2.12", "2001:db8:0:1::12", "198.51.100.12", "node-2"} {
		if err := pair.Leaf.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	if err := pair.Leaf.VerifyHostname("192.0.2.11"); err == nil {
		t.Error("node-2's certificate is good for node-1")
	}
}
