package speaker

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

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

func (a *apiServer) key(ctx context.Context) ([]byte, error) {
	if a.away {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return []byte("0123456789abcdef0123456789abcdef"), nil
}

func everything() kube.Facts {
	svc := service(web, vip)
	svc.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	return kube.Facts{
		Services:  []lb.Service{svc},
		Endpoints: map[lb.ServiceKey][]lb.Endpoint{web: {endpoint("n1")}},
		Nodes:     map[lb.NodeName]lb.Node{"n1": {Name: "n1", Labels: map[string]string{"a": "b"}, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.11")}}},
		Pools:     []lb.Pool{{Name: "p", Ranges: []lb.Range{{From: vip, To: vip2}}}},
		L2:        []lb.L2Advertisement{{Name: "all", NodeSelectors: []lb.Selector{{{Key: "a", Op: lb.Exists}}}}},
	}
}

// remember runs a Memory on dir, asks it everything and returns the answers.
func remember(t *testing.T, dir string, a *apiServer) (facts kube.Facts, peers []netip.Addr, key []byte) {
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
		key, _ = m.Key(waiting, a.key)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return facts, peers, key
}

func TestMemoryOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	if _, peers, key := remember(t, dir, &apiServer{away: true}); peers != nil || key != nil {
		t.Errorf("a fresh memory knows %v, %v", peers, key)
	}
	wantFacts, wantPeers, wantKey := remember(t, dir, &apiServer{facts: everything()})
	facts, peers, key := remember(t, dir, &apiServer{away: true})
	if !reflect.DeepEqual(facts, wantFacts) || !reflect.DeepEqual(peers, wantPeers) || string(key) != string(wantKey) {
		t.Errorf("remembered\n%+v %v %q, want\n%+v %v %q", facts, peers, key, wantFacts, wantPeers, wantKey)
	}
	file := filepath.Join(dir, memoryFile)
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v: the key must be readable by us only", info.Mode(), err)
	}
	if err := os.WriteFile(file, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if facts, _, _ := remember(t, dir, &apiServer{away: true}); facts.Services != nil {
		t.Errorf("out of garbage came %+v", facts)
	}
}

func TestMemoryWithoutDirectory(t *testing.T) {
	if facts, _, key := remember(t, "", &apiServer{facts: everything()}); len(facts.Services) != 1 || key == nil {
		t.Error("answers are lost where nothing is kept")
	}
}
