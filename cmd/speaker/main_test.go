package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	good := []string{"--node-name=node-1", "--node-ip=192.0.2.11"}
	c, err := parse(append(good, "--require-class=true", "--gossip-probe-interval=100ms", "--log-level=debug"))
	if err != nil || c.node != "node-1" || c.nodeIP.String() != "192.0.2.11" || !c.kube.RequireClass || c.probeInterval != 100*time.Millisecond || c.logLevel != slog.LevelDebug {
		t.Errorf("got %+v, %v", c, err)
	}
	for _, args := range [][]string{
		good[:1], good[1:],
		append(good, "--datapath-mode=half"),
		append(good, "--pods=none,cni0"),
		append(good, "--pods=a/b"),
		append(good, "--forwarding=DSR"),
		append(good, "--nodeport-addresses=192.0.2.1"),
		append(good, "--gossip-port=70000"),
		append(good, "--log-format=xml"),
		append(good, "--on-cordon=maybe"),
		append(good, "--log-level=loud"),
		append(good, "--masquerade-mark=0x1800"), append(good, "--masquerade-mark=1"), append(good, "--masquerade-mark=0x1000000"),
		append(good, "--node-ip=here"),
	} {
		if c, err := parse(args); err == nil {
			t.Errorf("%q is accepted: %+v", args, c)
		}
	}
	c, err = parse(append(good, "--datapath-mode=full", "--pods=10.0.0.0/8,cali*", "--nodeport-addresses=192.0.2.7/24", "--forwarding=dsr"))
	if got, want := fmt.Sprint(c.kube.Full, c.forwarding, err), "true {true dsr true false [192.0.2.0/24] false {false [10.0.0.0/8] [cali*]}} <nil>"; got != want {
		t.Errorf("mode full: %s, want %s", got, want)
	}
	for _, alone := range []string{"--cleanup", "--version"} {
		if _, err := parse([]string{alone}); err != nil {
			t.Errorf("%s alone: %v", alone, err)
		}
	}
}

func TestParseBGP(t *testing.T) {
	c, err := parseBGP([]string{"--socket=/x", "--keep-on-crash=5s", "--grace=1s", "--log-level=debug"})
	if err != nil || c.Path != "/x" || c.KeepOnCrash != 5*time.Second || c.Grace != time.Second || c.serve {
		t.Errorf("got %+v, %v", c, err)
	}
	for _, args := range [][]string{{"--socket="}, {"--keep-on-crash=-1s"}, {"--grace=-1s"}, {"--log-format=xml"}, {"--node-name=x"}} {
		if c, err := parseBGP(args); err == nil {
			t.Errorf("%q is accepted: %+v", args, c)
		}
	}
}

func TestMemberlistLog(t *testing.T) {
	var out bytes.Buffer
	w := memberlistLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})))
	for _, line := range []string{
		"2026/01/02 03:04:05 [DEBUG] memberlist: Stream connection from=192.0.2.12:7947\n",
		"2026/01/02 03:04:05 [INFO] memberlist: Suspect node-2 has failed, no acks received\n",
		"2026/01/02 03:04:05 [ERR] memberlist: Failed to send\n",
		"no level at all\n",
	} {
		if _, err := w.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	want := strings.Join([]string{
		`level=INFO msg=memberlist said="Suspect node-2 has failed, no acks received"`,
		`level=WARN msg=memberlist said="Failed to send"`,
		`level=INFO msg=memberlist said="no level at all"`, "",
	}, "\n")
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
