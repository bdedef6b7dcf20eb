package main

import (
	"strconv"

	"github.com/spf13/cobra"
)

func newTopCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "top",
		Short: "Show the connections of every Service, the busiest first",
		Long: `Show the connections of every Service, the busiest first, as the kernels of the nodes count them. The nftables engine keeps no
such count.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, _, err := o.facts(cmd.Context())
			if err != nil {
				return err
			}
			loads := f.Loads()
			if done, err := o.encode(cmd.OutOrStdout(), loads); done {
				return err
			}
			rows := [][]string{{"SERVICE", "CONNECTIONS", "PODS", "NODES"}}
			for _, l := range loads {
				rows = append(rows, []string{l.Service, strconv.Itoa(l.Connections), strconv.Itoa(l.Pods), strconv.Itoa(l.Nodes)})
			}
			return table(cmd.OutOrStdout(), rows)
		},
	}
}
