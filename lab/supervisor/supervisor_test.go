package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/lab/config"
	"github.com/fairlead-lb/fairlead/lab/control"
	"github.com/fairlead-lb/fairlead/lab/kubeapi"
	"github.com/fairlead-lb/fairlead/lab/topology"
)

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgress()
		var early, late []string
		collect := func(texts *[]string) func(control.Step) error {
			return func(s control.Step) error {
				*texts = append(*texts, fmt.Sprint(s.Elapsed, " ", s.Text, s.Error))
				return nil
			}
		}
		followed := make(chan error)
		go func() { followed <- p.follow(t.Context(), collect(&early)) }()
		p.step("etcd is %s", "healthy")
		synctest.Wait()
		if p.hasEnded() || p.isReady() {
			t.Error("ended after the first step")
		}
		time.Sleep(2 * time.Second)
		p.ready("ready")
		if err := <-followed; err != nil {
			t.Error(err)
		}
		if err := p.follow(t.Context(), collect(&late)); err != nil {
			t.Error(err)
		}
		want := []string{"0s etcd is healthy", "2s ready"}
		if diff := cmp.Diff([][]string{want, want}, [][]string{early, late}); diff != "" {
			t.Errorf("steps (-want +got):\n%s", diff)
		}
		if !p.hasEnded() || !p.isReady() {
			t.Error("not ready after the last step")
		}
	})
}

func TestProgressFailure(t *testing.T) {
	p := newProgress()
	p.fail(errors.New("no etcd"))
	if !p.hasEnded() || p.isReady() {
		t.Errorf("ended %v, ready %v after a failure", p.hasEnded(), p.isReady())
	}
}

func TestParseEngine(t *testing.T) {
	tests := []struct{ name, metrics, want string }{
		{"one", "# HELP x y\nfairlead_datapath_engine_info{engine=\"nft\"} 1\n", "nft"},
		{"the active one of two", "fairlead_datapath_engine_info{engine=\"ipvs\"} 0\nfairlead_datapath_engine_info{engine=\"nft\"} 1\n", "nft"},
		{"further labels", "fairlead_datapath_engine_info{a=\"b\",engine=\"ipvs\",mode=\"external\"} 1\n", "ipvs"},
		{"another metric", "fairlead_engine_info{engine=\"nft\"} 1\n", ""},
		{"none", "", ""},
	}
	for _, tt := range tests {
		if got := parseEngine(strings.NewReader(tt.metrics)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func FuzzParseEngine(f *testing.F) {
	f.Add("fairlead_datapath_engine_info{engine=\"nft\"} 1\n")
	f.Fuzz(func(t *testing.T, metrics string) {
		if got := parseEngine(strings.NewReader(metrics)); !strings.Contains(metrics, got) {
			t.Errorf("parseEngine(%q) = %q, which is not in it", metrics, got)
		}
	})
}

func TestAllReady(t *testing.T) {
	ready := kubeapi.Node{Name: "node-1", Ready: true, Reason: "KubeletReady"}
	tests := []struct {
		name  string
		nodes []kubeapi.Node
		want  string // part of the error, "" = nil
	}{
		{"all", []kubeapi.Node{ready, {Name: "node-2", Ready: true}}, ""},
		{"one is not", []kubeapi.Node{ready, {Name: "node-2", Reason: "KubeletNotReady"}}, "node-2 KubeletNotReady"},
		{"one is missing", []kubeapi.Node{ready}, "1 of 2"},
	}
	for _, tt := range tests {
		err := allReady(tt.nodes, 2)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &supervisor{Options: Options{Lab: config.Lab{Slow: 2}, Dir: "/state"}}
		begin := time.Now()
		err := s.await(t.Context(), "etcd", 10*time.Second, func(context.Context) error { return errors.New("connection refused") })
		if elapsed := time.Since(begin); elapsed != 20*time.Second {
			t.Errorf("gave up after %v, want 10s made 20s by a slow machine", elapsed)
		}
		for _, word := range []string{"etcd", "connection refused", "/state/logs"} {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("await = %v, want an error with %q", err, word)
			}
		}
		tries := 0
		err = s.await(t.Context(), "etcd", time.Second, func(context.Context) error {
			if tries++; tries < 3 {
				return errors.New("not yet")
			}
			return nil
		})
		if err != nil || tries != 3 {
			t.Errorf("await = %v after %d tries, want nil after 3", err, tries)
		}
	})
}

// Requests that make no sense are refused before anything is touched.
func TestRoutesRefuse(t *testing.T) {
	s := &supervisor{
		Options:  Options{Log: slog.New(slog.DiscardHandler)},
		progress: newProgress(),
		plan:     topology.Plan(2, false),
	}
	post := func(path string) string {
		recorder := httptest.NewRecorder()
		s.routes().ServeHTTP(recorder, httptest.NewRequest("POST", path, nil))
		return strings.TrimSpace(fmt.Sprint(recorder.Code, " ", recorder.Body))
	}
	if got, want := post("/v1/nodes/node-1/poweroff"), "409 the lab is not up yet"; got != want {
		t.Errorf("too early: %s, want %s", got, want)
	}
	s.progress.ready("ready")
	tests := []struct{ path, want string }{
		{"/v1/nodes/router/poweroff", `409 "router" is not a node; nodes are called node-1 and so on`},
		{"/v1/nodes/node-3/poweroff", `409 no member "node-3"; there are router, client, node-1, node-2`},
		{"/v1/nodes/node-1/poweroff", "409 node-1 is off already"},
		{"/v1/links/node-1/cut", "409 node-1 is off"},
		{"/v1/apiserver/stop", "409 the lab never came as far as an API server"},
		{"/v1/nodes/node-1/explode", "404 404 page not found"},
	}
	for _, tt := range tests {
		if got := post(tt.path); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.path, got, tt.want)
		}
	}
}
