package speaker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/runner"
	"github.com/fairlead-lb/fairlead/lb"
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

// remembered is the file's content, encoded by encoding/gob: fields may be added, and old files stay readable. A change that
// gob cannot bridge takes another memoryFormat. What there may be very many of in the facts follows piece by piece, so that no more
// than one of them has to be in memory as text.
type remembered struct {
	Facts *kube.Facts
	Peers []netip.Addr
	Keys  []keyring.Key
}

// piece is one Service of the facts, or the endpoints of one.
type piece struct {
	Service, Other *lb.Service
	Key            lb.ServiceKey
	Endpoints      []lb.Endpoint
}

const (
	memoryFile = "memory"

	// memoryFormat is what the file begins with; what is remembered follows, then the SHA-256 of both.
	memoryFormat = "fairlead speaker memory 3\n"

	askPatience = time.Second      // how long the API server is waited for where there is something to fall back on
	writeRest   = 10 * time.Second // between two writes: some clusters' endpoints change all the time
)

// OpenMemory reads what an earlier process has left in dir, which must exist and belong to Fairlead alone: the gossip keys
// are in there, so it is made accessible to this user only. A file that cannot be read, or is damaged, or of another format,
// is reported and then overwritten. With dir "" nothing is kept.
func OpenMemory(dir string, log *slog.Logger) *Memory {
	m := &Memory{log: log}
	m.writes = runner.New(m.write, runner.Options{MinInterval: writeRest, RetryMin: writeRest, RetryMax: 10 * writeRest})
	if dir == "" {
		return m
	}
	m.path = filepath.Join(dir, memoryFile)
	if err := os.Chmod(dir, 0o700); err != nil {
		log.Warn("state directory not closed to others", "path", dir, "err", err)
	}
	b, err := os.ReadFile(m.path)
	if err == nil {
		m.now, err = decodeMemory(b)
	}
	if err != nil && !os.IsNotExist(err) {
		log.Warn("earlier state not read", "path", m.path, "err", err)
	}
	return m
}

// encodeMemory writes the file.
func encodeMemory(to io.Writer, r remembered) error {
	sum := sha256.New()
	w := io.MultiWriter(to, sum)
	if _, err := io.WriteString(w, memoryFormat); err != nil {
		return err
	}
	head, facts := r, kube.Facts{}
	if r.Facts != nil {
		facts = *r.Facts
		short := facts
		short.Services, short.Others, short.Endpoints = nil, nil, nil
		head.Facts = &short
	}
	e := gob.NewEncoder(w)
	err := e.Encode(head)
	for i := 0; i < len(facts.Services) && err == nil; i++ {
		err = e.Encode(piece{Service: &facts.Services[i]})
	}
	for i := 0; i < len(facts.Others) && err == nil; i++ {
		err = e.Encode(piece{Other: &facts.Others[i]})
	}
	for key, list := range facts.Endpoints.All() {
		if err == nil {
			err = e.Encode(piece{Key: key, Endpoints: list})
		}
	}
	if err == nil {
		_, err = to.Write(sum.Sum(nil))
	}
	if err != nil {
		return fmt.Errorf("encoding the speaker's state: %w", err)
	}
	return nil
}

// decodeMemory returns nothing of a file that is not exactly as it was written.
func decodeMemory(b []byte) (remembered, error) {
	rest, ok := bytes.CutPrefix(b, []byte(memoryFormat))
	if !ok {
		return remembered{}, fmt.Errorf("the file does not begin with %q: it is of another version, or not ours", memoryFormat)
	}
	if len(rest) < sha256.Size {
		return remembered{}, fmt.Errorf("the file of %d bytes is cut off", len(b))
	}
	end := len(b) - sha256.Size
	if got := sha256.Sum256(b[:end]); !bytes.Equal(got[:], b[end:]) {
		return remembered{}, errors.New("the file is damaged: its checksum is wrong")
	}
	r, err := decodePieces(gob.NewDecoder(bytes.NewReader(rest[:len(rest)-sha256.Size])))
	if err != nil {
		return remembered{}, fmt.Errorf("decoding the speaker's state: %w", err)
	}
	return r, nil
}

func decodePieces(d *gob.Decoder) (r remembered, err error) {
	if err := d.Decode(&r); err != nil || r.Facts == nil {
		return r, err
	}
	lists := map[lb.ServiceKey][]lb.Endpoint{}
	for {
		var p piece
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			r.Facts.Endpoints = lb.EndpointsOf(lists)
			return r, nil
		case err != nil:
			return r, err
		case p.Service != nil:
			r.Facts.Services = append(r.Facts.Services, *p.Service)
		case p.Other != nil:
			r.Facts.Others = append(r.Facts.Others, *p.Other)
		default:
			lists[p.Key] = p.Endpoints
		}
	}
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
	r.mu.Lock()
	ctx, cancel := patience(ctx, r.now.Facts != nil)
	r.mu.Unlock()
	defer cancel()
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
	m.mu.Lock()
	ctx, cancel := patience(ctx, m.now.Peers != nil)
	m.mu.Unlock()
	defer cancel()
	peers, err := ask(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		return m.now.Peers, err
	}
	m.now.Peers = peers
	return peers, nil
}

// patience bounds a question to the API server where the answer is known from an earlier moment.
func patience(ctx context.Context, known bool) (context.Context, context.CancelFunc) {
	if !known {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, askPatience)
}

func (m *Memory) keys() []keyring.Key {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now.Keys
}

func (m *Memory) setKeys(keys []keyring.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Keys = keys
	m.writes.Trigger()
}

// write replaces the file. Before the first facts there is nothing worth it.
func (m *Memory) write(context.Context) error {
	m.mu.Lock()
	now := m.now
	m.mu.Unlock()
	if now.Facts == nil {
		return nil
	}
	if err := replaceFile(m.path, func(w io.Writer) error { return encodeMemory(w, now) }); err != nil {
		m.log.Warn("state not kept", "err", err)
		return fmt.Errorf("keeping the speaker's state: %w", err)
	}
	return nil
}

// replaceFile leaves the old content or what write writes at path, whatever happens meanwhile.
func replaceFile(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("making a new file: %w", err)
	}
	buffered := bufio.NewWriter(f)
	err = errors.Join(write(buffered), buffered.Flush(), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", path, err), os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("opening the directory of %s: %w", path, err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}
