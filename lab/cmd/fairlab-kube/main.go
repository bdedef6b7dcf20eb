package main

import (
	"fmt"
	"os"
	_ "time/tzdata" // CronJob time zones, as in upstream's binaries

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics, as in upstream's binaries
	_ "k8s.io/component-base/metrics/prometheus/version"  // version metric, as in upstream's binaries

	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "fairlab-kube: which component? etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy, node or kubectl")
		os.Exit(2)
	}
	component := os.Args[1]
	// Upstream's commands parse os.Args and print os.Args[0].
	os.Args = append([]string{component}, os.Args[2:]...)
	if component == "kubectl" {
		runKubectl()
		return
	}
	command := componentCommand(component)
	if command == nil {
		fmt.Fprintf(os.Stderr, "fairlab-kube: unknown component %q\n", component)
		os.Exit(2)
	}
	os.Exit(cli.Run(command))
}

// componentCommand returns the command of a server component, nil if there is none of that name.
func componentCommand(name string) *cobra.Command {
	switch name {
	case "etcd":
		return newEtcdCommand()
	case "kube-apiserver":
		return apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		return controllermanager.NewControllerManagerCommand()
	case "kube-scheduler":
		return scheduler.NewSchedulerCommand()
	case "node":
		return newNodeCommand()
	case "kube-proxy":
		return proxy.NewProxyCommand()
	}
	return nil
}
