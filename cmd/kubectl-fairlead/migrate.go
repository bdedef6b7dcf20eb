package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/internal/dryrun"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/manifest"
	"github.com/fairlead-lb/fairlead/internal/migrate"
	"github.com/fairlead-lb/fairlead/lb"
)

func newMigrateCommand(o *options) *cobra.Command {
	parent := &cobra.Command{Use: "migrate", Short: "Turn another load balancer's configuration into Fairlead's", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var namespace string
	metallb := &cobra.Command{
		Use:   "metallb [FILE...]",
		Short: "Turn MetalLB's objects into Fairlead's",
		Long: `Turn MetalLB's objects into Fairlead's: those in files, or without any those of the cluster. The manifests go to the standard
output; what became of each object and field, and the steps of the take-over, to the standard error.

All versions of MetalLB's kinds are read, and the ConfigMap from before version 0.13. Every field is taken, changed with a
note, or refused by its name; an object with a refused field is not written.`,
		Example: "  kubectl fairlead migrate metallb > fairlead.yaml\n  kubectl fairlead migrate metallb old/*.yaml > fairlead.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			var in []manifest.Object
			var err error
			if len(args) > 0 {
				in, err = read(cmd.InOrStdin(), args)
			} else {
				in, err = o.metallb(cmd.Context(), namespace)
			}
			if err != nil {
				return err
			}
			return o.migrate(cmd.OutOrStdout(), cmd.ErrOrStderr(), in)
		},
	}
	metallb.Flags().StringVar(&namespace, "metallb-namespace", "metallb-system", "namespace that MetalLB runs in, where its ConfigMaps are")
	parent.AddCommand(metallb)
	return parent
}

// report is what -o json and -o yaml print.
type report struct {
	Objects []migrate.Object `json:"objects"`
	Notes   []migrate.Note   `json:"notes"`
	Steps   []migrate.Step   `json:"steps"`
	Lost    []string         `json:"lost,omitempty"` // Services that would not keep what they have, and why
}

func (o *options) migrate(out, errs io.Writer, in []manifest.Object) error {
	services, typed, err := o.allServices(in)
	if err != nil {
		return err
	}
	result := migrate.Migrate(migrate.Input{Objects: in, Services: services}, migrate.Options{Namespace: o.fairlead, Class: o.class})
	r := report{result.Objects, result.Notes, result.Steps, o.lost(result, services, typed)}
	if done, err := o.encode(out, r); done {
		return err
	}
	var objects []runtime.Object
	for _, object := range result.Objects {
		objects = append(objects, object)
	}
	text, err := manifest.Render(objects...)
	if err != nil {
		return err
	}
	if _, err := out.Write(text); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	for _, n := range result.Notes {
		fmt.Fprintln(errs, paint(errs, map[migrate.Verdict]string{migrate.Refused: red, migrate.Changed: yellow}[n.Verdict], n.String()))
	}
	for i, s := range result.Steps {
		fmt.Fprintf(errs, "\n%d. %s\n", i+1, s.Text)
		if s.Command != "" {
			fmt.Fprintf(errs, "   %s\n", s.Command)
		}
	}
	have := slices.DeleteFunc(slices.Clone(services), func(s migrate.Service) bool { return len(s.Ingress) == 0 })
	fmt.Fprintf(errs, "\n%d objects written, %d things refused; %d of %d Services with addresses keep them.\n",
		len(result.Objects), len(result.Refusals()), len(have)-len(r.Lost), len(have))
	for _, line := range r.Lost {
		fmt.Fprintln(errs, paint(errs, red, line))
	}
	if len(result.Refusals())+len(r.Lost) > 0 {
		return errFound
	}
	return nil
}

// allServices returns the Services of type LoadBalancer, whatever their class, but for those that Fairlead serves already.
func (o *options) allServices(in []manifest.Object) ([]migrate.Service, []client.Object, error) {
	w := dryrun.World{Options: o.kube()}
	only := slices.DeleteFunc(slices.Clone(in), func(m manifest.Object) bool { return !m.Is("", "Service") && !m.Is("", "Namespace") })
	typed, findings := w.Parse(only, o.namespace())
	if len(findings) > 0 {
		return nil, nil, fmt.Errorf("reading Services: %s", findings[0])
	}
	var out []migrate.Service
	for _, object := range typed {
		s, ok := object.(*corev1.Service)
		if !ok || s.Spec.Type != corev1.ServiceTypeLoadBalancer || meta.FindStatusCondition(s.Status.Conditions, kube.ConditionAllocated) != nil {
			continue
		}
		svc, refusal := kube.Service(s, nil)
		class := ""
		if s.Spec.LoadBalancerClass != nil {
			class = *s.Spec.LoadBalancerClass
		}
		out = append(out, migrate.Service{Service: svc, Class: class, Refusal: refusal})
	}
	return out, typed, nil
}

// lost asks the allocator which Services would not keep what they have with the converted pools.
func (o *options) lost(r migrate.Result, services []migrate.Service, typed []client.Object) []string {
	var out []string
	for _, class := range classes(services) {
		w := dryrun.World{Objects: typed, Options: o.kube()}
		w.Options.Class, w.Options.RequireClass = class, class != ""
		for _, object := range r.Objects {
			w.Objects = w.Objects.With(object.(client.Object))
		}
		outcomes := w.Outcomes(time.Now())
		for _, s := range services {
			if s.Class != class || len(s.Ingress) == 0 {
				continue
			}
			if got := outcomes[s.Key]; !slices.Equal(got.Addrs, s.Addrs()) || got.Refusal.Reason == lb.AddressOutsidePools {
				out = append(out, fmt.Sprintf("Service %s has %v and would have %v: %s", s.Key, s.Addrs(), got.Addrs, got.Refusal))
			}
		}
	}
	return out
}

func classes(services []migrate.Service) []string {
	var out []string
	for _, s := range services {
		out = append(out, s.Class)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
