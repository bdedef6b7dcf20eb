package kube

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// daemonsets is an API server that knows one DaemonSet and tells what becomes of it.
func daemonsets(t *testing.T, there bool) (cfg *rest.Config, tell func(watch.EventType, *appsv1.DaemonSet)) {
	t.Helper()
	type event struct {
		Type   watch.EventType   `json:"type"`
		Object *appsv1.DaemonSet `json:"object"`
	}
	events := make(chan event, 8)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/apis/apps/v1/namespaces/fairlead-system/daemonsets" || r.URL.Query().Get("fieldSelector") != "metadata.name=fairlead-speaker" {
			http.Error(w, r.URL.String(), http.StatusForbidden) // as RBAC with resourceNames does
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") == "" {
			list := appsv1.DaemonSetList{TypeMeta: metav1.TypeMeta{Kind: "DaemonSetList", APIVersion: "apps/v1"}, ListMeta: metav1.ListMeta{ResourceVersion: "1"}}
			if there {
				list.Items = []appsv1.DaemonSet{*speakers()}
			}
			_ = json.NewEncoder(w).Encode(list)
			return
		}
		if r.URL.Query().Get("sendInitialEvents") == "true" {
			http.Error(w, "no streaming lists here", http.StatusBadRequest)
			return
		}
		for {
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case e := <-events:
				_ = json.NewEncoder(w).Encode(e)
			}
		}
	}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return &rest.Config{Host: srv.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}},
		func(kind watch.EventType, d *appsv1.DaemonSet) { events <- event{kind, d} }
}

func speakers(changes ...func(*appsv1.DaemonSet)) *appsv1.DaemonSet {
	d := &appsv1.DaemonSet{TypeMeta: metav1.TypeMeta{Kind: "DaemonSet", APIVersion: "apps/v1"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: "fairlead-speaker", ResourceVersion: "1"}}
	for _, c := range changes {
		c(d)
	}
	return d
}

func TestRelease(t *testing.T) {
	deleting := func(d *appsv1.DaemonSet) { d.DeletionTimestamp = &metav1.Time{Time: time.Now()} }
	for name, tt := range map[string]struct {
		there bool
		tell  []watch.EventType
		as    []*appsv1.DaemonSet
		want  bool
	}{
		"never there":        {want: false},
		"there":              {there: true, want: false},
		"changed":            {there: true, tell: []watch.EventType{watch.Modified}, as: []*appsv1.DaemonSet{speakers()}, want: false},
		"deleted":            {there: true, tell: []watch.EventType{watch.Deleted}, as: []*appsv1.DaemonSet{speakers()}, want: true},
		"foreground":         {there: true, tell: []watch.EventType{watch.Modified}, as: []*appsv1.DaemonSet{speakers(deleting)}, want: true},
		"deleted, made anew": {there: true, tell: []watch.EventType{watch.Deleted, watch.Added}, as: []*appsv1.DaemonSet{speakers(), speakers()}, want: false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, tell := daemonsets(t, tt.there)
			r, err := NewRelease(cfg, "fairlead-system", "fairlead-speaker")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- r.Run(t.Context()) }()
			for deadline := time.Now().Add(10 * time.Second); !r.informer.HasSynced(); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("not synced")
				}
			}
			last := "1"
			for i := range tt.tell {
				last = fmt.Sprint(i + 2)
				tt.as[i].ResourceVersion = last
				tell(tt.tell[i], tt.as[i])
			}
			for deadline := time.Now().Add(10 * time.Second); r.informer.LastSyncResourceVersion() != last || r.Gone() != tt.want; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					break
				}
			}
			if got := r.Gone(); got != tt.want {
				t.Errorf("gone %v, want %v", got, tt.want)
			}
		})
	}
}
