package controlplane

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/fairlead-lb/fairlead/lab/pki"
	"github.com/fairlead-lb/fairlead/lab/state"
	"github.com/fairlead-lb/fairlead/lab/topology"
)

// Names of certificates that are not a component's.
const (
	clusterCA        = "ca"
	frontProxyCA     = "front-proxy-ca"
	frontProxyClient = "front-proxy-client"
	kubeletClient    = "kube-apiserver-kubelet-client"
	signingKey       = "service-account"
	admin            = "admin"
)

// File is a file to write, readable by root only.
type File struct {
	Path string
	Data []byte
}

// Kubelet names the serving certificate of a node's kubelet.
func Kubelet(node string) string { return node + "-kubelet" }

// ClientCA is the authority that kubelets check their clients against.
func ClientCA(d state.Dir) string { return d.Cert(clusterCA) }

// AdminCert and AdminKey are the files of the supervisor's own identity.
func AdminCert(d state.Dir) string { return d.Cert(admin) }

// AdminKey belongs to AdminCert.
func AdminKey(d state.Dir) string { return d.Key(admin) }

// Credentials makes the keys, certificates and kubeconfigs of a lab. hostAPI is
// where the API server is reached from the machine itself.
func Credentials(d state.Dir, nodes int, dualStack bool, hostAPI netip.AddrPort, now time.Time) ([]File, error) {
	ca, err := pki.NewAuthority("fairlab-ca", now)
	if err != nil {
		return nil, err
	}
	frontProxy, err := pki.NewAuthority("fairlab-front-proxy-ca", now)
	if err != nil {
		return nil, err
	}
	signing, err := pki.NewSigningKey()
	if err != nil {
		return nil, err
	}
	w := &writer{dir: d, ca: ca}
	w.pair(clusterCA, ca.Pair)
	w.pair(frontProxyCA, frontProxy.Pair)
	w.pair(signingKey, signing)
	w.issue(ca, APIServer, apiServerLeaf(hostAPI.Addr()))
	w.issue(ca, kubeletClient, pki.Leaf{CommonName: kubeletClient, Organization: "system:masters"})
	w.issue(frontProxy, frontProxyClient, pki.Leaf{CommonName: frontProxyClient})
	w.user(d.Kubeconfig(), admin, pki.Leaf{CommonName: "fairlab-admin", Organization: "system:masters"}, server(hostAPI))
	inside := server(netip.AddrPortFrom(topology.ControlPlaneAddr(), 443))
	for _, component := range []string{ControllerManager, Scheduler, KubeProxy} {
		w.user(d.ComponentKubeconfig(component), component, pki.Leaf{CommonName: "system:" + component}, inside)
	}
	for n := 1; n <= nodes; n++ {
		node := topology.NodeName(n)
		w.user(d.ComponentKubeconfig(node), node, pki.Leaf{CommonName: "system:node:" + node, Organization: "system:nodes"}, inside)
		ips := append(topology.NodeIPs(n, dualStack), topology.NodeMgmt(n))
		w.issue(ca, Kubelet(node), pki.Leaf{CommonName: "system:node:" + node, Organization: "system:nodes", DNSNames: []string{node}, IPs: ips})
	}
	return w.files, w.err
}

func apiServerLeaf(host netip.Addr) pki.Leaf {
	return pki.Leaf{
		CommonName: APIServer,
		DNSNames: []string{
			"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local",
		},
		IPs: []netip.Addr{topology.APIServerVIP(), topology.ControlPlaneAddr(), netip.MustParseAddr("127.0.0.1"), host},
	}
}

// writer collects files and keeps the first error.
type writer struct {
	dir   state.Dir
	ca    *pki.Authority
	files []File
	err   error
}

func (w *writer) pair(name string, pair pki.Pair) {
	w.files = append(w.files, File{w.dir.Cert(name), pair.Cert}, File{w.dir.Key(name), pair.Key})
}

func (w *writer) issue(authority *pki.Authority, name string, leaf pki.Leaf) pki.Pair {
	if w.err != nil {
		return pki.Pair{}
	}
	pair, err := authority.Issue(leaf)
	if err != nil {
		w.err = fmt.Errorf("issuing %s: %w", name, err)
		return pki.Pair{}
	}
	w.pair(name, pair)
	return pair
}

// user issues a client certificate and a kubeconfig that holds it.
func (w *writer) user(path, name string, leaf pki.Leaf, server string) {
	pair := w.issue(w.ca, name, leaf)
	if w.err != nil {
		return
	}
	data, err := kubeconfig(server, name, w.ca.Cert, pair)
	if err != nil {
		w.err = err
		return
	}
	w.files = append(w.files, File{path, data})
}
