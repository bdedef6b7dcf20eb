package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/lab/config"
)

func valid() config.Lab {
	return config.Lab{
		Name: "lab", Nodes: 3, KubeProxy: config.KubeProxyNFTables, Router: config.RouterNone,
		Grace: 50 * time.Second, BinDir: "/opt/bin", Slow: 1,
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name   string
		change func(*config.Lab)
		want   string // part of the error, "" = valid
	}{
		{"defaults", func(*config.Lab) {}, ""},
		{"most nodes", func(l *config.Lab) { l.Nodes = config.MaxNodes }, ""},
		{"one letter", func(l *config.Lab) { l.Name = "a" }, ""},
		{"no nodes", func(l *config.Lab) { l.Nodes = 0 }, "nodes 0"},
		{"too many nodes", func(l *config.Lab) { l.Nodes = 65 }, "nodes 65"},
		{"path as name", func(l *config.Lab) { l.Name = "../x" }, `name "../x"`},
		{"dot", func(l *config.Lab) { l.Name = "." }, `name "."`},
		{"empty name", func(l *config.Lab) { l.Name = "" }, `name ""`},
		{"unknown mode", func(l *config.Lab) { l.KubeProxy = "ebpf" }, `kube-proxy "ebpf"`},
		{"unknown router", func(l *config.Lab) { l.Router = "quagga" }, `router "quagga"`},
		{"short grace", func(l *config.Lab) { l.Grace = time.Second }, "node monitor grace 1s"},
		{"fast machine", func(l *config.Lab) { l.Slow = 0.5 }, "slow 0.5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lab := valid()
			tt.change(&lab)
			err := lab.Validate()
			if tt.want == "" && err != nil {
				t.Fatalf("Validate() = %v, want nil", err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Fatalf("Validate() = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestDiff(t *testing.T) {
	wanted := valid()
	wanted.Nodes = 5
	wanted.Router = config.RouterFRR
	wanted.Slow = 16
	want := []string{"--nodes is 3, not 5", "--router is none, not frr"}
	if diff := cmp.Diff(want, valid().Diff(wanted)); diff != "" {
		t.Errorf("Diff (-want +got):\n%s", diff)
	}
	if got := valid().Diff(valid()); got != nil {
		t.Errorf("Diff with itself = %v, want nil", got)
	}
}

func TestTimeout(t *testing.T) {
	lab := valid()
	lab.Slow = 2.5
	if got := lab.Timeout(2 * time.Second); got != 5*time.Second {
		t.Errorf("Timeout(2s) = %v, want 5s", got)
	}
}
