package kube

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
)

// recording keeps the query of the last request.
type recording struct{ query string }

func (r *recording) RoundTrip(req *http.Request) (*http.Response, error) {
	r.query = req.URL.RawQuery
	return &http.Response{}, nil
}

func TestTheServerIsToldHowLongTheClientWaits(t *testing.T) {
	for name, c := range map[string]struct {
		query string
		limit time.Duration // 0 for none
		want  string
		fails bool
	}{
		"no limit":  {"watch=1", 0, "watch=1", false},
		"limit":     {"fieldManager=m", 4500 * time.Millisecond, "fieldManager=m&timeout=4.5s", false},
		"said":      {"timeout=2s", time.Second, "timeout=2s", false},
		"run out":   {"", -time.Second, "", true},
		"right now": {"", time.Nanosecond, "timeout=1ns", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if c.limit != 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.limit)
					defer cancel()
				}
				next := &recording{}
				req, err := http.NewRequestWithContext(ctx, http.MethodPatch, "https://192.0.2.1/api?"+c.query, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				_, err = patience{next}.RoundTrip(req)
				if (err != nil) != c.fails || next.query != c.want {
					t.Errorf("query %q, error %v; want %q", next.query, err, c.want)
				}
				if req.URL.RawQuery != c.query {
					t.Error("the caller's request was changed")
				}
			})
		})
	}
}

func TestConnectionsGiveUpUndeliveredData(t *testing.T) {
	asked := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.Query().Get("timeout") }))
	defer server.Close()
	given := &rest.Config{Host: server.URL}
	cfg := bounded(given)
	if given.Dial != nil || given.WrapTransport != nil {
		t.Error("the given configuration was changed")
	}
	conn, err := cfg.Dial(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if got := userTimeout(t, raw); got != deliveryLimit {
		t.Errorf("TCP_USER_TIMEOUT is %v, want %v", got, deliveryLimit)
	}
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if got, err := time.ParseDuration(<-asked); err != nil || got <= 0 || got > time.Minute {
		t.Errorf("the server was told to take %v (%v), want up to a minute", got, err)
	}
}

func userTimeout(t *testing.T, conn syscall.RawConn) time.Duration {
	t.Helper()
	var ms int
	var failed error
	if err := conn.Control(func(fd uintptr) { ms, failed = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return time.Duration(ms) * time.Millisecond
}
