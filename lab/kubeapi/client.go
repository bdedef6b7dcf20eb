package kubeapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"
)

// requestTimeout bounds one call; the server answers these in milliseconds, a
// hundred times more on an emulated machine.
const requestTimeout = 15 * time.Second

// Options say where the API server is and who asks.
type Options struct {
	URL      string // https://host:port
	CAFile   string
	CertFile string
	KeyFile  string
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client asks the API server. It is safe for concurrent use.
type Client struct {
	url  string
	http http.Client
}

// Node is what the lab wants to know of a Node object.
type Node struct {
	Name   string
	Ready  bool
	Reason string // of the Ready condition, "" when there is none
}

// New returns a Client.
func New(o Options) (*Client, error) {
	pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("loading client certificate: %w", err)
	}
	authority, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("reading authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("reading authority: no certificate in %s", o.CAFile)
	}
	return &Client{url: o.URL, http: http.Client{
		Timeout: requestTimeout,
		Transport: &http.Transport{
			DialContext:     o.Dial,
			TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}},
			IdleConnTimeout: time.Minute,
		},
	}}, nil
}

// Ready returns nil when the API server serves requests.
func (c *Client) Ready(ctx context.Context) error {
	return c.call(ctx, http.MethodGet, "/readyz", nil, nil)
}

// EnsureNode makes the Node object with its pod ranges, which a kubelet that
// registers later adopts. An existing object is left as it is.
func (c *Client) EnsureNode(ctx context.Context, name string, podCIDRs []netip.Prefix) error {
	node := nodeObject{
		APIVersion: "v1", Kind: "Node",
		Metadata: metadata{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}},
		Spec:     nodeSpec{PodCIDR: podCIDRs[0], PodCIDRs: podCIDRs},
	}
	err := c.call(ctx, http.MethodPost, "/api/v1/nodes", node, nil)
	if status, isStatus := err.(statusError); isStatus && status.code == http.StatusConflict {
		return nil
	}
	return err
}

// Nodes lists the Node objects.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	var list struct {
		Items []nodeObject `json:"items"`
	}
	// resourceVersion=0: from the cache, this is asked often.
	if err := c.call(ctx, http.MethodGet, "/api/v1/nodes?resourceVersion=0", nil, &list); err != nil {
		return nil, err
	}
	nodes := make([]Node, 0, len(list.Items))
	for _, item := range list.Items {
		node := Node{Name: item.Metadata.Name}
		for _, condition := range item.Status.Conditions {
			if condition.Type == "Ready" {
				node.Ready, node.Reason = condition.Status == "True", condition.Reason
			}
		}
		nodes = append(nodes, node)
	}
	return nodes, nil
}

// The fields of a Node object that are used here.
type (
	nodeObject struct {
		APIVersion string     `json:"apiVersion"`
		Kind       string     `json:"kind"`
		Metadata   metadata   `json:"metadata"`
		Spec       nodeSpec   `json:"spec"`
		Status     nodeStatus `json:"status,omitzero"`
	}
	metadata struct {
		Name   string            `json:"name"`
		Labels map[string]string `json:"labels"`
	}
	nodeSpec struct {
		PodCIDR  netip.Prefix   `json:"podCIDR"`
		PodCIDRs []netip.Prefix `json:"podCIDRs"`
	}
	nodeStatus struct {
		Conditions []condition `json:"conditions"`
	}
	condition struct {
		Type   string `json:"type"`
		Status string `json:"status"`
		Reason string `json:"reason"`
	}
)

// statusError is an answer other than success.
type statusError struct {
	code int
	text string
}

func (e statusError) Error() string { return e.text }

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encoding request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return fmt.Errorf("making request: %w", err)
	}
	if in != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("asking the API server: %w", err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("reading answer of the API server: %w", err)
	}
	if response.StatusCode >= 300 {
		return statusError{response.StatusCode, fmt.Sprintf("API server answered %s to %s %s: %.300s", response.Status, method, path, data)}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("parsing answer of the API server: %w", err)
	}
	return nil
}
