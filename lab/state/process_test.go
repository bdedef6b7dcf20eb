package state

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestParseStat(t *testing.T) {
	const tail = " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 4 18 9876 20"
	tests := []struct {
		name, in string
		want     stat
		ok       bool
		dead     bool
	}{
		{"plain", "7 (sh) S" + tail, stat{"9876", 'S', 4}, true, false},
		{"blank and parenthesis in the command", "7 (a) Z (b) R" + tail, stat{"9876", 'R', 4}, true, false},
		{"zombie leader", "7 (sh) Z" + tail, stat{"9876", 'Z', 4}, true, false},
		{"zombie", "7 (sh) Z" + strings.Replace(tail, " 16 4 ", " 16 1 ", 1), stat{"9876", 'Z', 1}, true, true},
		{"no number", "7 (sh) S" + strings.Replace(tail, " 16 4 ", " 16 x ", 1), stat{}, false, false},
		{"short", "7 (sh) S 1 2", stat{}, false, false},
		{"empty", "", stat{}, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseStat([]byte(tt.in))
			if (err == nil) != tt.ok || got != tt.want || got.dead() != tt.dead {
				t.Errorf("parseStat = %v, %v, dead %v; want %v, ok %v, dead %v", got, err, got.dead(), tt.want, tt.ok, tt.dead)
			}
		})
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("7 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 9876 20"))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseStat(data)
		if err == nil && (got.start == "" || got.status == 0) {
			t.Errorf("parseStat(%q) = %v without an error", data, got)
		}
	})
}

func TestSupervisor(t *testing.T) {
	dir := Dir(t.TempDir())
	if _, alive := dir.Supervisor(); alive {
		t.Error("a lab without a record has a living supervisor")
	}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := FindProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.SaveSupervisor(p); err != nil {
		t.Fatal(err)
	}
	if got, alive := dir.Supervisor(); !alive || got != p {
		t.Errorf("Supervisor() = %v, %v; want %v, true", got, alive, p)
	}
	if err := p.Kill(t.Context()); err != nil {
		t.Error(err)
	}
	// Not yet waited for: a zombie, which is as dead as one that is gone.
	if _, alive := dir.Supervisor(); alive {
		t.Error("supervisor alive after Kill")
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("process ended with %v, want killed", err)
	}
}

// A recycled pid must not be taken for the supervisor, far less killed.
func TestSupervisorOtherStart(t *testing.T) {
	dir := Dir(t.TempDir())
	if err := dir.SaveSupervisor(Process{Pid: os.Getpid(), start: "1"}); err != nil {
		t.Fatal(err)
	}
	p, alive := dir.Supervisor()
	if alive {
		t.Error("another process with the pid counts as the supervisor")
	}
	if err := p.Kill(t.Context()); err != nil {
		t.Error(err) // and this process is still here
	}
}

func TestAcquire(t *testing.T) {
	base := filepath.Join(t.TempDir(), "labs")
	dir := Dir(filepath.Join(base, "lab"))
	var held, total int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			lock, err := dir.Acquire()
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			held++
			total++
			if held > 1 {
				t.Errorf("%d holders at once", held)
			}
			mu.Unlock()
			mu.Lock()
			held--
			mu.Unlock()
			lock.Release()
		})
	}
	wg.Wait()
	if total != 20 {
		t.Errorf("%d of 20 got the lock", total)
	}
	if _, err := os.Stat(base); !os.IsNotExist(err) {
		t.Errorf("after the last release %s is still there: %v", base, err)
	}
}
