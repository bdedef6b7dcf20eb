//go:build wire

package bfd

import (
	"os"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/test/bed"
)

func TestMain(m *testing.M) {
	os.Exit(bed.Main(bed.Program{Run: m.Run, Roles: map[string]func([]string) error{
		"namespace": func([]string) error { time.Sleep(time.Hour); return nil }, // it holds one
		"peer":      runPeer,
		"hog": func([]string) error {
			for n := 0; ; n++ { // never ends
			}
		},
	}}))
}
