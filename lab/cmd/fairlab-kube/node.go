package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/component-base/logs"

	"github.com/fairlead-lb/fairlead/lab/node"
	"github.com/fairlead-lb/fairlead/lab/nodeconfig"
)

func newNodeCommand() *cobra.Command {
	var file string
	command := &cobra.Command{
		Use:          "node",
		Short:        "A node: the kubelet on the lab's container runtime, in namespaces that fairlab made",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logs.InitLogs()
			defer logs.FlushLogs()
			config, err := nodeconfig.Read(file)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			if err := node.Run(ctx, config, slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
				return fmt.Errorf("running node %s: %w", config.Name, err)
			}
			return nil
		},
	}
	command.Flags().StringVar(&file, "config", "", "JSON file with the node's configuration")
	_ = command.MarkFlagRequired("config") // errors only for an unknown flag
	return command
}
