package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

func TestParse(t *testing.T) {
	got, err := parse([]string{"--namespace=ns", "--require-class=true", "--ip-mode=VIP", "--address-rest=5s", "--max-addresses-per-namespace=7",
		"--log-level=debug", "--log-format=text", "--http-addr=:1", "--dashboard-addr=:3", "--webhook-name=w", "--webhook-port=2"})
	want := config{
		kube: kube.Options{Namespace: "ns", Class: kube.LoadBalancerClass, RequireClass: true, IPMode: lb.ModeVIP, MaxPerNamespace: 7},
		keys: keyring.Policy{InstallWait: keyring.DefaultInstallWait, RetireWait: keyring.DefaultRetireWait},
		rest: 5 * time.Second, httpAddr: ":1", pageAddr: ":3", webhookName: "w", webhookPort: 2, logFormat: "text", logLevel: slog.LevelDebug,
	}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"--ip-mode=proxy", "--log-format=xml", "--log-level=loud", "--address-rest=soon", "--max-addresses-per-namespace=-1",
		"--webhook-port=no", "--nope"} {
		if _, err := parse([]string{bad}); err == nil || !strings.Contains(err.Error(), strings.SplitN(strings.TrimLeft(bad, "-"), "=", 2)[0]) {
			t.Errorf("%s: %v, want an error that names the flag", bad, err)
		}
	}
}
