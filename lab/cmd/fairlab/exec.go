package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-lb/fairlead/lab/control"
	"github.com/fairlead-lb/fairlead/lab/enter"
	"github.com/fairlead-lb/fairlead/lab/topology"
)

func newExecCommand(flags *labFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "exec client|router|control-plane|NODE -- COMMAND...",
		Short: "Run a command on a member of the lab",
		Long: `Run a command on a member of the lab: in its network, its processes, its /run,
with this machine's files. The exit code is the command's.`,
		Example: "  fairlab exec client -- curl http://192.0.2.200/hostname\n" +
			"  fairlab exec node-1 -- nft list ruleset",
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return execute(cmd.Context(), flags, args[0], args[1:])
		},
	}
}

func newCaptureCommand(flags *labFlags) *cobra.Command {
	var iface string
	command := &cobra.Command{
		Use:     "capture client|router|control-plane|NODE [-i INTERFACE] [-- TCPDUMP ARGUMENTS]",
		Short:   "Show the packets of a member's link, with tcpdump",
		Example: "  fairlab capture client -- arp\n  fairlab capture node-1 -i mgmt0 -- -c 10 tcp port 443",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := exec.LookPath("tcpdump"); err != nil {
				return errors.New("capturing needs the program tcpdump; install the Debian package tcpdump")
			}
			if iface == "" {
				iface = "eth0"
				if args[0] == topology.ControlPlane {
					iface = "mgmt0"
				}
			}
			// -Z root: a file given with -w is the caller's.
			tcpdump := []string{"tcpdump", "-i", iface, "-n", "-e", "-l", "-U", "-Z", "root"}
			return execute(cmd.Context(), flags, args[0], append(tcpdump, args[1:]...))
		},
	}
	command.Flags().StringVarP(&iface, "interface", "i", "", "interface (default: eth0; mgmt0 on the control plane)")
	return command
}

// execute runs a command on a member and ends with its exit code.
func execute(ctx context.Context, flags *labFlags, name string, argv []string) error {
	dir, supervisor, err := flags.running()
	if err != nil {
		return err
	}
	members, err := control.NewClient(dir.ControlSocket()).Members(ctx)
	if err != nil {
		return err
	}
	member, err := pick(members, name)
	if err != nil {
		return err
	}
	code, err := enter.Run(target(supervisor.Pid, member), argv)
	if err != nil {
		return err
	}
	if code != 0 {
		return exitError(code)
	}
	return nil
}

// pick finds a member that is on.
func pick(members []control.Member, name string) (control.Member, error) {
	var names []string
	for _, m := range members {
		if m.Name != name {
			names = append(names, m.Name)
			continue
		}
		if !m.Up {
			return control.Member{}, fmt.Errorf("%s is off; switch it on with `fairlab node poweron %s`", name, name)
		}
		return m, nil
	}
	return control.Member{}, fmt.Errorf("no member %q; there are %s", name, strings.Join(names, ", "))
}

// target translates the supervisor's names for a member into this process's: the
// supervisor's root directory shows the lab's /proc and /run.
func target(supervisor int, member control.Member) enter.Target {
	proc := filepath.Join("/proc", strconv.Itoa(supervisor))
	root := filepath.Join(proc, "root")
	t := enter.Target{Proc: proc, NetNS: filepath.Join(root, member.NetNS)}
	if member.Pid != 0 { // the control plane shares the supervisor's pid namespace
		t.Proc = filepath.Join(root, "proc", strconv.Itoa(member.Pid))
	}
	return t
}
