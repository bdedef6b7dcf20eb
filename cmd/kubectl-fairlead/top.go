package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/fairlead-lb/fairlead/internal/explain"
)

func newTopCommand(o *options) *cobra.Command {
	var watch bool
	var interval time.Duration
	command := &cobra.Command{
		Use:   "top",
		Short: "Show the connections and bytes of every Service, the busiest first",
		Long: `Show the connections that every Service was sent, and the bytes of both directions, as the kernels of the nodes count them at
the endpoints that there are, since their speakers started; with --watch also how many come per second. In mode none Fairlead counts nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval < time.Second {
				return fmt.Errorf("--interval is %v, want 1s or more", interval)
			}
			f, _, err := o.facts(cmd.Context())
			if err != nil {
				return err
			}
			if !watch {
				return o.loads(cmd.OutOrStdout(), f.Loads(nil, 0), false)
			}
			return o.watchLoads(cmd.Context(), cmd.OutOrStdout(), &f, interval)
		},
	}
	command.Flags().BoolVarP(&watch, "watch", "w", false, "go on until interrupted, and tell the rates")
	command.Flags().DurationVar(&interval, "interval", 2*time.Second, "with --watch: how often")
	return command
}

// watchLoads prints the loads again and again, each time with the rates since the last, until ctx is done.
func (o *options) watchLoads(ctx context.Context, out io.Writer, before *explain.Facts, interval time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	read := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		f, _, err := o.facts(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		now := time.Now()
		loads := f.Loads(before, now.Sub(read))
		before, read = &f, now
		if file, ok := out.(*os.File); ok && o.output == "" && term.IsTerminal(int(file.Fd())) {
			fmt.Fprint(out, "\x1b[H\x1b[2J") // a clear screen
		}
		if err := o.loads(out, loads, true); err != nil {
			return err
		}
	}
}

// loads prints one reading.
func (o *options) loads(out io.Writer, loads []explain.Load, rates bool) error {
	if o.output == "yaml" && rates {
		fmt.Fprintln(out, "---")
	}
	if done, err := o.encode(out, loads); done {
		return err
	}
	rows := [][]string{{"SERVICE", "CONNECTIONS", "BYTES", "PODS", "NODES"}}
	if rates {
		rows[0] = append(rows[0], "CONNECTIONS/S", "BYTES/S")
	}
	for _, l := range loads {
		row := []string{l.Service, strconv.FormatUint(l.Opened, 10), size(float64(l.Bytes)), strconv.Itoa(l.Pods), strconv.Itoa(l.Nodes)}
		if rates {
			row = append(row, strconv.FormatFloat(l.OpenedPerSecond, 'f', 1, 64), size(l.BytesPerSecond))
		}
		rows = append(rows, row)
	}
	return table(out, rows)
}

// size writes a number of bytes with three or four digits.
func size(bytes float64) string {
	const units = "kMGTPE"
	if bytes < 1000 {
		return strconv.FormatFloat(bytes, 'f', 0, 64)
	}
	unit := -1
	for ; bytes >= 1000 && unit < len(units)-1; unit++ {
		bytes /= 1000
	}
	return strconv.FormatFloat(bytes, 'f', 1, 64) + units[unit:unit+1]
}
