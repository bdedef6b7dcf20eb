package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process names a process for good: its pid may be given to another one later,
// pid and start time together are not.
type Process struct {
	Pid   int
	start string // clock ticks since boot, field 22 of /proc/PID/stat
}

// FindProcess looks up a running process.
func FindProcess(pid int) (Process, error) {
	stat, err := readStat(pid)
	if err != nil {
		return Process{}, err
	}
	return Process{Pid: pid, start: stat.start}, nil
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
	stat, err := readStat(p.Pid)
	return err == nil && stat.start == p.start && !stat.dead()
}

// Kill ends the process with SIGKILL and returns when it is gone. A supervisor is
// gone only after every process of its lab is, because it is their pid 1.
func (p Process) Kill(ctx context.Context) error {
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening process %d: %w", p.Pid, err)
	}
	defer unix.Close(fd)
	if !p.Alive() { // the descriptor may be that of another process, with the pid of the dead one
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("killing process %d: %w", p.Pid, err)
	}
	for ctx.Err() == nil {
		const tick = 100 // milliseconds between two looks at ctx
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, tick)
		if ready > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("waiting for process %d: %w", p.Pid, err)
		}
	}
	return fmt.Errorf("waiting for process %d to end: %w", p.Pid, ctx.Err())
}

// stat is what is used of /proc/PID/stat.
type stat struct {
	start   string
	status  byte
	threads int
}

// dead reports whether all threads have ended. The first one alone may be a zombie
// while another still ends the processes of the pid namespace.
func (s stat) dead() bool {
	return s.status == 'X' || s.status == 'Z' && s.threads <= 1
}

func readStat(pid int) (stat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, fmt.Errorf("reading process %d: %w", pid, err)
	}
	return parseStat(data)
}

// parseStat reads proc(5)'s stat. The second field, the command in parentheses, may
// itself hold blanks and parentheses.
func parseStat(data []byte) (stat, error) {
	end := bytes.LastIndexByte(data, ')')
	fields := bytes.Fields(data[end+1:])
	if end < 0 || len(fields) < 20 {
		return stat{}, fmt.Errorf("reading process status: %d fields after the command, want 20 or more", len(fields))
	}
	threads, err := strconv.Atoi(string(fields[17]))
	if err != nil {
		return stat{}, fmt.Errorf("reading process status: number of threads: %w", err)
	}
	return stat{start: string(fields[19]), status: fields[0][0], threads: threads}, nil
}
