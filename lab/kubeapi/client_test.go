package kubeapi_test

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/lab/kubeapi"
	"github.com/fairlead-lb/fairlead/lab/pki"
)

// apiServer holds Node objects as the real one does.
type apiServer struct {
	mu    sync.Mutex
	down  bool
	nodes map[string]map[string]any
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.down:
		http.Error(w, "etcd failed", http.StatusInternalServerError)
	case r.URL.Path == "/readyz":
	case r.URL.Path == "/api/v1/nodes" && r.Method == http.MethodPost:
		var node map[string]any
		if err := json.NewDecoder(r.Body).Decode(&node); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		name := node["metadata"].(map[string]any)["name"].(string)
		if _, exists := s.nodes[name]; exists {
			http.Error(w, "already exists", http.StatusConflict)
			return
		}
		s.nodes[name] = node
		w.WriteHeader(http.StatusCreated)
	case r.URL.Path == "/api/v1/nodes":
		var items []any
		for _, name := range []string{"node-1", "node-2"} {
			if node, exists := s.nodes[name]; exists {
				items = append(items, node)
			}
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"items": items}); err != nil {
			panic(err)
		}
	default:
		http.NotFound(w, r)
	}
}

func (s *apiServer) setReady(name, status, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[name]["status"] = map[string]any{"conditions": []any{
		map[string]any{"type": "MemoryPressure", "status": "False"},
		map[string]any{"type": "Ready", "status": status, "reason": reason},
	}}
}

func newClient(t *testing.T) (*kubeapi.Client, *apiServer) {
	t.Helper()
	fake := &apiServer{nodes: map[string]map[string]any{}}
	server := httptest.NewTLSServer(fake)
	t.Cleanup(server.Close)
	ca, err := pki.NewAuthority("ca", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(pki.Leaf{CommonName: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	client, err := kubeapi.New(kubeapi.Options{
		URL:      server.URL,
		CAFile:   write("ca", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
		CertFile: write("cert", pair.Cert),
		KeyFile:  write("key", pair.Key),
	})
	if err != nil {
		t.Fatal(err)
	}
	return client, fake
}

func TestClient(t *testing.T) {
	client, fake := newClient(t)
	ctx := t.Context()
	if err := client.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	cidrs := []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244:1::/64")}
	for range 2 { // the second time it is there
		if err := client.EnsureNode(ctx, "node-1", cidrs); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]any{"podCIDR": "10.244.1.0/24", "podCIDRs": []any{"10.244.1.0/24", "fd00:10:244:1::/64"}}
	if diff := cmp.Diff(want, fake.nodes["node-1"]["spec"]); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if err := client.EnsureNode(ctx, "node-2", cidrs); err != nil {
		t.Fatal(err)
	}
	fake.setReady("node-2", "True", "KubeletReady")
	got, err := client.Nodes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]kubeapi.Node{{Name: "node-1"}, {Name: "node-2", Ready: true, Reason: "KubeletReady"}}, got); diff != "" {
		t.Errorf("Nodes (-want +got):\n%s", diff)
	}
}

func TestClientErrors(t *testing.T) {
	client, fake := newClient(t)
	fake.down = true
	err := client.Ready(t.Context())
	if err == nil || !strings.Contains(err.Error(), "etcd failed") {
		t.Errorf("Ready() = %v, want the server's own words", err)
	}
	if err := client.EnsureNode(t.Context(), "node-1", []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}); err == nil {
		t.Error("EnsureNode() = nil from a server that fails")
	}
	if _, err := kubeapi.New(kubeapi.Options{CAFile: "/does/not/exist"}); err == nil {
		t.Error("New without certificates = nil error")
	}
}
