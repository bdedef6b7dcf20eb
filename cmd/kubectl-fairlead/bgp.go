package main

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/internal/explain"
	"github.com/fairlead-lb/fairlead/lb"
)

// session is one BGP session, as the speaker of its node reports it.
type session struct {
	Node lb.NodeName `json:"node"`
	v1beta1.BGPSession
}

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
			f, err := explain.FromObjects(objects, o.kube())
			if err != nil {
				return err
			}
			sessions := []session{}
			for node, s := range f.Statuses {
				if s.Status.BGP == nil {
					continue
				}
				for _, of := range s.Status.BGP.Sessions {
					sessions = append(sessions, session{node, of})
				}
			}
			slices.SortFunc(sessions, func(a, b session) int { return strings.Compare(string(a.Node)+" "+a.Peer, string(b.Node)+" "+b.Peer) })
			return o.printSessions(cmd, sessions)
		},
	}
}

func (o *options) printSessions(cmd *cobra.Command, sessions []session) error {
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
		down = down || s.State != "Established"
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
