package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/fairlead-lb/fairlead/lab/state"
	"github.com/fairlead-lb/fairlead/lab/topology"
)

//go:embed coredns.yaml
var coreDNS string

// applyDNS creates the cluster's DNS. Its pods become ready once something serves ClusterIPs.
func applyDNS(ctx context.Context, dir state.Dir) error {
	kube, err := program("fairlab-kube")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, kube, "kubectl", "apply", "--filename", "-")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+dir.Kubeconfig())
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(coreDNS, "CLUSTER_DNS", topology.DNSAddr().String()))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("creating the cluster's DNS: %w\n%s", err, out)
	}
	return nil
}
