package speaker

import (
	"bytes"
	"context"
	"encoding/gob"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/runner"
)

// Memory keeps on the node's disk what the API server said last, so that a speaker that restarts while the API server is
// away carries on from there. Each method asks the API server first and falls back on what is remembered.
type Memory struct {
	path   string // "" = nothing is kept
	log    *slog.Logger
	writes *runner.Runner

	mu  sync.Mutex // guards the following
	now remembered
}

// remembered is the file's content, encoded by encoding/gob: fields may be added, and old files stay readable.
type remembered struct {
	Facts *kube.Facts
	Peers []netip.Addr
	Key   []byte
}

const (
	memoryFile  = "memory.gob"
	askPatience = 5 * time.Second  // how long the API server is waited for where there is something to fall back on
	writeRest   = 10 * time.Second // between two writes: some clusters' endpoints change all the time
)

// OpenMemory reads what an earlier process has left in dir, which must exist and belong to Fairlead alone: the gossip key
// is in there. A file that cannot be read is reported and then overwritten. With dir "" nothing is kept.
func OpenMemory(dir string, log *slog.Logger) *Memory {
	m := &Memory{log: log}
	m.writes = runner.New(m.write, runner.Options{MinInterval: writeRest, RetryMin: writeRest, RetryMax: 10 * writeRest})
	if dir == "" {
		return m
	}
	m.path = filepath.Join(dir, memoryFile)
	b, err := os.ReadFile(m.path)
	if err == nil {
		err = gob.NewDecoder(bytes.NewReader(b)).Decode(&m.now)
	}
	if err != nil && !os.IsNotExist(err) {
		m.now = remembered{}
		log.Warn("earlier state not read", "path", m.path, "err", err)
	}
	return m
}

// Run writes what has changed until ctx is done, and once more then.
func (m *Memory) Run(ctx context.Context) error {
	if m.path == "" {
		<-ctx.Done()
		return nil
	}
	_ = m.writes.Run(ctx) // it never fails
	return m.write(ctx)
}

// Facts returns a FactSource that asks src and, until that has answered once, returns the remembered facts.
func (m *Memory) Facts(src FactSource) FactSource { return &rememberedFacts{m, src} }

type rememberedFacts struct {
	*Memory
	src FactSource
}

// Facts implements FactSource.
func (r *rememberedFacts) Facts(ctx context.Context) (kube.Facts, error) {
	facts, err := r.src.Facts(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if r.now.Facts == nil {
			return kube.Facts{}, err
		}
		r.log.Warn("working with the facts of an earlier moment", "err", err)
		return *r.now.Facts, nil
	}
	r.now.Facts = &facts
	r.writes.Trigger()
	return facts, nil
}

// Peers returns what ask says, or the remembered peers if it fails.
func (m *Memory) Peers(ctx context.Context, ask func(context.Context) ([]netip.Addr, error)) ([]netip.Addr, error) {
	peers, err := ask(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		return m.now.Peers, err
	}
	m.now.Peers = peers
	return peers, nil
}

// Key returns what ask says. Where a key is remembered it waits 5 s for that, else as long as ctx allows.
func (m *Memory) Key(ctx context.Context, ask func(context.Context) ([]byte, error)) ([]byte, error) {
	m.mu.Lock()
	old := m.now.Key
	m.mu.Unlock()
	if old != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, askPatience)
		defer cancel()
	}
	key, err := ask(ctx)
	if err != nil {
		if old == nil {
			return nil, err
		}
		m.log.Warn("working with the gossip key of an earlier moment", "err", err)
		return old, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Key = key
	return key, nil
}

// write replaces the file. Before the first facts there is nothing worth it.
func (m *Memory) write(context.Context) error {
	m.mu.Lock()
	now := m.now
	m.mu.Unlock()
	if now.Facts == nil {
		return nil
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(now); err != nil {
		return fmt.Errorf("encoding the speaker's state: %w", err)
	}
	fresh := m.path + ".new"
	err := os.WriteFile(fresh, b.Bytes(), 0o600)
	if err == nil {
		err = os.Rename(fresh, m.path)
	}
	if err != nil {
		m.log.Warn("state not kept", "err", err)
		return fmt.Errorf("keeping the speaker's state: %w", err)
	}
	return nil
}
