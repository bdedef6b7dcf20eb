//go:build wire

package wire

import (
	"os"
	"testing"

	"github.com/fairlead-lb/fairlead/test/bed"
)

func TestMain(m *testing.M) {
	os.Exit(bed.Main(bed.Program{Run: m.Run, Roles: map[string]func([]string) error{"prober": runProber}}))
}
