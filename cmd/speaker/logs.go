package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

// newLogger returns the process's logger and sends there what the Kubernetes libraries say.
func newLogger(c config) *slog.Logger {
	h := logHandler(c.logFormat, c.logLevel)
	bridge := logr.FromSlogHandler(h)
	ctrl.SetLogger(bridge)
	klog.SetLogger(bridge)
	return slog.New(h)
}

// logHandler writes to standard error.
func logHandler(format string, level slog.Level) slog.Handler {
	opts := &slog.HandlerOptions{Level: level}
	if format == "text" {
		return slog.NewTextHandler(os.Stderr, opts)
	}
	return slog.NewJSONHandler(os.Stderr, opts)
}

// memberlistLog turns memberlist's lines, "date time [LEVEL] memberlist: text", into records. Its levels are lowered by one:
// what it warns of, and what it calls an error, is the normal noise of members that come and go.
func memberlistLog(log *slog.Logger) io.Writer {
	return lineWriter(func(line string) {
		level, text := slog.LevelInfo, line
		if _, rest, ok := strings.Cut(line, "["); ok {
			if word, said, ok := strings.Cut(rest, "] "); ok {
				text = strings.TrimPrefix(said, "memberlist: ")
				switch word {
				case "DEBUG":
					level = slog.LevelDebug
				case "ERR", "ERROR":
					level = slog.LevelWarn
				}
			}
		}
		log.Log(context.Background(), level, "memberlist", "said", text)
	})
}

// lineWriter calls itself with each line; package log writes whole lines at once.
type lineWriter func(line string)

// Write implements io.Writer.
func (w lineWriter) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		w(strings.TrimRight(line, "\n"))
	}
	return len(p), nil
}
