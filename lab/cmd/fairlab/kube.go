package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fairlead-lb/fairlead/lab/topology"
)

func newKubectlCommand(flags *labFlags) *cobra.Command {
	return &cobra.Command{
		Use:                "kubectl [--name NAME] ARGS...",
		Short:              "Run kubectl against the lab",
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			args, err := flags.split(args)
			if err != nil {
				return err
			}
			return become(flags, "fairlab-kube", append([]string{"kubectl"}, args...))
		},
	}
}

func newHelmCommand(flags *labFlags) *cobra.Command {
	return &cobra.Command{
		Use:                "helm [--name NAME] ARGS...",
		Short:              "Run Helm against the lab",
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			args, err := flags.split(args)
			if err != nil {
				return err
			}
			return become(flags, "helm", args)
		},
	}
}

func newKubeconfigCommand(flags *labFlags) *cobra.Command {
	var raw, client bool
	command := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print the path of the administrator's kubeconfig",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, _, err := flags.running()
			if err != nil {
				return err
			}
			if !raw && !client {
				fmt.Println(dir.Kubeconfig())
				return nil
			}
			data, err := os.ReadFile(dir.Kubeconfig())
			if err != nil {
				return fmt.Errorf("reading kubeconfig: %w", err)
			}
			if client {
				data = hostServer.ReplaceAll(data, []byte("https://"+topology.ControlPlaneAddr().String()+":443"))
			}
			_, err = os.Stdout.Write(data)
			return err
		},
	}
	command.Flags().BoolVar(&raw, "raw", false, "print its content")
	command.Flags().BoolVar(&client, "client", false, "print the content of one for programs on the lab's client")
	return command
}

// hostServer is where this machine reaches the API server.
var hostServer = regexp.MustCompile(`https://127\.0\.0\.1:\d+`)

func newInstallCommand(flags *labFlags) *cobra.Command {
	var sets, values []string
	var chart, timeout string
	command := &cobra.Command{
		Use:   "install",
		Short: "Install or upgrade Fairlead from the checkout, with the locally built binaries",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if chart == "" {
				var err error
				if chart, err = findChart(); err != nil {
					return err
				}
			}
			args := []string{
				"upgrade", "--install", "fairlead", chart, "--namespace", "fairlead-system", "--create-namespace",
				"--wait", "--timeout", timeout, "--set", "controller.image.tag=dev,speaker.image.tag=dev",
			}
			for _, file := range values {
				args = append(args, "--values", file)
			}
			for _, set := range sets {
				args = append(args, "--set", set)
			}
			return become(flags, "helm", args)
		},
	}
	f := command.Flags()
	f.StringArrayVar(&sets, "set", nil, "value of the chart, key=value; may be given again")
	f.StringArrayVar(&values, "values", nil, "file with values of the chart; may be given again")
	f.StringVar(&chart, "chart", "", "directory of the chart (default: charts/fairlead of the checkout)")
	f.StringVar(&timeout, "timeout", "5m", "how long to wait until everything is ready")
	return command
}

// findChart looks beside the programs, then upwards from the working directory.
func findChart() (string, error) {
	const chart = "charts/fairlead"
	var starts []string
	if self, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(self))
	}
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	for _, dir := range starts {
		for ; ; dir = filepath.Dir(dir) {
			path := filepath.Join(dir, chart)
			if _, err := os.Stat(filepath.Join(path, "Chart.yaml")); err == nil {
				return path, nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", fmt.Errorf("finding %s above %s: not there; use --chart", chart, strings.Join(starts, " and "))
}

// become replaces this process by another program of the checkout, with the lab's
// kubeconfig.
func become(flags *labFlags, name string, args []string) error {
	dir, _, err := flags.running()
	if err != nil {
		return err
	}
	path, err := program(name)
	if err != nil {
		return err
	}
	var env []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "KUBECONFIG=") && !strings.HasPrefix(entry, "HELM_KUBE") {
			env = append(env, entry)
		}
	}
	env = append(env, "KUBECONFIG="+dir.Kubeconfig(), "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
	if err := syscall.Exec(path, append([]string{path}, args...), env); err != nil {
		return fmt.Errorf("running %s: %w", path, err)
	}
	panic("fairlab: exec returned without an error")
}
