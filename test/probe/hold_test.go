package probe

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Connections are told apart by who answered first; one that ends, or that somebody else answers, is lost for good.
func TestHold(t *testing.T) {
	var name atomic.Value
	name.Store("a")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name.Load()) }))
	defer server.Close()
	target := netip.MustParseAddrPort(strings.TrimPrefix(server.URL, "http://"))

	first := Hold(t.Context(), target, "/", 7, 10*time.Second)
	name.Store("b")
	second := Hold(t.Context(), target, "/", 3, 10*time.Second)
	for h, want := range map[*Held]string{first: "map[] map[a:7]", second: "map[b:3] map[]"} {
		if r := h.Check(); fmt.Sprint(r.Kept, r.Lost) != want || r.Unopened > 0 {
			t.Errorf("have %+v, want %s", r, want)
		}
	}
	name.Store("a")
	if r := first.Check(); r.Lost["a"] != 7 {
		t.Errorf("what was lost has come back: %+v", r)
	}
	server.CloseClientConnections()
	if r := second.Check(); r.Lost["b"] != 3 || len(r.Errors) == 0 {
		t.Errorf("the server has closed all: %+v", r)
	}
	server.Close()
	if r := Hold(t.Context(), target, "/", 2, 10*time.Second).Check(); r.Unopened != 2 || r.Errors["connection refused"] != 2 {
		t.Errorf("nobody listens: %+v", r)
	}
}
