package node

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	kubeletapp "k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	"k8s.io/kubernetes/pkg/kubelet"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	kubeletutil "k8s.io/kubernetes/pkg/kubelet/util"
	"k8s.io/kubernetes/pkg/util/oom"
	"k8s.io/kubernetes/pkg/volume"
	"k8s.io/kubernetes/pkg/volume/configmap"
	"k8s.io/kubernetes/pkg/volume/downwardapi"
	"k8s.io/kubernetes/pkg/volume/emptydir"
	"k8s.io/kubernetes/pkg/volume/hostpath"
	"k8s.io/kubernetes/pkg/volume/projected"
	"k8s.io/kubernetes/pkg/volume/secret"
	"k8s.io/kubernetes/pkg/volume/util/hostutil"
	"k8s.io/kubernetes/pkg/volume/util/subpath"
	"k8s.io/mount-utils"

	"github.com/fairlead-lb/fairlead/lab/cri"
	"github.com/fairlead-lb/fairlead/lab/nodeconfig"
)

// kubeletOptions returns upstream's defaults but for what this package's doc.go names.
func kubeletOptions(cfg nodeconfig.Config, d disk, resolvConf string) (*options.KubeletServer, error) {
	s, err := options.NewKubeletServer()
	if err != nil {
		return nil, fmt.Errorf("building kubelet configuration: %w", err)
	}
	var ips []string
	for _, a := range cfg.NodeIPs {
		ips = append(ips, a.String())
	}
	s.HostnameOverride = cfg.Name
	s.NodeIP = strings.Join(ips, ",")
	s.RootDirectory = d.state
	s.CertDirectory = filepath.Join(d.state, "pki")

	s.Authentication.Anonymous.Enabled = false
	s.Authentication.Webhook.Enabled = true
	s.Authentication.X509.ClientCAFile = cfg.ClientCAFile
	s.Authorization.Mode = kubeletconfig.KubeletAuthorizationModeWebhook
	s.TLSCertFile, s.TLSPrivateKeyFile = cfg.ServerCertFile, cfg.ServerKeyFile
	s.Address = "0.0.0.0"
	if cfg.NodeIPs[0].Is6() {
		s.Address = "::"
	}
	s.ReadOnlyPort = 0

	if s.ClusterDNS = cfg.ClusterDNS; len(s.ClusterDNS) == 0 {
		// Nobody answers there either, but names fail at once, and without an Event for every pod.
		s.ClusterDNS = []string{"127.0.0.1"}
	}
	s.ClusterDomain = "cluster.local"
	s.ResolverConfig = resolvConf
	s.PodLogsDir = d.logs
	s.MakeIPTablesUtilChains = false
	s.FailSwapOn = false
	if s.MaxOpenFiles, err = maxOpenFiles(s.MaxOpenFiles); err != nil {
		return nil, err
	}

	s.CgroupsPerQOS = false
	s.EnforceNodeAllocatable = nil
	s.FailCgroupV1 = false
	s.LocalStorageCapacityIsolation = false
	s.EvictionHard = nil
	s.ImageGCHighThresholdPercent = 100 // off
	s.VolumeStatsAggPeriod.Duration = -1 * time.Second
	return s, nil
}

// maxOpenFiles lowers the wish to what this process may have.
func maxOpenFiles(wish int64) (int64, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("reading limit of open files: %w", err)
	}
	return int64(min(uint64(wish), limit.Max)), nil
}

// clients talk to the API server as the node. The heartbeat has its own, which is never throttled
// and gives up early (as upstream's cmd/kubelet/app).
type clients struct {
	kube, events, heartbeat *kubernetes.Clientset
	onHeartbeatFailure      func()
}

func newClients(s *options.KubeletServer, kubeconfig string) (clients, error) {
	base, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return clients{}, fmt.Errorf("reading kubeconfig: %w", err)
	}
	base.ContentType = s.ContentType
	base.AcceptContentTypes = s.ContentType + ",application/json"
	var c clients
	for _, client := range []struct {
		set     **kubernetes.Clientset
		qps     float32
		burst   int
		timeout time.Duration
	}{
		{&c.kube, float32(s.KubeAPIQPS), int(s.KubeAPIBurst), 0},
		{&c.events, float32(s.EventRecordQPS), int(s.EventBurst), 0},
		{&c.heartbeat, -1, 0, s.NodeStatusUpdateFrequency.Duration},
	} {
		config := rest.CopyConfig(base)
		config.QPS, config.Burst, config.Timeout = client.qps, client.burst, client.timeout
		if *client.set, err = kubernetes.NewForConfig(config); err != nil {
			return clients{}, fmt.Errorf("creating API client: %w", err)
		}
	}
	transport, err := rest.TransportFor(base)
	if err != nil {
		return clients{}, fmt.Errorf("creating API transport: %w", err)
	}
	c.onHeartbeatFailure = func() { closeIdle(transport) }
	return c, nil
}

// closeIdle makes the next request use a new connection.
func closeIdle(transport http.RoundTripper) { utilnet.CloseIdleConnectionsFor(transport) }

func dependencies(ctx context.Context, cfg nodeconfig.Config, s *options.KubeletServer, m machine, runtime *cri.Runtime, images *cri.Images) (*kubelet.Dependencies, error) {
	c, err := newClients(s, cfg.Kubeconfig)
	if err != nil {
		return nil, err
	}
	auth, reloadCA, err := kubeletapp.BuildAuth(types.NodeName(cfg.Name), c.kube, s.KubeletConfiguration)
	if err != nil {
		return nil, fmt.Errorf("building kubelet authentication: %w", err)
	}
	reloadCA(ctx.Done())
	tls, err := kubeletapp.InitializeTLS(ctx, &s.KubeletFlags, &s.KubeletConfiguration)
	if err != nil {
		return nil, fmt.Errorf("building kubelet TLS options: %w", err)
	}
	mounter := mount.NewWithoutSystemd("") // systemd-run would mount for the machine, not for the node
	return &kubelet.Dependencies{
		Auth: auth, TLSOptions: tls,
		KubeClient: c.kube, EventClient: c.events.CoreV1(), HeartbeatClient: c.heartbeat, OnHeartbeatFailure: c.onHeartbeatFailure,
		RemoteRuntimeService: runtime, RemoteImageService: images,
		CAdvisorInterface: m, ContainerManager: noCgroups{cm.NewStubContainerManager()}, OOMAdjuster: oom.NewFakeOOMAdjuster(),
		OSInterface: kubecontainer.RealOS{}, Mounter: mounter, HostUtil: hostutil.NewHostUtil(), Subpather: subpath.New(mounter),
		VolumePlugins:             volumePlugins(),
		PodStartupLatencyTracker:  kubeletutil.NewPodStartupLatencyTracker(),
		NodeStartupLatencyTracker: kubeletutil.NewNodeStartupLatencyTracker(),
		TracerProvider:            noop.NewTracerProvider(),
	}, nil
}

func volumePlugins() []volume.VolumePlugin {
	var list []volume.VolumePlugin
	list = append(list, emptydir.ProbeVolumePlugins()...)
	list = append(list, hostpath.ProbeVolumePlugins(volume.VolumeConfig{})...)
	list = append(list, configmap.ProbeVolumePlugins()...)
	list = append(list, secret.ProbeVolumePlugins()...)
	list = append(list, projected.ProbeVolumePlugins()...)
	return append(list, downwardapi.ProbeVolumePlugins()...)
}
