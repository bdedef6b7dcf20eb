package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/fairlead-lb/fairlead/internal/kube"
)

func newDashboardCommand(o *options) *cobra.Command {
	var port, pagePort int
	cmd := &cobra.Command{
		Use:   "dashboard",
		Short: "Show the controller's web page in a browser on this machine",
		Long: `Show the controller's web page in a browser on this machine: it prints an address of 127.0.0.1 and serves the page there until
it is interrupted. Every request goes through the API server's proxy to pods, with your rights; the page only shows.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := o.dashboard(pagePort)
			if err != nil {
				return err
			}
			if err := d.try(cmd.Context()); err != nil {
				return err
			}
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if err != nil {
				return fmt.Errorf("listening for the browser: %w", err)
			}
			d.port = l.Addr().(*net.TCPAddr).Port
			fmt.Fprintf(cmd.OutOrStdout(), "http://%s/\n", l.Addr())
			srv := &http.Server{Handler: d, ReadHeaderTimeout: 5 * time.Second}
			defer context.AfterFunc(cmd.Context(), func() { _ = srv.Close() })()
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serving the page: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&port, "port", 0, "port on this machine; 0 = a free one")
	cmd.Flags().IntVar(&pagePort, "dashboard-port", 9382, "port of the page on the controllers' pods")
	return cmd
}

// dashboard hands requests of a browser on this machine to the page of a controller.
type dashboard struct {
	clients   *kubernetes.Clientset
	transport http.RoundTripper
	namespace string
	pagePort  int
	port      int // on this machine
}

func (o *options) dashboard(pagePort int) (*dashboard, error) {
	cfg, err := o.rest()
	if err != nil {
		return nil, err
	}
	clients, err := o.clientset()
	if err != nil {
		return nil, err
	}
	transport, err := rest.TransportFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("setting up the client: %w", err)
	}
	return &dashboard{clients: clients, transport: transport, namespace: o.fairlead, pagePort: pagePort}, nil
}

// ServeHTTP hands GET and HEAD on. A request that names another host than this machine comes from a page of somebody else's in the same
// browser, to which a name server has given our address: it is refused, or that page could read this one.
func (d *dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	port := strconv.Itoa(d.port)
	if r.Host != net.JoinHostPort("127.0.0.1", port) && r.Host != net.JoinHostPort("localhost", port) {
		http.Error(w, "open http://127.0.0.1:"+port+"/", http.StatusMisdirectedRequest)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "the page only shows: GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	at, err := d.page(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	proxy := httputil.ReverseProxy{
		Transport: d.transport,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = at.Scheme, at.Host, at.Host
			p.Out.URL.Path, p.Out.URL.RawPath = at.Path+p.In.URL.Path, ""
			p.Out.Header = http.Header{"Accept": p.In.Header["Accept"]}
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "asking the API server: "+err.Error(), http.StatusBadGateway)
		},
	}
	proxy.ServeHTTP(w, r)
}

// page returns where the API server has the page of a controller that is ready. It looks each time: pods come and go.
func (d *dashboard) page(ctx context.Context) (*url.URL, error) {
	pods, err := d.clients.CoreV1().Pods(d.namespace).List(ctx, metav1.ListOptions{LabelSelector: kube.SpeakerLabel + "=controller"})
	if err != nil {
		return nil, fmt.Errorf("looking for the controller: %w", err)
	}
	for _, p := range pods.Items {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil {
				name := "http:" + p.Name + ":" + strconv.Itoa(d.pagePort)
				return d.clients.CoreV1().RESTClient().Get().Namespace(d.namespace).Resource("pods").Name(name).SubResource("proxy").URL(), nil
			}
		}
	}
	return nil, fmt.Errorf("looking for the controller: none of its %d pods in %s is ready", len(pods.Items), d.namespace)
}

// try asks for the page once, so that what is wrong is said on the terminal.
func (d *dashboard) try(ctx context.Context) error {
	at, err := d.page(ctx)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, strings.TrimSuffix(at.String(), "/")+"/", nil)
	if err != nil {
		return fmt.Errorf("asking for the page: %w", err)
	}
	answer, err := d.transport.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("asking for the page: %w", err)
	}
	_ = answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusForbidden, http.StatusUnauthorized:
		return fmt.Errorf("asking for the page: %s; it takes the right to get pods/proxy in %s, which the role fairlead-diagnosis has", answer.Status, d.namespace)
	}
	return fmt.Errorf("asking for the page: %s; is dashboard.enabled true in the values of the chart, and its port %d?", answer.Status, d.pagePort)
}
