package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/fairlead-lb/fairlead/internal/explain"
	"github.com/fairlead-lb/fairlead/lb"
)

func newBGPCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "bgp",
		Short: "Show the BGP sessions of all nodes",
		Long:  "Show the BGP sessions of all nodes, as their speakers report them. The exit code is 1 if one is not established.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			objects, err := o.objects(cmd.Context())
			if err != nil {
				return err
			}
			f, err := explain.Read(cmd.Context(), objects, o.kube())
			if err != nil {
				return err
			}
			return o.printSessions(cmd, f.Sessions())
		},
	}
}

func (o *options) printSessions(cmd *cobra.Command, sessions []explain.Session) error {
	done, err := o.encode(cmd.OutOrStdout(), sessions)
	if err != nil {
		return err
	}
	rows := [][]string{{"NODE", "PEER", "ADDRESS", "STATE", "FOR", "SENT", "RECEIVED", "BFD", "WHY"}}
	down := false
	for _, s := range sessions {
		since := ""
		if s.Since != nil {
			since = duration.HumanDuration(time.Since(s.Since.Time))
		}
		why := lb.Refusal{Reason: lb.Reason(s.Reason), Message: s.Message}.String()
		if o.output == "wide" && s.LastError != "" {
			why = strings.TrimPrefix(why+"; last error: "+s.LastError, "; ")
		}
		rows = append(rows, []string{string(s.Node), s.Peer, s.Address, s.State, since, strconv.Itoa(int(s.PrefixesSent)), strconv.Itoa(int(s.PrefixesReceived)), s.BFD, why})
		down = down || !s.Up()
	}
	if !done {
		if err := table(cmd.OutOrStdout(), rows); err != nil {
			return err
		}
	}
	if down {
		return errFound
	}
	return nil
}
