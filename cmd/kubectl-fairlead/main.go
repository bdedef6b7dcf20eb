package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "dev"

// The exit codes; docs/kubectl.md lists them.
const (
	exitFound = 1 // something is wrong or different; it has been printed
	exitError = 2 // the question could not be answered
)

// errFound ends the program with exitFound and no further message.
var errFound = errors.New("something was found")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	switch err := root.ExecuteContext(ctx); {
	case err == nil:
		return 0
	case errors.Is(err, errFound):
		return exitFound
	default:
		fmt.Fprintln(errs, "Error:", err)
		return exitError
	}
}

func newRootCommand() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:   "kubectl-fairlead",
		Short: "See and judge what Fairlead does",
		Long: `See and judge what Fairlead does. Nothing in the cluster is changed.

The exit code is 0 if all is well, 1 if something was found (a refusal, a difference, a no), 2 if the question could not be
answered.`,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl fairlead"},
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return o.validate()
		},
	}
	o.bind(root.PersistentFlags())
	root.AddCommand(newStatusCommand(o), newExplainCommand(o), newPoolsCommand(o), newBGPCommand(o), newTopCommand(o), newDashboardCommand(o), newDrainCommand(o),
		newLintCommand(o), newDiffCommand(o), newMigrateCommand(o), newBundleCommand(o))
	return root
}
