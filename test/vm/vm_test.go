package main

import (
	"slices"
	"testing"
)

func TestQuoteMakesOneWord(t *testing.T) {
	for in, want := range map[string]string{"plain": "'plain'", "two words": "'two words'", "it's": `'it'\''s'`, "": "''", "$HOME": "'$HOME'"} {
		if got := quote(in); got != want {
			t.Errorf("quote(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestEnvironmentPassesWhatIsNamed(t *testing.T) {
	all := []string{"PATH=/bin", "HOME=/root", "FAIRLAB_SLOW=4", "SECRET=x", "GOMAXPROCS=1"}
	want := []string{"PATH=/bin", "HOME=/root", "FAIRLAB_SLOW=4", "GOMAXPROCS=1"}
	if got := environment(all, []string{"GOMAXPROCS"}); !slices.Equal(got, want) {
		t.Errorf("environment = %v, want %v", got, want)
	}
}

// The format is fixed by the kernel: a 110-byte header in ASCII, the name, then the data, both padded to four bytes.
func TestArchiveIsNewc(t *testing.T) {
	var a archive
	a.file("init", 0o755, []byte("hello"))
	got := string(a.bytes())
	header := "070701" + "00000001" + "000081ed" + "00000000" + "00000000" + "00000001" + "00000000" + "00000005" +
		"00000000" + "00000000" + "00000000" + "00000000" + "00000005" + "00000000"
	// 110 + 5 bytes of name end at 115: one byte of padding; 116 + 5 of data end at 121: three.
	want := header + "init\x00" + "\x00" + "hello" + "\x00\x00\x00"
	if len(got) < len(want) || got[:len(want)] != want {
		t.Errorf("archive starts with %q, want %q", got[:min(len(got), len(want))], want)
	}
}
