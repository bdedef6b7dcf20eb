package main

import (
	"fmt"
	"slices"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/view"
)

// options are the flags that every command has.
type options struct {
	output   string
	fairlead string // the namespace that Fairlead runs in
	class    string
	require  bool

	speakerPort int  // of the speakers' pages
	probe       bool // ask the segment, too

	rules     *clientcmd.ClientConfigLoadingRules
	overrides *clientcmd.ConfigOverrides
}

func (o *options) bind(flags *pflag.FlagSet) {
	flags.StringVarP(&o.output, "output", "o", "", "how to print: wide, json or yaml; default a table")
	flags.StringVar(&o.fairlead, "fairlead-namespace", "fairlead-system", "namespace that Fairlead runs in")
	flags.StringVar(&o.class, "load-balancer-class", kube.LoadBalancerClass, "spec.loadBalancerClass of the Services that Fairlead serves")
	flags.BoolVar(&o.require, "require-class", false, "Services without a class are not Fairlead's")
	flags.IntVar(&o.speakerPort, "speaker-port", view.Port, "port at which the speakers tell how they are")
	o.rules, o.overrides = clientcmd.NewDefaultClientConfigLoadingRules(), &clientcmd.ConfigOverrides{}
	flags.StringVar(&o.rules.ExplicitPath, "kubeconfig", "", "kubeconfig file; default: $KUBECONFIG, then ~/.kube/config")
	bindings := clientcmd.RecommendedConfigOverrideFlags("")
	bindings.ContextOverrideFlags.Namespace.ShortName = "n"
	clientcmd.BindOverrideFlags(o.overrides, flags, bindings)
}

func (o *options) validate() error {
	if !slices.Contains([]string{"", "wide", "json", "yaml"}, o.output) {
		return fmt.Errorf("--output is %q, want wide, json or yaml", o.output)
	}
	return nil
}

func (o *options) kube() kube.Options {
	return kube.Options{Namespace: o.fairlead, Class: o.class, RequireClass: o.require}
}

func (o *options) config() clientcmd.ClientConfig {
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(o.rules, o.overrides)
}

// rest returns how to reach the API server.
func (o *options) rest() (*rest.Config, error) {
	cfg, err := o.config().ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the API server: %w", err)
	}
	cfg.UserAgent = "kubectl-fairlead/" + version
	cfg.QPS, cfg.Burst = 50, 100 // a handful of lists, and two questions to every speaker
	return cfg, nil
}

// namespace is where an object without one belongs: that of the flag, of the context, or default.
func (o *options) namespace() string {
	ns, _, err := o.config().Namespace()
	if err != nil {
		return "default" // no kubeconfig, and none is needed for files
	}
	return ns
}
