package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fairlead-lb/fairlead/lab/container"
	"github.com/fairlead-lb/fairlead/lab/enter"
)

// version is set by the linker.
var version = "dev"

// exitNotStarted is what shells answer for a command that is not found.
const exitNotStarted = 127

// exitError ends the program with a code and without a further message.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] { // before all else: there are many of them
		case "container":
			os.Exit(container.Main(os.Args[2:]))
		case "pause":
			os.Exit(container.Pause(os.Args[2:]))
		case enter.ExecArg:
			fmt.Fprintln(os.Stderr, "fairlab:", enter.Exec(os.Args[2:]))
			os.Exit(exitNotStarted)
		}
	}
	os.Exit(run())
}

func run() int {
	err := newRootCommand().ExecuteContext(context.Background())
	var exit exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	}
	fmt.Fprintln(os.Stderr, "fairlab:", err)
	return 1
}

func newRootCommand() *cobra.Command {
	lab := &labFlags{}
	root := &cobra.Command{
		Use:           "fairlab",
		Short:         "A real Kubernetes cluster on one machine, to try and test Fairlead with",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{
			DisableDefaultCmd: true,
		},
	}
	lab.register(root)
	root.AddCommand(
		newUpCommand(lab), newDownCommand(lab), newStatusCommand(lab), newInstallCommand(lab),
		newKubectlCommand(lab), newHelmCommand(lab), newKubeconfigCommand(lab),
		newExecCommand(lab), newCaptureCommand(lab), newLogsCommand(lab),
		newNodeCommand(lab), newLinkCommand(lab), newAPIServerCommand(lab),
		newSuperviseCommand(), newMemberCommand(),
	)
	return root
}

// interruptible returns a context that ends with SIGINT or SIGTERM. Commands that
// hand over to another program leave signals to that program instead.
func interruptible(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
}
