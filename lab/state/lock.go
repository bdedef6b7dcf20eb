package state

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Lock is held while a lab is brought up or taken down.
type Lock struct {
	file *os.File
}

// Acquire locks the lab of this directory, waiting for another holder to finish.
// The lock file is beside the directory, because the directory itself comes and
// goes under the lock.
func (d Dir) Acquire() (*Lock, error) {
	base := filepath.Dir(string(d))
	path := filepath.Join(base, "."+filepath.Base(string(d))+".lock")
	for {
		// Not there any more, or again: a finishing `down` has just removed the empty base.
		if err := os.MkdirAll(base, 0o755); os.IsExist(err) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("making state directory: %w", err)
		}
		file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("opening lock: %w", err)
		}
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
			_ = file.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		if isCurrent(file, path) {
			return &Lock{file: file}, nil
		}
		_ = file.Close() // the former holder removed this file; the next one is another
	}
}

// Release gives the lock up and removes its file, and the directory of all labs
// when this was the last one.
func (l *Lock) Release() {
	path := l.file.Name()
	_ = os.Remove(path)
	_ = os.Remove(filepath.Dir(path)) // fails while there is another lab, as it should
	_ = l.file.Close()
}

func isCurrent(file *os.File, path string) bool {
	held, err := file.Stat()
	if err != nil {
		return false
	}
	current, err := os.Stat(path)
	return err == nil && os.SameFile(held, current)
}
