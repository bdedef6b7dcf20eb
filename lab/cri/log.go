package cri

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxLogLine is the length in bytes at which a line is split into partial records, as in containerd.
const maxLogLine = 16 << 10

// appendRecord appends one record of the CRI log format (KEP-2040 design, "CRI: log"): RFC 3339
// time, stream, tag and content. The tag is F at the end of a line and P before that.
func appendRecord(dst []byte, t time.Time, stream string, content []byte, full bool) []byte {
	tag := " P "
	if full {
		tag = " F "
	}
	dst = t.AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, ' ')
	dst = append(dst, stream...)
	dst = append(dst, tag...)
	dst = append(dst, content...)
	return append(dst, '\n')
}

// logFile is a container's log; both streams write to it.
type logFile struct {
	mu   sync.Mutex
	path string // empty: nothing is kept
	file *os.File
}

func openLog(path string) (*logFile, error) {
	l := &logFile{path: path}
	if path == "" {
		return l, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("creating log directory: %w", err)
	}
	return l, l.reopen()
}

// reopen opens the path anew, after somebody has moved the file away.
func (l *logFile) reopen() error {
	if l.path == "" {
		return nil
	}
	file, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("opening container log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
	}
	l.file = file
	return nil
}

func (l *logFile) write(record []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	_, err := l.file.Write(record)
	return err
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}

// lineWriter turns a stream of bytes into records. It is used by one goroutine.
type lineWriter struct {
	log    *logFile
	stream string
	buf    []byte
	record []byte
}

// Write never fails for the lack of a newline; it keeps the rest for the next Write.
func (w *lineWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	rest := w.buf
	for {
		line, after, found := bytes.Cut(rest, []byte("\n"))
		switch {
		case len(line) > maxLogLine:
			line, after, found = rest[:maxLogLine], rest[maxLogLine:], false
		case !found:
			w.buf = append(w.buf[:0], rest...)
			return len(p), nil
		}
		if err := w.emit(line, found); err != nil {
			return 0, err
		}
		rest = after
	}
}

// flush writes what follows the last newline.
func (w *lineWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	err := w.emit(w.buf, false)
	w.buf = nil
	return err
}

func (w *lineWriter) emit(line []byte, full bool) error {
	w.record = appendRecord(w.record[:0], time.Now(), w.stream, line, full)
	return w.log.write(w.record)
}

// output copies one stream of a container to its log and to those who are attached.
type output struct {
	mu    sync.Mutex
	sinks map[*sink]bool
}

type sink struct{ io.Writer }

func (o *output) attach(w io.Writer) (detach func()) {
	s := &sink{w}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sinks == nil {
		o.sinks = map[*sink]bool{}
	}
	o.sinks[s] = true
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.sinks, s)
	}
}

// pump reads until the end of the stream. A log that cannot be written must not stop the container,
// so reading goes on and the first error is returned at the end.
func (o *output) pump(from io.Reader, log *lineWriter) error {
	var failed error
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := log.Write(buf[:n]); err != nil && failed == nil {
				failed = fmt.Errorf("writing container log: %w", err)
			}
			o.copy(buf[:n])
		}
		if err != nil {
			return errors.Join(failed, log.flush())
		}
	}
}

func (o *output) copy(p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for s := range o.sinks {
		if _, err := s.Write(p); err != nil {
			delete(o.sinks, s)
		}
	}
}
