package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const junit = `<testsuites><testsuite name="e2e">
<testcase name="[SynchronizedBeforeSuite]" status="passed" time="1"></testcase>
<testcase name="[It] [sig-network] Services should serve a basic endpoint [Conformance] [sig-network, Conformance]" status="passed" time="12"></testcase>
<testcase name="[It] [sig-network] LoadBalancers should work [sig-network, Feature:LoadBalancer]" status="failed" time="3"><failure message="no answer&#xA;after 3 s"></failure></testcase>
<testcase name="[It] [sig-network] LoadBalancers should be of GCE [sig-network]" status="skipped"><skipped message="skipped - only for gce"></skipped></testcase>
<testcase name="[It] [sig-network] Netpol should deny [Feature:NetworkPolicy] [sig-network, Feature:NetworkPolicy]" status="skipped"><skipped message="skipped"></skipped></testcase>
<testcase name="[It] [sig-network] DNS should answer [sig-network]" status="skipped"><skipped message="skipped"></skipped></testcase>
<testcase name="[It] [sig-apps] Deployment should roll [sig-apps]" status="skipped"><skipped message="skipped"></skipped></testcase>
</testsuite></testsuites>`

func TestReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "junit.xml")
	if err := os.WriteFile(file, []byte(junit), 0o600); err != nil {
		t.Fatal(err)
	}
	specs, err := readJUnit(file)
	if err != nil {
		t.Fatal(err)
	}
	left, err := leftOut("full")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = report(&out, options{mode: "full", engine: "nft", short: true}, judge(specs, left), 90*time.Second)
	if err == nil || !strings.Contains(err.Error(), "1 specs failed") {
		t.Errorf("error %v", err)
	}
	for _, want := range []string{"| full-nft-short | specs |", "| passed | 1 |", "| failed | 1 |", "| skipped by the suite itself | 1 |", "| left out | 1 |", "| not selected | 1 |", "took 1m30s\n- 12 s: [sig-network] Services should serve a basic endpoint [Conformance]\n- 3 s: ",
		"- failed: [sig-network] LoadBalancers should work (failed: no answer)", "- skipped by the suite itself: [sig-network] LoadBalancers should be of GCE (only for gce)",
		"- left out: 1 specs (out of scope: network policies are not a load balancer's)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
}

// TestSuiteThatDidNotStart: what prepares the suite may fail, and then nothing ran.
func TestSuiteThatDidNotStart(t *testing.T) {
	results := judge([]spec{{Name: "[SynchronizedBeforeSuite]", Status: "panicked"}}, nil)
	if err := report(&bytes.Buffer{}, options{}, results, 0); err == nil {
		t.Error("no error")
	}
	if err := report(&bytes.Buffer{}, options{}, nil, 0); err == nil {
		t.Error("no error though no spec ran")
	}
}

// TestSelection: which of these specs each way to run the suite selects.
func TestSelection(t *testing.T) {
	specs := []string{
		"[sig-network] Services should serve a basic endpoint from pods [Conformance]",
		"[sig-network] LoadBalancers [Feature:LoadBalancer] should be able to change the type and ports of a TCP service [Slow]",
		"[sig-network] LoadBalancers ExternalTrafficPolicy: Local [Feature:LoadBalancer] [Slow] should work from pods",
		"[sig-network] Services should complete a service status lifecycle [Conformance]",
		"[sig-network] Services should fail health check node port if there are only terminating endpoints",
		"[sig-network] Networking should check kube-proxy urls",
		"[sig-apps] Deployment should run the lifecycle of a Deployment [Conformance]",
	}
	for _, tc := range []struct {
		args []string
		want []int
	}{
		{nil, []int{0, 1, 2, 3, 4, 5}},
		{[]string{"-short"}, []int{0, 1, 2, 3}},
		{[]string{"-mode", "external"}, []int{1, 2, 3, 4}},
		{[]string{"-mode", "external", "-short"}, []int{0, 1, 2, 3}},
		{[]string{"-short", "-focus", "kube-proxy urls"}, []int{5}},
	} {
		o, err := parse(tc.args)
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for i, spec := range specs {
			if regexp.MustCompile(o.selection()).MatchString(spec) {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%v selects %v, want %v", tc.args, got, tc.want)
		}
	}
}

// TestSlowMachine: time limits are stretched, and the speakers' clocks with them.
func TestSlowMachine(t *testing.T) {
	for _, tc := range []struct{ slow, limit, values string }{
		{"", "2m0s", "datapath.mode=full datapath.engine=ipvs"},
		{"4", "8m0s", "datapath.mode=full datapath.engine=ipvs gossip.probeInterval=800ms gossip.probeTimeout=320ms heartbeat.interval=200ms"},
	} {
		t.Setenv(slowEnv, tc.slow)
		o, err := parse([]string{"-engine", "ipvs"})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(o.values(), " "); o.limit(2*time.Minute) != tc.limit || got != tc.values {
			t.Errorf("%s=%s: %s and %s, want %s and %s", slowEnv, tc.slow, o.limit(2*time.Minute), got, tc.limit, tc.values)
		}
	}
	t.Setenv(slowEnv, "fast")
	if _, err := parse(nil); err == nil || !strings.Contains(err.Error(), slowEnv) {
		t.Errorf("error %v does not name %s", err, slowEnv)
	}
}

// TestLeftOutOfOneMode: kube-proxy's own gap counts where kube-proxy answers.
func TestLeftOutOfOneMode(t *testing.T) {
	const spec = "[sig-network] LoadBalancers ExternalTrafficPolicy: Local [Feature:LoadBalancer] [Slow] should only target nodes with endpoints"
	for mode, want := range map[string]bool{"full": false, "external": true, "kube-proxy": false} {
		left, err := leftOut(mode)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(left, func(o omission) bool { return o.spec.MatchString(spec) }); got != want {
			t.Errorf("mode %s: left out is %t, want %t", mode, got, want)
		}
	}
}
