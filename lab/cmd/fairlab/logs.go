package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-lb/fairlead/lab/state"
)

// logPoll is how often `logs -f` looks for more.
const logPoll = 200 * time.Millisecond

func newLogsCommand(flags *labFlags) *cobra.Command {
	var follow bool
	command := &cobra.Command{
		Use:   "logs [COMPONENT|NODE|NODE/DAEMON] [-f]",
		Short: "Print a log of the lab; without an argument, say which there are",
		Long: `Print a log of the lab: of a component of the control plane, of the supervisor, of
all daemons of a member, or of one of them. Without an argument, say which there are.
Pods' logs are kubectl's: fairlab kubectl logs.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := flags.dir() // a lab that was killed has logs, too
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return listLogs(dir)
			}
			ctx, stop := interruptible(cmd)
			defer stop()
			return printLogs(ctx, dir, args[0], follow)
		},
	}
	command.Flags().BoolVarP(&follow, "follow", "f", false, "go on until interrupted")
	return command
}

// listLogs prints the names that printLogs takes.
func listLogs(dir state.Dir) error {
	return filepath.WalkDir(dir.Logs(), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("no lab has logs in %s", dir.Logs())
		}
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == "pods" {
			return fs.SkipDir // kubectl's
		}
		if name, isLog := strings.CutSuffix(path, ".log"); isLog {
			fmt.Println(strings.TrimPrefix(name, dir.Logs()+"/"))
		}
		return nil
	})
}

func printLogs(ctx context.Context, dir state.Dir, name string, follow bool) error {
	if !fs.ValidPath(name) {
		return fmt.Errorf("%q is no name of a log", name)
	}
	paths, err := filepath.Glob(filepath.Join(dir.MemberLogs(name), "*.log"))
	if err != nil {
		return fmt.Errorf("looking for logs: %w", err)
	}
	if _, err := os.Stat(dir.Log(name)); err == nil {
		paths = []string{dir.Log(name)}
	}
	if len(paths) == 0 {
		return fmt.Errorf("no log called %s; `fairlab logs` says which there are", name)
	}
	var logs []*logFile
	for _, path := range paths {
		log := &logFile{path: path}
		if len(paths) > 1 {
			log.prefix = strings.TrimSuffix(filepath.Base(path), ".log") + ": "
		}
		logs = append(logs, log)
	}
	for {
		for _, log := range logs {
			if err := log.print(os.Stdout, follow); err != nil {
				return err
			}
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(logPoll):
		}
	}
}

// logFile is a log of which a part was printed.
type logFile struct {
	path   string
	prefix string // of every line
	offset int64
}

// print writes what is new, in whole lines when more is to come.
func (l *logFile) print(out io.Writer, more bool) error {
	file, err := os.Open(l.path)
	if err != nil {
		return fmt.Errorf("opening log: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.NewSectionReader(file, l.offset, 1<<40))
	if err != nil {
		return fmt.Errorf("reading log: %w", err)
	}
	if more {
		data = data[:strings.LastIndexByte(string(data), '\n')+1]
	}
	l.offset += int64(len(data))
	for line := range strings.Lines(string(data)) {
		if _, err := io.WriteString(out, l.prefix+line); err != nil {
			return fmt.Errorf("printing log: %w", err)
		}
	}
	return nil
}
