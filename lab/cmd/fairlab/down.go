package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-lb/fairlead/lab/state"
)

// downTimeout bounds the end of a few hundred killed processes.
const downTimeout = time.Minute

func newDownCommand(flags *labFlags) *cobra.Command {
	var all bool
	command := &cobra.Command{
		Use:   "down",
		Short: "Stop the lab and remove all that is of it",
		Long: `Stop the lab and remove all that is of it, after a crash too.

The lab's pid 1 is killed, with which the kernel ends every process, namespace,
link, route and mount of the lab; then the state directory is removed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if all {
				return downAll(cmd.Context(), flags)
			}
			return down(cmd.Context(), flags)
		},
	}
	command.Flags().BoolVar(&all, "all", false, "every lab of the state directory")
	return command
}

// downAll takes every lab down, whose names are those of the directories.
func downAll(ctx context.Context, flags *labFlags) error {
	entries, err := os.ReadDir(flags.state)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing labs: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		lab := &labFlags{name: entry.Name(), state: flags.state}
		if dir, err := lab.dir(); err == nil && isLab(dir) {
			errs = append(errs, down(ctx, lab))
		}
	}
	return errors.Join(errs...)
}

// isLab keeps `down --all` in a wrong directory from removing what is not a lab.
func isLab(dir state.Dir) bool {
	_, err := os.Stat(dir.Options())
	return err == nil
}

func down(ctx context.Context, flags *labFlags) error {
	dir, err := flags.dir()
	if err != nil {
		return err
	}
	lock, err := dir.Acquire()
	if err != nil {
		return err
	}
	defer lock.Release()
	return remove(ctx, dir)
}

// remove ends the lab and all that is left of it. The caller holds the lock.
func remove(ctx context.Context, dir state.Dir) error {
	factor, err := slow()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(factor*float64(downTimeout)))
	defer cancel()
	if process, alive := dir.Supervisor(); alive {
		if err := process.Kill(ctx); err != nil {
			return err
		}
	}
	return removeState(dir)
}

// removeState removes the state directory of a lab that does not run.
func removeState(dir state.Dir) error {
	if err := os.RemoveAll(string(dir)); err != nil {
		return fmt.Errorf("removing state directory: %w", err)
	}
	return nil
}
