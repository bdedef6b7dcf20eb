package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process names a process for good: its pid may be given to another one later,
// pid and start time together are not.
type Process struct {
	Pid   int
	start string // clock ticks since boot, field 22 of /proc/PID/stat
}

// FindProcess looks up a running process.
func FindProcess(pid int) (Process, error) {
	start, _, err := readStat(pid)
	if err != nil {
		return Process{}, err
	}
	return Process{Pid: pid, start: start}, nil
}

// SaveSupervisor records the lab's supervisor.
func (d Dir) SaveSupervisor(p Process) error {
	if err := os.WriteFile(d.supervisor(), fmt.Appendf(nil, "%d %s\n", p.Pid, p.start), 0o644); err != nil {
		return fmt.Errorf("recording supervisor: %w", err)
	}
	return nil
}

// Supervisor returns the recorded supervisor and whether it is alive. A record that
// is missing or damaged is that of a dead one.
func (d Dir) Supervisor() (Process, bool) {
	data, err := os.ReadFile(d.supervisor())
	if err != nil {
		return Process{}, false
	}
	fields := strings.Fields(string(data))
	if len(fields) != 2 {
		return Process{}, false
	}
	pid, err := strconv.Atoi(fields[0])
	if err != nil || pid <= 0 {
		return Process{}, false
	}
	p := Process{Pid: pid, start: fields[1]}
	return p, p.Alive()
}

// Alive reports whether the process still runs; a zombie does not.
func (p Process) Alive() bool {
	start, status, err := readStat(p.Pid)
	return err == nil && start == p.start && status != 'Z' && status != 'X'
}

// Kill ends the process with SIGKILL and returns when it is gone. A supervisor is
// gone only after every process of its lab is, because it is their pid 1.
func (p Process) Kill(ctx context.Context) error {
	if !p.Alive() {
		return nil
	}
	if err := syscall.Kill(p.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("killing process %d: %w", p.Pid, err)
	}
	for wait := time.Millisecond; p.Alive(); wait = min(2*wait, 100*time.Millisecond) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for process %d to end: %w", p.Pid, ctx.Err())
		case <-time.After(wait):
		}
	}
	return nil
}

// readStat returns a process's start time and status letter.
func readStat(pid int) (start string, status byte, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, fmt.Errorf("reading process %d: %w", pid, err)
	}
	return parseStat(data)
}

// parseStat reads proc(5)'s stat. The second field, the command in parentheses, may
// itself hold blanks and parentheses.
func parseStat(data []byte) (start string, status byte, err error) {
	end := bytes.LastIndexByte(data, ')')
	fields := bytes.Fields(data[end+1:])
	if end < 0 || len(fields) < 20 {
		return "", 0, fmt.Errorf("reading process status: %d fields after the command, want 20 or more", len(fields))
	}
	return string(fields[19]), fields[0][0], nil
}
