package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/fairlead-lb/fairlead/lab/control"
)

func newNodeCommand(flags *labFlags) *cobra.Command {
	command := &cobra.Command{Use: "node", Short: "Switch nodes off and on, drain them"}
	command.AddCommand(
		request(flags, "poweroff NODE", "Kill every process of the node and take its links down, at once", (*control.Client).PowerOff),
		request(flags, "poweron NODE", "Boot a node that is off; what it had on disk is still there", (*control.Client).PowerOn),
		newDrainCommand(flags),
	)
	return command
}

func newDrainCommand(flags *labFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "drain NODE [-- KUBECTL FLAGS]",
		Short: "Cordon the node and evict its pods, with kubectl drain",
		Long: `Cordon the node and evict its pods, with kubectl drain --ignore-daemonsets
--delete-emptydir-data --force. Undo it with fairlab kubectl uncordon NODE.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			drain := []string{"kubectl", "drain", "--ignore-daemonsets", "--delete-emptydir-data", "--force"}
			return become(flags, "fairlab-kube", append(drain, args...))
		},
	}
}

func newLinkCommand(flags *labFlags) *cobra.Command {
	command := &cobra.Command{Use: "link", Short: "Cut and heal nodes' LAN links"}
	command.AddCommand(
		request(flags, "cut NODE", "Take the carrier from the node's eth0; its management link stays", (*control.Client).CutLink),
		request(flags, "heal NODE", "Give the carrier back", (*control.Client).HealLink),
	)
	return command
}

func newAPIServerCommand(flags *labFlags) *cobra.Command {
	command := &cobra.Command{Use: "apiserver", Short: "Stop and start the API server"}
	var force bool
	stop := &cobra.Command{
		Use: "stop", Short: "Stop the API server until it is started again", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := flags.client()
			if err != nil {
				return err
			}
			return client.StopAPIServer(cmd.Context(), force)
		},
	}
	stop.Flags().BoolVar(&force, "force", false, "kill it, as a crash would")
	start := &cobra.Command{
		Use: "start", Short: "Start the API server and wait until it is ready", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := flags.client()
			if err != nil {
				return err
			}
			return client.StartAPIServer(cmd.Context())
		},
	}
	command.AddCommand(stop, start)
	return command
}

// request is a command that asks the supervisor to do something to a node.
func request(flags *labFlags, use, short string, do func(*control.Client, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := flags.client()
			if err != nil {
				return err
			}
			return do(client, cmd.Context(), args[0])
		},
	}
}
