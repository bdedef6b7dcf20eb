package main

import (
	"bytes"
	"os"
	"path/filepath"
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
	left, err := leftOut()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = report(&out, options{mode: "full"}, judge(specs, left), 90*time.Second)
	if err == nil || !strings.Contains(err.Error(), "1 specs failed") {
		t.Errorf("error %v", err)
	}
	for _, want := range []string{"| passed | 1 |", "| failed | 1 |", "| skipped by the suite itself | 1 |", "| left out | 1 |", "| not selected | 1 |", "took 1m30s",
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
