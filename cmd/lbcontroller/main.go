package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/internal/controller"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	if kube.LeaseLost(err) && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "lbcontroller: the lease is over, beginning anew")
		err = begin()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lbcontroller:", err)
		os.Exit(1)
	}
}

// begin makes this process a new one, which knows nothing, in its place: a container that ends because the API server is slow is started
// again after ever longer waits, of up to five minutes. It returns only if that fails.
func begin() error {
	if err := syscall.Exec("/proc/self/exe", os.Args, os.Environ()); err != nil {
		return fmt.Errorf("beginning anew: %w", err)
	}
	return nil
}

// config is what the command line says.
type config struct {
	kube        kube.Options
	rest        time.Duration
	keys        keyring.Policy
	httpAddr    string
	pageAddr    string
	webhookName string
	webhookPort int
	logFormat   string
	logLevel    slog.Level
	version     bool
}

func parse(args []string) (config, error) {
	var c config
	fs := flag.NewFlagSet("lbcontroller", flag.ContinueOnError)
	fs.StringVar(&c.kube.Namespace, "namespace", "fairlead-system", "namespace of Fairlead and its pools")
	fs.StringVar(&c.kube.Class, "load-balancer-class", kube.LoadBalancerClass, "spec.loadBalancerClass of the Services to serve")
	fs.BoolVar(&c.kube.RequireClass, "require-class", false, "leave Services without a class to others")
	ipMode := fs.String("ip-mode", string(lb.ModeProxy), "ipMode of the addresses: Proxy where Fairlead forwards beside another proxy, VIP where one program forwards everything")
	fs.DurationVar(&c.rest, "address-rest", time.Minute, "how long a freed address is not given out again while others are free")
	fs.IntVar(&c.kube.MaxPerNamespace, "max-addresses-per-namespace", 0, "how many addresses of all pools together the Services of a namespace may own; 0 = any number")
	fs.DurationVar(&c.keys.Every, "gossip-key-rotation", 0, "age at which the speakers' key is replaced; 0 = only when asked, by the annotation "+kube.AnnotationRotate)
	fs.DurationVar(&c.keys.InstallWait, "gossip-key-install-wait", keyring.DefaultInstallWait, "how long speakers have to read a new key before it is used")
	fs.DurationVar(&c.keys.RetireWait, "gossip-key-retire-wait", keyring.DefaultRetireWait, "how long a replaced key is still accepted, for nodes that are off the network")
	fs.StringVar(&c.httpAddr, "http-addr", ":9380", "address of /metrics, /healthz and /readyz")
	fs.StringVar(&c.pageAddr, "dashboard-addr", "", "address of the web page; empty = no page")
	fs.StringVar(&c.webhookName, "webhook-name", "", "name of the webhook's Service and ValidatingWebhookConfiguration; empty = no webhook")
	fs.IntVar(&c.webhookPort, "webhook-port", 9443, "port of the webhook")
	fs.StringVar(&c.logFormat, "log-format", "json", "json or text")
	fs.TextVar(&c.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	fs.String("kubeconfig", "", "kubeconfig file; default: the pod's service account")
	fs.BoolVar(&c.version, "version", false, "print the version and exit")
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	c.kube.IPMode = lb.IPMode(*ipMode)
	if c.kube.IPMode != lb.ModeProxy && c.kube.IPMode != lb.ModeVIP {
		return c, fmt.Errorf("--ip-mode is %q, want Proxy or VIP", *ipMode)
	}
	if c.kube.MaxPerNamespace < 0 {
		return c, fmt.Errorf("--max-addresses-per-namespace is %d, want 0 (any number) or more", c.kube.MaxPerNamespace)
	}
	if c.logFormat != "json" && c.logFormat != "text" {
		return c, fmt.Errorf("--log-format is %q, want json or text", c.logFormat)
	}
	if file := fs.Lookup("kubeconfig").Value.String(); file != "" {
		return c, os.Setenv("KUBECONFIG", file) // where controller-runtime looks
	}
	return c, nil
}

func run(ctx context.Context, args []string) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	if c.version {
		fmt.Println(version)
		return nil
	}
	log := newLogger(c)
	bridge := logr.FromSlogHandler(log.Handler())
	ctrl.SetLogger(bridge)
	klog.SetLogger(bridge)

	cfg, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	cfg.UserAgent = "fairlead-lbcontroller/" + version
	mgr, lease, err := kube.NewManager(cfg, c.kube, bridge)
	if err != nil {
		return err
	}
	cluster, events, err := kube.NewCluster(mgr, lease, c.kube)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(droppedEvents(events))
	queue := kube.NewQueue()
	ctl, err := controller.New(cluster, queue, controller.Options{Rest: c.rest, Log: log, Registerer: registry})
	if err != nil {
		return err
	}
	if err := kube.Serve(mgr, queue, ctl); err != nil {
		return err
	}
	keeper, err := kube.NewGossipKeeper(mgr.GetAPIReader(), mgr.GetClient(), c.kube, c.keys, log)
	if err != nil {
		return err
	}
	if err := mgr.Add(keeper); err != nil {
		return fmt.Errorf("adding the gossip key's keeper: %w", err)
	}
	if err := addWebhook(mgr, cluster, c, log, registry); err != nil {
		return err
	}
	web, err := newPage(mgr, c, log)
	if err != nil {
		return err
	}
	log.Info("starting", "version", version, "namespace", c.kube.Namespace, "class", c.kube.Class, "requireClass", c.kube.RequireClass, "ipMode", c.kube.IPMode)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return mgr.Start(ctx) })
	g.Go(func() error { return serve(ctx, c.httpAddr, handler(ctx, registry, mgr.GetCache())) })
	if c.pageAddr != "" {
		g.Go(func() error { return serve(ctx, c.pageAddr, web) })
	}
	return g.Wait()
}

func newLogger(c config) *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.logLevel}
	if c.logFormat == "text" {
		return slog.New(slog.NewTextHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, opts))
}

// serve answers HTTP until ctx ends.
func serve(ctx context.Context, addr string, h http.Handler) error {
	srv := &http.Server{Addr: addr, Handler: h, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.ListenAndServe(); ctx.Err() == nil {
		return fmt.Errorf("serving HTTP on %s: %w", addr, err)
	}
	return nil
}
