package router_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-lb/fairlead/lab/config"
	"github.com/fairlead-lb/fairlead/lab/router"
)

func TestNew(t *testing.T) {
	tests := []struct {
		kind    config.Router
		pkg     string
		daemons int
	}{
		{config.RouterFRR, "frr", 3},
		{config.RouterBIRD, "bird2", 1},
		{config.RouterGoBGP, "gobgpd", 1},
	}
	for _, tt := range tests {
		s := router.New(tt.kind, "/state", "/logs")
		if s.Package != tt.pkg || len(s.Daemons) != tt.daemons {
			t.Errorf("%s: package %s with %d daemons, want %s with %d", tt.kind, s.Package, len(s.Daemons), tt.pkg, tt.daemons)
		}
		readers := 0
		for _, d := range s.Daemons {
			if !slices.Contains(s.Programs, d.Argv[0]) {
				t.Errorf("%s: %s is not among the programs that are looked for", tt.kind, d.Argv[0])
			}
			if slices.Contains(d.Argv, s.File) {
				readers++
			}
			if !strings.HasPrefix(d.Log, "/logs/") {
				t.Errorf("%s: log %s, want one in /logs", tt.kind, d.Log)
			}
		}
		if readers != 1 {
			t.Errorf("%s: %d daemons read the configuration, want 1", tt.kind, readers)
		}
		for _, word := range []string{"64512", "64513", "192.0.2.1", "192.0.2.0/24", "2001:db8:0:1::/64"} {
			if !strings.Contains(s.Text, word) {
				t.Errorf("%s: %s is not in the configuration:\n%s", tt.kind, word, s.Text)
			}
		}
	}
}

func TestNewNone(t *testing.T) {
	if s := router.New(config.RouterNone, "/state", "/logs"); len(s.Daemons)+len(s.Programs) != 0 || s.File != "" {
		t.Errorf("no router runs %v", s)
	}
}
