package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-lb/fairlead/datapath/link"
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

// TestSettingsAreKept: what somebody lowers is raised again in time, and told; higher is fine.
func TestSettingsAreKept(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "net", "ipv4", "ip_forward")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		ctx, end := context.WithCancel(t.Context())
		defer end()
		go keepSettings(ctx, root, []link.Sysctl{{Key: "net/ipv4/ip_forward", Least: 1}}, slog.New(slog.NewTextHandler(&out, nil)))
		for _, value := range []string{"0", "1", "2", "0"} {
			if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
				t.Fatal(err)
			}
			time.Sleep(keepEvery + time.Second) // of the bubble's time
			if now, err := os.ReadFile(path); err != nil || string(now) != strings.Replace(value, "0", "1", 1) {
				t.Errorf("%s became %s, %v", value, now, err)
			}
		}
		end()
		synctest.Wait()
		if n := strings.Count(out.String(), "net.ipv4.ip_forward>=1"); n != 2 {
			t.Errorf("told %d times, want 2:\n%s", n, &out)
		}
	})
}
