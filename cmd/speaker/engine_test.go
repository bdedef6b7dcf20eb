package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestWhatIsLeftIsRemovedInTheEnd: a failure is told and does not end the process, and the next attempt is made in time.
func TestWhatIsLeftIsRemovedInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		start, tries := time.Now(), 0
		remove := func(context.Context) ([]string, error) {
			if tries++; tries < 4 {
				return []string{"table inet fairlead"}, errors.New("no memory")
			}
			return []string{"table inet fairlead"}, nil
		}
		if removeLeft(t.Context(), remove, log) {
			t.Error("a failure counts as success")
		}
		removeLater(t.Context(), remove, log)
		if d := time.Since(start); tries != 4 || d != 3*removeEvery {
			t.Errorf("%d attempts in %s, want 4 in %s", tries, d, 3*removeEvery)
		}
		if failed, removed := strings.Count(out.String(), "no memory"), strings.Count(out.String(), "msg=\"removed what"); failed != 3 || removed != 1 {
			t.Errorf("%d failures and %d successes in the log, want 3 and 1:\n%s", failed, removed, &out)
		}
		out.Reset()
		if !removeLeft(t.Context(), func(context.Context) ([]string, error) { return nil, nil }, log) || out.Len() > 0 {
			t.Errorf("where nothing is left the log says %s", &out)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		removeLater(ended, remove, log) // returns
	})
}
