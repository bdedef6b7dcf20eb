package control_test

import (
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/lab/control"
)

func serve(t *testing.T, handler http.Handler) *control.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return control.NewClient(path)
}

func TestRequests(t *testing.T) {
	var got []string
	client := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.URL.String())
	}))
	ctx := t.Context()
	for _, err := range []error{
		client.PowerOff(ctx, "node-1"), client.PowerOn(ctx, "node-1"), client.CutLink(ctx, "node-2"), client.HealLink(ctx, "node-2"),
		client.StopAPIServer(ctx, false), client.StopAPIServer(ctx, true), client.StartAPIServer(ctx),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	want := []string{
		"POST /v1/nodes/node-1/poweroff", "POST /v1/nodes/node-1/poweron", "POST /v1/links/node-2/cut", "POST /v1/links/node-2/heal",
		"POST /v1/apiserver/stop", "POST /v1/apiserver/stop?force", "POST /v1/apiserver/start",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestErrors(t *testing.T) {
	client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "node-9 is off already", http.StatusConflict)
	}))
	if err := client.PowerOff(t.Context(), "node-9"); err == nil || err.Error() != "node-9 is off already" {
		t.Errorf("PowerOff() = %v, want the supervisor's words alone", err)
	}
	nobody := control.NewClient(filepath.Join(t.TempDir(), "socket"))
	if _, err := nobody.Members(t.Context()); err == nil || !strings.Contains(err.Error(), "asking the supervisor") {
		t.Errorf("Members() = %v without a supervisor", err)
	}
}

func TestProgress(t *testing.T) {
	tests := []struct {
		name, body string
		want       []string
		ok         bool
	}{
		{"ready", `{"text":"a"}` + "\n" + `{"text":"b","ready":true}` + "\n" + `{"text":"c"}`, []string{"a", "b"}, true},
		{"failed", `{"text":"a"}` + "\n" + `{"error":"no"}`, []string{"a", ""}, true},
		{"supervisor killed", `{"text":"a"}` + "\n", []string{"a"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if _, err := w.Write([]byte(tt.body)); err != nil {
					t.Error(err)
				}
			}))
			var got []string
			err := client.Progress(t.Context(), func(s control.Step) { got = append(got, s.Text) })
			if (err == nil) != tt.ok {
				t.Errorf("Progress() = %v, want ok %v", err, tt.ok)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
}
