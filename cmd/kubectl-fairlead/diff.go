package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-lb/fairlead/internal/dryrun"
	"github.com/fairlead-lb/fairlead/lb"
)

func newDiffCommand(o *options) *cobra.Command {
	var from []string
	cmd := &cobra.Command{
		Use:   "diff FILE...",
		Short: "Say which Service would get, keep or lose which address if the manifests were applied",
		Long: `Say which Service would get, keep or lose which address, and which advertisements would cover it, if the manifests were
applied to the cluster, or with --from to what other manifests say. Services that stay as they are, are not listed.

The exit code is 1 if something would be different, and if the webhook would refuse a manifest, in which case nothing else is
said.`,
		Example: "  kubectl fairlead diff pools.yaml",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := read(cmd.InOrStdin(), args)
			if err != nil {
				return err
			}
			w := dryrun.World{Options: o.kube(), Rest: time.Minute}
			if len(from) > 0 {
				base, err := read(cmd.InOrStdin(), from)
				if err != nil {
					return err
				}
				typed, wrong := w.Parse(base, o.namespace())
				if len(wrong) > 0 {
					return fmt.Errorf("reading --from: %s", wrong[0])
				}
				w.Objects = typed
			} else if w.Objects, err = o.objects(cmd.Context()); err != nil {
				return err
			}
			if refused(cmd, w.Lint(in, o.namespace(), time.Now())) {
				return errFound
			}
			typed, _ := w.Parse(in, o.namespace())
			return o.printChanges(cmd, w.Diff(typed, time.Now()))
		},
	}
	cmd.Flags().StringSliceVar(&from, "from", nil, "take what there is from these files instead of the cluster")
	return cmd
}

// refused prints what would not go through.
func refused(cmd *cobra.Command, found []dryrun.Finding) bool {
	any := false
	for _, f := range found {
		if f.Severity == dryrun.Error {
			fmt.Fprintln(cmd.ErrOrStderr(), paint(cmd.ErrOrStderr(), red, f.String()))
			any = true
		}
	}
	return any
}

func (o *options) printChanges(cmd *cobra.Command, changes []dryrun.Change) error {
	views := []changeView{}
	for _, c := range changes {
		views = append(views, changeView{c.Service.String(), c.Word(), viewOf(c.Before), viewOf(c.After)})
	}
	done, err := o.encode(cmd.OutOrStdout(), views)
	switch {
	case err != nil:
		return err
	case !done && len(changes) == 0:
		fmt.Fprintln(cmd.ErrOrStderr(), "no Service would be different")
	case !done:
		rows := [][]string{{"SERVICE", "", "NOW", "THEN", "WHY"}}
		if o.output == "wide" {
			rows[0] = append(rows[0], "ADVERTISED NOW", "ADVERTISED THEN")
		}
		for _, c := range changes {
			row := []string{c.Service.String(), c.Word(), join(c.Before.Addrs), join(c.After.Addrs), c.After.Refusal.String()}
			if o.output == "wide" {
				row = append(row, strings.Join(c.Before.Advertised, ", "), strings.Join(c.After.Advertised, ", "))
			}
			rows = append(rows, row)
		}
		if err := table(cmd.OutOrStdout(), rows); err != nil {
			return err
		}
	}
	if len(changes) > 0 {
		return errFound
	}
	return nil
}

// changeView is what -o json and -o yaml print of one Service.
type changeView struct {
	Service string      `json:"service"`
	Change  string      `json:"change"`
	Before  outcomeView `json:"before"`
	After   outcomeView `json:"after"`
}

type outcomeView struct {
	Addresses  []netip.Addr `json:"addresses,omitempty"`
	Pool       string       `json:"pool,omitempty"`
	Advertised []string     `json:"advertised,omitempty"`
	Reason     lb.Reason    `json:"reason,omitempty"`
	Message    string       `json:"message,omitempty"`
}

func viewOf(o dryrun.Outcome) outcomeView {
	return outcomeView{o.Addrs, o.Pool, o.Advertised, o.Refusal.Reason, o.Refusal.Message}
}

// join writes addresses with commas between them.
func join(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ",")
}
