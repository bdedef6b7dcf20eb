//go:build wire

package bfd

import (
	"os"
	"testing"

	"github.com/fairlead-lb/fairlead/test/bed"
	"github.com/fairlead-lb/fairlead/test/router"
)

func TestMain(m *testing.M) {
	os.Exit(bed.Main(bed.Program{Run: m.Run, Roles: map[string]func([]string) error{
		router.Role: router.Hold,
		"peer":      runPeer,
		"hog": func([]string) error {
			for n := 0; ; n++ { // never ends
			}
		},
	}}))
}
