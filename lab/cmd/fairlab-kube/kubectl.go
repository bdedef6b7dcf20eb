package main

import (
	"os"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // exec credential plugins, as in upstream's kubectl
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

// runKubectl is upstream's main function of kubectl; it exits with kubectl's exit code.
func runKubectl() {
	// Verbosity is needed before the command exists: building it already logs and
	// handles plugins. A bad value is reported again by the flag parser.
	_, _ = logs.GlogSetter(cmd.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
}
