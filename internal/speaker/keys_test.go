package speaker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/election/keyring"
)

// secret is what the API server says about the keys.
type secret struct {
	keys []keyring.Key
	err  error
}

func (s secret) read(context.Context) ([]keyring.Key, error) { return s.keys, s.err }

func keys(ids ...uint32) (out []keyring.Key) {
	for _, id := range ids {
		out = append(out, keyring.Key{ID: id, Secret: [keyring.Size]byte{byte(id)}})
	}
	return out
}

func TestKeysAtTheStart(t *testing.T) {
	wrong := fmt.Errorf("entry: %w", keyring.ErrEntry)
	gone := errors.New("connection refused")
	for name, tc := range map[string]struct {
		secret secret
		memory []keyring.Key
		want   []keyring.Key
		took   time.Duration
		says   string
	}{
		"from the Secret":          {secret{keys(1), nil}, nil, keys(1), 0, ""},
		"younger than the memory":  {secret{keys(2), nil}, keys(1), keys(2), 0, ""},
		"no API server":            {secret{nil, gone}, keys(1), keys(1), askPatience, "an earlier moment"},
		"no API server, no memory": {secret{nil, gone}, nil, nil, time.Minute, "waiting for the gossip key"},
		"wrong Secret":             {secret{nil, wrong}, keys(1), keys(1), 0, "an earlier moment"},
		"wrong Secret, no memory":  {secret{nil, wrong}, nil, nil, time.Minute, "waiting for the gossip key"},
		"partly wrong":             {secret{keys(1), wrong}, keys(1, 2), keys(1, 2), 0, "an earlier moment"},
		"partly wrong, no memory":  {secret{keys(1), wrong}, nil, keys(1), 0, "not all read"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			m := OpenMemory("", slog.New(slog.DiscardHandler))
			m.now.Keys = tc.memory
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			start := time.Now()
			got, err := NewKeys(m, tc.secret.read, slog.New(slog.NewTextHandler(&log, nil)), prometheus.NewRegistry()).First(ctx)
			if !slices.Equal(got, tc.want) || (err == nil) != (tc.want != nil) || time.Since(start) != tc.took {
				t.Errorf("%s: %v, %v after %s; want %v after %s", name, got, err, time.Since(start), tc.want, tc.took)
			}
			if !strings.Contains(log.String(), tc.says) || strings.Count(log.String(), "waiting") > 1 { // it does not say so every second
				t.Errorf("%s: log: %s", name, &log)
			}
			if tc.want != nil && !slices.Equal(m.keys(), tc.want) {
				t.Errorf("%s: remembers %v", name, m.keys())
			}
		})
	}
}

func TestKeysWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s atomic.Pointer[secret]
		s.Store(&secret{keys: keys(1)})
		read := func(ctx context.Context) ([]keyring.Key, error) { return s.Load().read(ctx) }
		registry := prometheus.NewRegistry()
		k := NewKeys(OpenMemory("", slog.New(slog.DiscardHandler)), read, slog.New(slog.DiscardHandler), registry)
		if _, err := k.First(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var told [][]keyring.Key
		done := make(chan error, 1)
		go func() { done <- k.Run(ctx, func(keys []keyring.Key) { told = append(told, keys) }) }()
		for _, step := range []struct {
			secret
			told, held int
		}{
			{secret{keys(1), nil}, 0, 1},
			{secret{keys(1, 2), nil}, 1, 2},
			{secret{nil, errors.New("connection refused")}, 1, 2},
			{secret{nil, fmt.Errorf("x: %w", keyring.ErrEntry)}, 1, 2},
			{secret{keys(2), fmt.Errorf("x: %w", keyring.ErrEntry)}, 1, 2}, // a part of it is wrong: none of it counts
			{secret{keys(2, 1), nil}, 2, 2},
			{secret{keys(2), nil}, 3, 1},
			{secret{keys(5, 6), nil}, 4, 3}, // it was made anew
			{secret{keys(5, 6), nil}, 4, 3},
		} {
			s.Store(&step.secret)
			time.Sleep(keyring.MinWait) // by then every speaker has read it
			synctest.Wait()
			if len(told) != step.told || int(k.held.Load()) != step.held {
				t.Errorf("with %v, %v: told %v, holds %d", step.keys, step.err, told, k.held.Load())
			}
		}
		time.Sleep(keysStay)
		synctest.Wait()
		if len(told) != 5 || !slices.Equal(told[3], keys(5, 6, 2)) || !slices.Equal(told[4], keys(5, 6)) {
			t.Errorf("after the Secret was made anew: told %v", told[3:])
		}
		metrics, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range metrics {
			if got := m.Metric[0].GetCounter().GetValue(); m.GetName() == "fairlead_gossip_keys_refused_total" && (got < 8 || got > 30) {
				t.Errorf("refused %v times", got)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
