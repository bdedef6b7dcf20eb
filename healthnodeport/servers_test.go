package healthnodeport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// started runs Servers until the test ends; what fails arrives in the channel.
func started(t *testing.T) (s *Servers, healthy *atomic.Bool, failures chan string) {
	t.Helper()
	healthy, failures = &atomic.Bool{}, make(chan string, 16)
	healthy.Store(true)
	s, err := NewServers(ServerOptions{Healthy: healthy.Load, Log: slog.New(slog.DiscardHandler),
		Failed: func(key Key, r lb.Refusal) { failures <- fmt.Sprintf("%s %s", key.Service, r) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s, healthy, failures
}

// hold takes a free port of the family's loopback and keeps it until the listener is closed.
func hold(t *testing.T, addr string) (net.Listener, netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(addr, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, netip.MustParseAddrPort(l.Addr().String())
}

func free(t *testing.T, addr string) netip.AddrPort {
	t.Helper()
	l, at := hold(t, addr)
	_ = l.Close()
	return at
}

var client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// ask returns the status, 0 if nobody listens, or -1 if the socket is being closed.
func ask(t *testing.T, at netip.AddrPort, method, path string) (status int, header http.Header, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, fmt.Sprintf("http://%s%s", at, path), strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return 0, nil, ""
	}
	if errors.Is(err, syscall.ECONNRESET) {
		return -1, nil, ""
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// becomes waits until a GET has the status.
func becomes(t *testing.T, at netip.AddrPort, want int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		got, _, _ := ask(t, at, http.MethodGet, "/healthz")
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s answers %d, want %d", at, got, want)
		}
	}
}

func TestH2SocketsOfBothFamiliesOpenWithoutEndpoints(t *testing.T) {
	s, _, _ := started(t)
	v4, v6 := free(t, "127.0.0.1"), free(t, "::1")
	s.Set(map[Key]Check{{web, v4}: {}, {web, v6}: {2}})
	becomes(t, v4, 503)
	becomes(t, v6, 200)
}

// One port at the unspecified addresses of both families, each with its own count.
func TestH2TheFamiliesOfAPortDoNotMeet(t *testing.T) {
	s, _, failures := started(t)
	port := free(t, "127.0.0.1").Port()
	at := func(addr string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(addr), port) }
	s.Set(map[Key]Check{{web, at("0.0.0.0")}: {}, {web, at("::")}: {1}})
	becomes(t, at("127.0.0.1"), 503)
	becomes(t, at("::1"), 200)
	if len(failures) > 0 {
		t.Errorf("failed: %s", <-failures)
	}
}

func TestH3AnyPathAndMethod(t *testing.T) {
	s, healthy, _ := started(t)
	at := free(t, "127.0.0.1")
	s.Set(map[Key]Check{{web, at}: {2}})
	becomes(t, at, 200)
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
		for _, path := range []string{"/", "/healthz", "/a/../b?c=d"} {
			status, header, body := ask(t, at, method, path)
			if status != 200 || header.Get("X-Load-Balancing-Endpoint-Weight") != "2" || !strings.Contains(body, `"localEndpoints": 2`) {
				t.Errorf("%s %s: %d, header %v, body %s", method, path, status, header, body)
			}
		}
	}
	healthy.Store(false)
	becomes(t, at, 503)
}

func TestH7PortsCloseAndMove(t *testing.T) {
	s, _, failures := started(t)
	first, second := free(t, "127.0.0.1"), free(t, "127.0.0.1")
	dns := lb.ServiceKey{Namespace: "default", Name: "dns"}
	s.Set(map[Key]Check{{web, first}: {1}})
	becomes(t, first, 200)
	s.Set(map[Key]Check{{web, second}: {1}, {dns, first}: {}}) // the port goes from one Service to another
	becomes(t, second, 200)
	becomes(t, first, 503)
	if _, _, body := ask(t, first, http.MethodGet, "/"); !strings.Contains(body, `"dns"`) {
		t.Errorf("body %s, want that of dns", body)
	}
	s.Set(nil)
	becomes(t, first, 0)
	becomes(t, second, 0)
	if len(failures) > 0 {
		t.Errorf("failed: %s", <-failures)
	}
}

func TestH2AHeldPortIsReportedAndTakenWhenFree(t *testing.T) {
	s, _, failures := started(t)
	holder, held := hold(t, "127.0.0.1")
	other := free(t, "127.0.0.1")
	dns := lb.ServiceKey{Namespace: "default", Name: "dns"}
	want := map[Key]Check{{web, held}: {1}, {dns, other}: {1}}
	s.Set(want)
	got := <-failures
	for _, part := range []string{"default/web FailedToStartServiceHealthcheck", fmt.Sprint(held.Port()), "kube-proxy"} {
		if !strings.Contains(got, part) {
			t.Errorf("told %q, which lacks %q", got, part)
		}
	}
	becomes(t, other, 200) // the others go on
	_ = holder.Close()
	becomes(t, held, 200)
	if len(failures) > 0 {
		t.Errorf("told again: %s", <-failures)
	}
}

func TestH2AnAddressThatTheNodeDoesNotHave(t *testing.T) {
	s, _, failures := started(t)
	s.Set(map[Key]Check{{web, netip.MustParseAddrPort("203.0.113.7:30123")}: {1}})
	if got := <-failures; !strings.Contains(got, "203.0.113.7") || strings.Contains(got, "kube-proxy") {
		t.Errorf("told %q, want the address and no word of kube-proxy", got)
	}
}
