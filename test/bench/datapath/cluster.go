package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/fairlead-lb/fairlead/internal/kube"
)

const (
	namespace = "bench"
	nodeName  = "n1"
	server    = "https://127.0.0.1:6443"
	token     = "bench" // of the only user
)

// cluster is etcd and an API server that lets everybody do everything.
type cluster struct {
	options
	client     *kubernetes.Clientset
	processes  []*exec.Cmd
	clusterIPs map[int]string // of the Services
}

// start runs a program until the bench ends, its output in a file beside the data.
func (c *cluster) start(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	log, err := os.Create(filepath.Join(c.state, filepath.Base(name)+"-"+filepath.Base(args[0])+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return cmd, ctx.Err()
}

func startCluster(ctx context.Context, o options) (*cluster, error) {
	c := &cluster{options: o}
	if err := os.MkdirAll(o.state, 0o700); err != nil {
		return nil, err
	}
	key, tokens := filepath.Join(o.state, "sa.key"), filepath.Join(o.state, "tokens")
	if err := errors.Join(writeKey(key), c.kubeconfig(), os.WriteFile(tokens, []byte(token+",bench,bench\n"), 0o600)); err != nil {
		return nil, err
	}
	etcd, err := c.start(ctx, "fairlab-kube", "etcd", "--data-dir="+filepath.Join(o.state, "etcd"))
	if err != nil {
		return nil, err
	}
	// The allocator of the emulated version creates many Services ten times faster.
	api, err := c.start(ctx, "fairlab-kube", "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--bind-address=127.0.0.1",
		"--secure-port=6443", "--advertise-address="+nodeAddr, "--cert-dir="+o.state, "--authorization-mode=AlwaysAllow", "--token-auth-file="+tokens,
		"--service-account-issuer=bench", "--service-account-key-file="+key, "--service-account-signing-key-file="+key,
		"--service-cluster-ip-range=10.96.0.0/16", "--endpoint-reconciler-type=none", "--disable-admission-plugins=ServiceAccount",
		"--emulated-version=1.33", "--feature-gates=MultiCIDRServiceAllocator=false", "--profiling=false")
	if err != nil {
		return nil, err
	}
	c.processes = []*exec.Cmd{api, etcd}
	c.client, err = kubernetes.NewForConfig(&rest.Config{Host: server, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1})
	if err != nil {
		return nil, err
	}
	return c, until(ctx, 10*time.Minute, func() error { // it takes minutes where the machine is emulated
		_, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		return err
	})
}

// stop ends the API server before etcd.
func (c *cluster) stop() {
	for _, p := range c.processes {
		p.Process.Signal(syscall.SIGTERM)
		p.Wait()
	}
}

func writeKey(path string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), 0o600)
}

func (c *cluster) config() string { return filepath.Join(c.state, "kubeconfig") }

