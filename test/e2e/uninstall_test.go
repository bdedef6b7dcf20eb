//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// settings prints the kernel settings that an engine may raise, with those beside them.
var settings = []string{"sysctl", "-a", "-r", `^net\.ipv4\.(ip_forward|vs\.|conf\.all\.)`}

// remains returns what Fairlead's datapath has in a node's kernel, whatever it serves: its table, its routes, and IPVS services.
func remains(t *testing.T) map[string]string {
	t.Helper()
	return onEveryNode(t, "sh", "-c", `
		nft list tables | grep -w fairlead
		ip route show table all proto 76; ip -6 route show table all proto 76
		if [ -e /proc/net/ip_vs ]; then ipvsadm -L -n | grep -E '^(TCP|UDP|SCTP|FWM)'; fi
		true`)
}

func TestUninstallLeavesNothing(t *testing.T) {
	ns := namespace(t, "192.0.2.69/32")
	checked(t)
	deployment(t, ns, "web", 2)
	s := service(t, ns, "web")
	at := address(t, s)
	answers(t, at)
	for node, there := range remains(t) {
		if there == "" {
			t.Fatalf("%s: nothing is found while everything works: the test does not test", node)
		}
	}
	before := onEveryNode(t, settings...)
	t.Cleanup(func() { must(t, install(cleanupContext(t))); checked(t) })
	_, err := lab.Fairlab(t.Context(), "helm", "uninstall", "fairlead", "--namespace", fairleadNamespace, "--wait")
	must(t, err)

	t.Run("in the API server that blocks", func(t *testing.T) {
		var configs admissionregistrationv1.ValidatingWebhookConfigurationList
		must(t, lab.Client.List(t.Context(), &configs))
		for _, c := range configs.Items {
			t.Errorf("ValidatingWebhookConfiguration %s is left", c.Name)
		}
		must(t, lab.Client.Get(t.Context(), client.ObjectKeyFromObject(poolOf(ns)), poolOf(ns)))
		passes(t, "uninstalled")
	})
	t.Run("in the kernels", func(t *testing.T) {
		eventually(t, 40*time.Second, func() error { // the pods' grace period is 30 s
			var pods corev1.PodList
			if err := lab.Client.List(t.Context(), &pods, client.InNamespace(fairleadNamespace)); err != nil || len(pods.Items) > 0 {
				return fmt.Errorf("%d pods are left (error %v)", len(pods.Items), err)
			}
			return nil
		})
		for node, left := range remains(t) {
			if left != "" {
				t.Errorf("%s has left:\n%s", node, left)
			}
		}
		for _, command := range kernelState {
			for node, out := range onEveryNode(t, command...) {
				if strings.Contains(out, at.Addr().String()) {
					t.Errorf("%s: %v still shows %s", node, command, at.Addr())
				}
			}
		}
		if after := onEveryNode(t, settings...); !maps.Equal(before, after) {
			t.Errorf("kernel settings were\n%v\nand are\n%v", before, after)
		}
	})
	t.Run("that another installation could not take up", func(t *testing.T) {
		must(t, install(t.Context()))
		answers(t, at)
	})
}
