package node

import (
	"strings"
	"testing"
)

func TestMemTotal(t *testing.T) {
	got, err := memTotal(strings.NewReader("MemFree:  1 kB\nMemTotal:       24684096 kB\n"))
	if err != nil || got != 24684096<<10 {
		t.Errorf("%d, %v", got, err)
	}
	for _, text := range []string{"", "MemTotal: 1\n", "MemTotal: -1 kB\n", "MemTotal: x kB\n"} {
		if got, err := memTotal(strings.NewReader(text)); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func TestPrettyName(t *testing.T) {
	if got := prettyName("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"); got != "Debian GNU/Linux 12 (bookworm)" {
		t.Error(got)
	}
	if got := prettyName("ID=x\n"); got != "Linux" {
		t.Error(got)
	}
}

func FuzzMemTotal(f *testing.F) {
	f.Add("MemTotal:       24684096 kB\n")
	f.Add("MemTotal: 99999999999999999999 kB\n")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := memTotal(strings.NewReader(text)); err != nil && got != 0 || got%1024 != 0 {
			t.Errorf("%d, %v", got, err)
		}
	})
}
