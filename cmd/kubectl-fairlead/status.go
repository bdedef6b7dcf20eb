package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-lb/fairlead/internal/explain"
	"github.com/fairlead-lb/fairlead/lb"
)

func newStatusCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the installation at a glance, and what is wrong",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, _, err := o.facts(cmd.Context())
			if err != nil {
				return err
			}
			v := f.Overview()
			done, err := o.encode(cmd.OutOrStdout(), v)
			if err == nil && !done {
				err = printOverview(cmd, v)
			}
			if err == nil && len(v.Problems) > 0 {
				return errFound
			}
			return err
		},
	}
}

func printOverview(cmd *cobra.Command, v explain.Overview) error {
	out := cmd.OutOrStdout()
	ready := 0
	for _, p := range v.Controller {
		if p.Ready {
			ready++
		}
	}
	fmt.Fprintf(out, "controller: %d of %d pods ready\nServices:   %d, %d without an address\n\n", ready, len(v.Controller), v.Services, v.Pending)
	rows := [][]string{{"NODE", "SPEAKER", "ENGINE", "ANNOUNCES", "KNOWS", "BGP"}}
	for _, n := range v.Nodes {
		rows = append(rows, []string{string(n.Node), n.State, n.Engine, strconv.Itoa(n.Announced), strconv.Itoa(n.Members), n.BGP})
	}
	if err := table(out, rows); err != nil {
		return err
	}
	fmt.Fprintln(out)
	if err := table(out, poolRows(v.Pools)); err != nil {
		return err
	}
	if len(v.Problems) == 0 {
		fmt.Fprintln(out, "\n"+paint(out, green, "all is well"))
		return nil
	}
	fmt.Fprintf(out, "\n%d problems:\n", len(v.Problems))
	for _, p := range v.Problems {
		fmt.Fprintln(out, "  "+paint(out, red, p))
	}
	return nil
}

func poolRows(pools []explain.PoolState) [][]string {
	rows := [][]string{{"POOL", "ASSIGNED", "AVAILABLE", "DAYS LEFT", "SERVICES"}}
	for _, p := range pools {
		days := ""
		if p.DaysLeft != nil {
			days = strconv.Itoa(int(*p.DaysLeft))
		}
		rows = append(rows, []string{p.Name, strconv.FormatInt(p.Assigned, 10), strconv.FormatInt(p.Available, 10), days, strconv.Itoa(p.Services)})
	}
	return rows
}

func newPoolsCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "pools [NAME]",
		Short:   "Show how full the pools are, or who has which address of one",
		Example: "  kubectl fairlead pools\n  kubectl fairlead pools default",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			objects, err := o.objects(cmd.Context())
			if err != nil {
				return err
			}
			f, err := explain.Read(cmd.Context(), objects, o.kube())
			if err != nil {
				return err
			}
			if len(args) == 0 {
				pools := f.Overview().Pools
				if done, err := o.encode(cmd.OutOrStdout(), pools); done {
					return err
				}
				return table(cmd.OutOrStdout(), poolRows(pools))
			}
			holders, err := f.Holders(args[0])
			if err != nil {
				return err
			}
			if done, err := o.encode(cmd.OutOrStdout(), holders); done {
				return err
			}
			rows := [][]string{{"ADDRESS", "SERVICES"}}
			for _, h := range holders {
				rows = append(rows, []string{h.Address.String(), strings.Join(h.Services, ", ")})
			}
			return table(cmd.OutOrStdout(), rows)
		},
	}
}

func newDrainCommand(o *options) *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "drain NODE --dry-run",
		Short: "Say what would happen if the node were drained",
		Long: `Say what would happen if the node were drained: which addresses would move where, how many connections go through the node
now, and which Services have pods there. It evicts nothing: that is kubectl drain's part.

The exit code is 1 if an address would have no node.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !dry {
				return fmt.Errorf("only --dry-run is offered: `kubectl drain %s` drains the node", args[0])
			}
			f, _, err := o.facts(cmd.Context())
			if err != nil {
				return err
			}
			e, err := f.Drain(lb.NodeName(args[0]))
			if err != nil {
				return err
			}
			return o.printEvacuation(cmd, e)
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say it, and do nothing")
	return cmd
}

func (o *options) printEvacuation(cmd *cobra.Command, e explain.Evacuation) error {
	done, err := o.encode(cmd.OutOrStdout(), e)
	if err != nil {
		return err
	}
	moves := [][]string{{"ADDRESS", "GOES TO", "CONNECTIONS", "SERVICES", "WHY"}}
	stuck := false
	for _, m := range e.Moves {
		moves = append(moves, []string{m.Address.String(), string(m.To), strconv.Itoa(m.Connections), strings.Join(m.Services, ", "),
			lb.Refusal{Reason: m.Reason, Message: m.Message}.String()})
		stuck = stuck || m.To == ""
	}
	losses := [][]string{{"SERVICE", "READY PODS HERE", "OF"}}
	for _, l := range e.Losses {
		losses = append(losses, []string{l.Service, strconv.Itoa(l.Here), strconv.Itoa(l.Total)})
	}
	if !done {
		if err := table(cmd.OutOrStdout(), moves); err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout())
		if err := table(cmd.OutOrStdout(), losses); err != nil {
			return err
		}
	}
	if stuck {
		return errFound
	}
	return nil
}
