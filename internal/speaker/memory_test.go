package speaker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

// apiServer is a source of everything that may be away.
type apiServer struct {
	facts kube.Facts
	away  bool
}

// Facts implements FactSource.
func (a *apiServer) Facts(context.Context) (kube.Facts, error) {
	if a.away {
		return kube.Facts{}, errors.New("connection refused")
	}
	return a.facts, nil
}

func (a *apiServer) peers(context.Context) ([]netip.Addr, error) {
	if a.away {
		return nil, errors.New("connection refused")
	}
	return []netip.Addr{netip.MustParseAddr("192.0.2.11")}, nil
}

func (a *apiServer) keys(context.Context) ([]keyring.Key, error) {
	if a.away {
		return nil, errors.New("connection refused")
	}
	return []keyring.Key{{ID: 1, Secret: [keyring.Size]byte{1}}, {ID: 2, Secret: [keyring.Size]byte{2}}}, nil
}

func everything() kube.Facts {
	svc := service(web, vip)
	svc.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	return kube.Facts{
		Services:  []lb.Service{svc},
		Endpoints: lb.EndpointsOf(map[lb.ServiceKey][]lb.Endpoint{web: {endpoint("n1")}}),
		Nodes:     map[lb.NodeName]lb.Node{"n1": {Name: "n1", Labels: map[string]string{"a": "b"}, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.11")}}},
		Pools:     []lb.Pool{{Name: "p", Ranges: []lb.Range{{From: vip, To: vip2}}}},
		L2:        []lb.L2Advertisement{{Name: "all", NodeSelectors: []lb.Selector{{{Key: "a", Op: lb.Exists}}}}},
	}
}

// remember runs a Memory on dir, asks it everything and returns the answers.
func remember(t *testing.T, dir string, a *apiServer) (facts kube.Facts, peers []netip.Addr, keys []keyring.Key) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := OpenMemory(dir, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		waiting, stop := context.WithTimeout(ctx, time.Minute)
		defer stop()
		facts, _ = m.Facts(a).Facts(ctx)
		peers, _ = m.Peers(ctx, a.peers)
		keys, _ = NewKeys(m, a.keys, slog.New(slog.DiscardHandler), prometheus.NewRegistry()).First(waiting)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return facts, peers, keys
}

func TestMemoryOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	if _, peers, keys := remember(t, dir, &apiServer{away: true}); peers != nil || keys != nil {
		t.Errorf("a fresh memory knows %v, %v", peers, keys)
	}
	wantFacts, wantPeers, wantKeys := remember(t, dir, &apiServer{facts: everything()})
	facts, peers, keys := remember(t, dir, &apiServer{away: true})
	if !reflect.DeepEqual(facts, wantFacts) || !reflect.DeepEqual(peers, wantPeers) || !slices.Equal(keys, wantKeys) || len(keys) != 2 {
		t.Errorf("remembered\n%+v %v %v, want\n%+v %v %v", facts, peers, keys, wantFacts, wantPeers, wantKeys)
	}
	if info, err := os.Stat(filepath.Join(dir, memoryFile)); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v: the keys must be readable by us only", info.Mode(), err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v: the directory must be ours only", info.Mode(), err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// encoded is a whole file.
func encoded(t testing.TB, r remembered) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := encodeMemory(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What is not exactly as it was written counts as nothing, and is written anew.
func TestDamagedMemoryIsReported(t *testing.T) {
	good := encoded(t, remembered{Facts: &kube.Facts{}, Peers: []netip.Addr{vip}})
	flipped := slices.Clone(good)
	flipped[len(flipped)-1] ^= 1
	for name, tc := range map[string]struct {
		file []byte
		says string
	}{
		"empty":         {nil, "another version"},
		"garbage":       {[]byte("garbage"), "another version"},
		"later version": {append([]byte("fairlead speaker memory 4\n"), good[len(memoryFormat):]...), "another version"},
		"only begun":    {good[:len(memoryFormat)+5], "cut off"},
		"cut off":       {good[:len(good)-1], "checksum"},
		"a bit flipped": {flipped, "checksum"},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, memoryFile)
		if err := os.WriteFile(file, tc.file, 0o600); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		if m := OpenMemory(dir, slog.New(slog.NewTextHandler(&log, nil))); m.now.Facts != nil || m.now.Peers != nil || !strings.Contains(log.String(), tc.says) {
			t.Errorf("%s: became %+v; log: %s", name, m.now, &log)
		}
		remember(t, dir, &apiServer{facts: everything()})
		if facts, _, _ := remember(t, dir, &apiServer{away: true}); len(facts.Services) != 1 {
			t.Errorf("%s: was not overwritten", name)
		}
	}
}

func FuzzMemory(f *testing.F) {
	facts := everything()
	facts.Others = facts.Services
	good := encoded(f, remembered{Facts: &facts, Keys: []keyring.Key{{ID: 1}}})
	f.Add(good)
	f.Add(good[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeMemory(b)
		if err != nil && (r.Facts != nil || r.Keys != nil || r.Peers != nil) {
			t.Errorf("beside an error came %+v", r)
		}
		// A file with the right checksum and any content must not end the process either.
		b = slices.Concat([]byte(memoryFormat), b)
		sum := sha256.Sum256(b)
		_, _ = decodeMemory(append(b, sum[:]...))
	})
}

func BenchmarkMemory(b *testing.B) {
	facts := everything()
	one := facts.Services[0]
	facts.Services, facts.Endpoints = nil, nil
	for i := range 10_000 {
		s := one
		s.Key.Name = fmt.Sprintf("service-%d", i)
		facts.Services = append(facts.Services, s)
		facts.Endpoints.Set(s.Key, []lb.Endpoint{endpoint("n1"), endpoint("n2"), endpoint("n3")})
	}
	path := filepath.Join(b.TempDir(), memoryFile)
	size := 0
	b.ReportAllocs()
	for b.Loop() {
		if err := replaceFile(path, func(w io.Writer) error { return encodeMemory(w, remembered{Facts: &facts}) }); err != nil {
			b.Fatal(err)
		}
		file, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := decodeMemory(file); err != nil {
			b.Fatal(err)
		}
		size = len(file)
	}
	b.ReportMetric(float64(size), "bytes")
}

func TestMemoryWithoutDirectory(t *testing.T) {
	if facts, _, keys := remember(t, "", &apiServer{facts: everything()}); len(facts.Services) != 1 || keys == nil {
		t.Error("answers are lost where nothing is kept")
	}
}
