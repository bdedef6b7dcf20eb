package main

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-lb/fairlead/internal/explain"
	"github.com/fairlead-lb/fairlead/internal/neighbours"
	"github.com/fairlead-lb/fairlead/lb"
)

// probeTime is how long the segment is asked, each 100 ms.
const probeTime = 500 * time.Millisecond

func newExplainCommand(o *options) *cobra.Command {
	parent := &cobra.Command{
		Use:   "explain",
		Short: "Say why traffic reaches a Service, or why not",
		Long: `Say why traffic reaches a Service, or why not: allocation, election, announcement, wire, datapath, endpoints, health, and
dsr where the Service asks for it. The first step that says no is the cause.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	svc := &cobra.Command{
		Use:     "svc [NAMESPACE/]NAME",
		Short:   "Explain a Service",
		Example: "  kubectl fairlead explain svc shop/web",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key := lb.ServiceKey{Namespace: o.namespace(), Name: args[0]}
			if namespace, name, ok := strings.Cut(args[0], "/"); ok {
				key = lb.ServiceKey{Namespace: namespace, Name: name}
			}
			return o.explain(cmd, func(f *explain.Facts) []explain.Chain { return f.Service(key) })
		},
	}
	ip := &cobra.Command{
		Use:     "ip ADDRESS",
		Short:   "Explain an address",
		Example: "  kubectl fairlead explain ip 192.0.2.200",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := netip.ParseAddr(args[0])
			if err != nil {
				return fmt.Errorf("reading the address: %w", err)
			}
			return o.explain(cmd, func(f *explain.Facts) []explain.Chain { return f.Address(addr) })
		},
	}
	parent.PersistentFlags().BoolVar(&o.probe, "probe", false, "ask the segment who answers for the address; needs CAP_NET_RAW on a machine of the nodes' segment")
	parent.AddCommand(svc, ip)
	return parent
}

// explain prints chains, and ends with exitFound if a step of one says no.
func (o *options) explain(cmd *cobra.Command, of func(*explain.Facts) []explain.Chain) error {
	f, _, err := o.facts(cmd.Context())
	if err != nil {
		return err
	}
	chains := of(&f)
	if o.probe {
		for _, c := range chains {
			if err := ask(&f, c.Address); err != nil {
				return err
			}
		}
		chains = of(&f)
	}
	done, err := o.encode(cmd.OutOrStdout(), chains)
	if err != nil {
		return err
	}
	broken := false
	for _, c := range chains {
		if !done {
			printChain(cmd.OutOrStdout(), c)
		}
		broken = broken || c.Cause() != nil
	}
	if broken {
		return errFound
	}
	return nil
}

// ask asks the segment who answers for the address, and adds that to the facts.
func ask(f *explain.Facts, addr netip.Addr) error {
	if !addr.IsValid() {
		return nil
	}
	link, err := neighbours.Link(addr)
	if err != nil {
		return err
	}
	got, err := neighbours.Who(link, addr, probeTime)
	if err != nil {
		return err
	}
	if f.Answers == nil {
		f.Answers = map[netip.Addr][]string{}
	}
	f.Answers[addr] = slices.Sorted(maps.Keys(got))
	return nil
}

func printChain(out io.Writer, c explain.Chain) {
	title := "Service " + c.Service
	if c.Address.IsValid() {
		title = strings.TrimSpace(c.Address.String() + "  " + title)
	}
	if c.Service == "" {
		title = c.Address.String()
	}
	fmt.Fprintln(out, title)
	colours := map[explain.Verdict]string{explain.Yes: green, explain.No: red, explain.Unknown: yellow}
	for _, s := range c.Steps {
		text := s.Message
		if s.Reason != "" {
			text = strings.TrimSuffix(string(s.Reason)+": "+text, ": ")
		}
		evidence := s.Evidence
		if text == "" && len(evidence) > 0 {
			text, evidence = evidence[0], evidence[1:]
		}
		word := fmt.Sprintf("%-7s", s.Verdict)
		if colour, ok := colours[s.Verdict]; ok {
			word = paint(out, colour, word)
		}
		fmt.Fprintf(out, "  %s  %-12s  %s\n", word, s.Name, text)
		for _, e := range evidence {
			fmt.Fprintf(out, "  %23s  %s\n", "", e)
		}
		if s.Next != "" && s.Verdict != explain.No {
			fmt.Fprintf(out, "  %23s  do: %s\n", "", s.Next)
		}
	}
	if cause := c.Cause(); cause != nil {
		fmt.Fprintf(out, "cause: %s\n", paint(out, red, strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%s: %s", cause.Reason, cause.Message), ": "), ": ")))
		if cause.Next != "" {
			fmt.Fprintf(out, "do:    %s\n", cause.Next)
		}
	}
}
