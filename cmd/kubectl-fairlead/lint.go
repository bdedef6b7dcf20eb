package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-lb/fairlead/internal/dryrun"
)

func newLintCommand(o *options) *cobra.Command {
	var live, strict bool
	cmd := &cobra.Command{
		Use:   "lint FILE...",
		Short: "Judge manifests as the webhook would, and by rules across objects",
		Long: `Judge manifests as the webhook would, offline, with each other as the facts: unknown fields, values that are refused, pools
that overlap, names of nothing, pools that nobody announces, Services that would get no address.

With --live the objects of the cluster count too, as if the manifests were applied over them. Errors are what the API
server would refuse or what has no effect; they make the exit code 1. Warnings do so with --strict only.`,
		Example: "  kubectl fairlead lint manifests/\n  helm template . | kubectl fairlead lint -",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := read(cmd.InOrStdin(), args)
			if err != nil {
				return err
			}
			w := dryrun.World{Options: o.kube()}
			if live {
				if w.Objects, err = o.objects(cmd.Context()); err != nil {
					return err
				}
			}
			found := w.Lint(in, o.namespace(), time.Now())
			wrong := slices.ContainsFunc(found, func(f dryrun.Finding) bool { return strict || f.Severity == dryrun.Error })
			if done, err := o.encode(cmd.OutOrStdout(), found); err != nil {
				return err
			} else if !done {
				for _, f := range found {
					colour := map[dryrun.Severity]string{dryrun.Error: red, dryrun.Warning: yellow}[f.Severity]
					fmt.Fprintln(cmd.OutOrStdout(), paint(cmd.OutOrStdout(), colour, f.String()))
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "%d objects, %d findings\n", len(in), len(found))
			}
			if wrong {
				return errFound
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "judge against the objects of the cluster")
	cmd.Flags().BoolVar(&strict, "strict", false, "warnings make the exit code 1 too")
	return cmd
}