func (c *cluster) kubeconfig() error {
	return os.WriteFile(c.config(), fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: b, users: [{name: b, user: {token: %s}}],
  clusters: [{name: b, cluster: {server: "%s", insecure-skip-tls-verify: true}}], contexts: [{name: b, context: {cluster: b, user: b}}]}`, token, server), 0o600)
}

// objects makes what is missing: the node, the Services with their addresses and endpoints, and what a speaker needs to start.
func (c *cluster) objects(ctx context.Context) error {
	for _, name := range []string{namespace, "fairlead-system"} {
		_, err := c.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err := missing(err); err != nil {
			return err
		}
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}, Spec: corev1.NodeSpec{PodCIDR: "10.244.0.0/24"},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeAddr}}}}
	if _, err := c.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); missing(err) != nil {
		return err
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: kube.GossipSecret}, Data: map[string][]byte{"key": []byte("0123456789abcdef0123456789abcdef")}}
	if _, err := c.client.CoreV1().Secrets("fairlead-system").Create(ctx, secret, metav1.CreateOptions{}); missing(err) != nil {
		return err
	}
	crds := exec.CommandContext(ctx, filepath.Join(c.bin, "fairlab-kube"), "kubectl", "--kubeconfig", c.config(), "apply", "--server-side", "-f", "charts/fairlead/files/crds")
	if out, err := crds.CombinedOutput(); err != nil {
		return fmt.Errorf("making the resource definitions: %w\n%s", err, out)
	}
	start := time.Now()
	endpoints, err := c.endpoints(ctx)
	if err != nil {
		return err
	}
	g, creating := errgroup.WithContext(ctx)
	g.SetLimit(32)
	for i := range c.services {
		if endpoints[i] == 5 {
			continue
		}
		g.Go(func() error { return c.service(creating, i) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("creating Services: %w", err)
	}
	line("objects", "create", time.Since(start).Seconds(), "s")
	return c.readClusterIPs(ctx)
}

// endpoints says how many each Service has; its slice is the last thing that it gets.
func (c *cluster) endpoints(ctx context.Context) (map[int]int, error) {
	list, err := c.client.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	count := map[int]int{}
	for _, s := range list.Items {
		var i int
		if _, err := fmt.Sscanf(s.Name, serviceFormat, &i); err == nil {
			count[i] = len(s.Endpoints)
		}
	}
	return count, nil
}

// readClusterIPs takes down the addresses that the API server gave.
func (c *cluster) readClusterIPs(ctx context.Context) error {
	list, err := c.client.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	c.clusterIPs = map[int]string{}
	for _, svc := range list.Items {
		var i int
		if _, err := fmt.Sscanf(svc.Name, serviceFormat, &i); err == nil {
			c.clusterIPs[i] = svc.Spec.ClusterIP
		}
	}
	return nil
}

func missing(err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

const serviceFormat = "web-%05d"

func serviceName(i int) string { return fmt.Sprintf(serviceFormat, i) }

// vip is the address in the i-th Service's status.
func vip(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}) }

// ports are those of the i-th Service: the first one also takes bulk traffic.
func ports(i int) []corev1.ServicePort {
	list := []corev1.ServicePort{{Name: "http", Port: 80}}
	if i == 0 {
		list = append(list, corev1.ServicePort{Name: "bulk", Port: 81})
	}
	return list
}

// service makes the i-th Service, and gives it back what a bench that was stopped had taken: to take that again would change nothing.
func (c *cluster) service(ctx context.Context, i int) error {
	services, slices := c.client.CoreV1().Services(namespace), c.client.DiscoveryV1().EndpointSlices(namespace)
	svc, err := services.Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: serviceName(i)},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, AllocateLoadBalancerNodePorts: new(false), Ports: ports(i)}}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		svc, err = services.Get(ctx, serviceName(i), metav1.GetOptions{})
	}
	if err != nil {
		return err
	}
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: vip(i).String(), IPMode: new(corev1.LoadBalancerIPModeProxy)}}
	if _, err := services.UpdateStatus(ctx, svc, metav1.UpdateOptions{}); err != nil {
		return err
	}
	if _, err = slices.Create(ctx, slice(i, 5), metav1.CreateOptions{}); apierrors.IsAlreadyExists(err) {
		_, err = slices.Update(ctx, slice(i, 5), metav1.UpdateOptions{})
	}
	return err
}

// slice gives the i-th Service n endpoints.
func slice(i, n int) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: serviceName(i), Labels: map[string]string{discoveryv1.LabelServiceName: serviceName(i)}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}}}
	if i == 0 {
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: new("bulk"), Port: new(int32(8081)), Protocol: new(corev1.ProtocolTCP)})
	}
	for j := range n {
		addr := netip.AddrFrom4([4]byte{10, byte(100 + j), byte(i >> 8), byte(i)})
		if i == 0 {
			addr = netip.AddrFrom4([4]byte{10, 244, 0, byte(1 + j)})
		}
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{addr.String()}, NodeName: new(nodeName), Conditions: discoveryv1.EndpointConditions{Ready: new(true)}})
	}
	return s
}

// until calls check often until it returns nil; when the limit has passed it returns the last error.
func until(ctx context.Context, limit time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %v: %w", limit, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
