package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/fairlead-lb/fairlead/lab/control"
)

func newStatusCommand(flags *labFlags) *cobra.Command {
	var output string
	command := &cobra.Command{
		Use:   "status",
		Short: "Show the lab's members, control plane and nodes",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return fmt.Errorf("output %q: want json or nothing", output)
			}
			client, err := flags.client()
			if err != nil {
				return err
			}
			status, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			if output == "json" {
				encoder := json.NewEncoder(os.Stdout)
				encoder.SetIndent("", "  ")
				return encoder.Encode(status)
			}
			return printStatus(os.Stdout, status)
		},
	}
	command.Flags().StringVarP(&output, "output", "o", "", "json")
	return command
}

func printStatus(out io.Writer, status control.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	phase := "starting, or did not come up"
	if status.Ready {
		phase = "up"
	}
	fmt.Fprintf(w, "lab %s: %s, %d nodes, kube-proxy %s, router %s\n", status.Lab.Name, phase, status.Lab.Nodes, status.Lab.KubeProxy, status.Lab.Router)
	fmt.Fprintf(w, "kubeconfig: %s\n", status.Kubeconfig)
	fmt.Fprintf(w, "\nCONTROL PLANE\tLAB PID\tHEALTH\n")
	for _, c := range status.ControlPlane {
		fmt.Fprintf(w, "%s\t%d\t%s\n", c.Name, c.Pid, c.Health)
	}
	fmt.Fprintf(w, "\nMEMBER\tPOWER\tLAB PID\tLINKS\tADDRESSES\tKUBERNETES\tDATAPATH\n")
	for _, m := range status.Members {
		kubernetes, engine := nodeColumns(m.Node)
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", m.Name, onOff(m.Up), m.Pid, links(m.Links), addresses(m), kubernetes, engine)
	}
	return w.Flush()
}

func nodeColumns(node *control.Node) (kubernetes, engine string) {
	switch {
	case node == nil:
		return "-", "-"
	case node.Ready:
		kubernetes = "Ready"
	default:
		kubernetes = "NotReady"
		if node.Reason != "" {
			kubernetes += " (" + node.Reason + ")"
		}
	}
	engine = node.Engine
	if engine == "" {
		engine = "-"
	}
	return kubernetes, engine
}

func links(links []control.Link) string {
	texts := make([]string, 0, len(links))
	for _, link := range links {
		state := "down"
		if link.Up {
			state = "up"
		}
		texts = append(texts, fmt.Sprintf("%s:%s", link.Name, state))
	}
	return strings.Join(texts, " ")
}

func addresses(m control.Member) string {
	texts := make([]string, 0, len(m.Addrs))
	for _, addr := range m.Addrs {
		texts = append(texts, addr.String())
	}
	return strings.Join(texts, " ")
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}
