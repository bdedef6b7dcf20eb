package controlplane

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/lab/state"
	"github.com/fairlead-lb/fairlead/lab/topology"
)

// Names of the components, which are also those of fairlab-kube's subcommands and
// of the log files.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	KubeProxy         = "kube-proxy"
)

// Health checks of the components, inside the control plane's namespace.
const (
	EtcdHealth              = "http://127.0.0.1:2379/health"
	APIServerHealth         = "https://127.0.0.1:443/readyz"
	ControllerManagerHealth = "https://127.0.0.1:10257/healthz"
	SchedulerHealth         = "https://127.0.0.1:10259/healthz"
)

// Issuer is the `iss` of service account tokens.
const issuer = "https://kubernetes.default.svc.cluster.local"

// Options are what the arguments depend on.
type Options struct {
	Dir       state.Dir
	DualStack bool
	Grace     time.Duration // of the node lifecycle controller
}

// EtcdArgs are the arguments of `fairlab-kube etcd`.
func EtcdArgs(o Options) []string {
	return []string{"--data-dir=" + o.Dir.Etcd()}
}

// APIServerArgs are the arguments of kube-apiserver.
func APIServerArgs(o Options) []string {
	d := o.Dir
	return []string{
		"--etcd-servers=http://127.0.0.1:2379",
		"--bind-address=0.0.0.0",
		"--secure-port=443",
		"--advertise-address=" + topology.ControlPlaneAddr().String(),
		"--service-cluster-ip-range=" + join(topology.ServiceCIDRs(o.DualStack)),
		"--tls-cert-file=" + d.Cert(APIServer),
		"--tls-private-key-file=" + d.Key(APIServer),
		"--client-ca-file=" + d.Cert(clusterCA),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--anonymous-auth=true", // health checks; RBAC grants no more to anonymous
		"--allow-privileged=true",
		"--service-account-issuer=" + issuer,
		"--service-account-key-file=" + d.Cert(signingKey),
		"--service-account-signing-key-file=" + d.Key(signingKey),
		"--requestheader-client-ca-file=" + d.Cert(frontProxyCA),
		"--requestheader-allowed-names=" + frontProxyClient,
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + d.Cert(frontProxyClient),
		"--proxy-client-key-file=" + d.Key(frontProxyClient),
		"--enable-aggregator-routing=true", // webhooks by endpoint: no cluster IPs in this namespace
		"--kubelet-certificate-authority=" + d.Cert(clusterCA),
		"--kubelet-client-certificate=" + d.Cert(kubeletClient),
		"--kubelet-client-key=" + d.Key(kubeletClient),
		"--kubelet-preferred-address-types=InternalIP",
		"--profiling=false",
	}
}

// ControllerManagerArgs are the arguments of kube-controller-manager.
func ControllerManagerArgs(o Options) []string {
	d := o.Dir
	kubeconfig := d.ComponentKubeconfig(ControllerManager)
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--kube-api-qps=-1",
		"--use-service-account-credentials=true",
		// There is no cloud, and node-N gets its pod range from the lab.
		"--controllers=*,-cloud-node-lifecycle-controller,-node-route-controller,-service-lb-controller,-node-ipam-controller",
		"--node-monitor-grace-period=" + o.Grace.String(),
		"--service-account-private-key-file=" + d.Key(signingKey),
		"--root-ca-file=" + d.Cert(clusterCA),
		"--cluster-signing-cert-file=" + d.Cert(clusterCA),
		"--cluster-signing-key-file=" + d.Key(clusterCA),
		"--profiling=false",
	}
}

// SchedulerArgs are the arguments of kube-scheduler.
func SchedulerArgs(o Options) []string {
	kubeconfig := o.Dir.ComponentKubeconfig(Scheduler)
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--profiling=false",
	}
}

// KubeProxyArgs are the arguments of kube-proxy on a node.
func KubeProxyArgs(o Options, node, mode string) []string {
	return []string{
		"--kubeconfig=" + o.Dir.ComponentKubeconfig(KubeProxy),
		"--hostname-override=" + node,
		"--proxy-mode=" + mode,
		"--cluster-cidr=" + join(topology.ClusterCIDRs(o.DualStack)),
		"--conntrack-max-per-core=0", // the limit belongs to the machine, not to a namespace
		"--profiling=false",
	}
}

func join(prefixes []netip.Prefix) string {
	texts := make([]string, len(prefixes))
	for i, p := range prefixes {
		texts[i] = p.String()
	}
	return strings.Join(texts, ",")
}

// server is the API server's URL at addr.
func server(addr netip.AddrPort) string { return fmt.Sprintf("https://%s", addr) }
