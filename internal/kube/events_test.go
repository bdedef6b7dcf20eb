package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// eventAPI is an API server that keeps Events and takes 30 milliseconds for each, one at a time.
type eventAPI struct {
	client.Writer
	busy   bool
	events []*eventsv1.Event
	refuse bool
}

func (a *eventAPI) Create(ctx context.Context, o client.Object, _ ...client.CreateOption) error {
	if a.busy {
		return errors.New("two at a time")
	}
	a.busy = true
	defer func() { a.busy = false }()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(30 * time.Millisecond):
	}
	if a.refuse {
		return errors.New("refused")
	}
	a.events = append(a.events, o.(*eventsv1.Event))
	return nil
}

func TestEvents(t *testing.T) {
	for name, c := range map[string]struct {
		flood  int
		refuse bool
		after  time.Duration // that the process is told to end
		sent   int
		drops  uint64
	}{
		"one":             {flood: 1, after: time.Second, sent: 1},
		"flood":           {flood: 5000, after: 3 * time.Minute, sent: 5000},
		"too many":        {flood: eventBacklog + 7, after: 6 * time.Minute, sent: eventBacklog, drops: 7},
		"refused":         {flood: 3, refuse: true, after: time.Second, drops: 3},
		"the end is near": {flood: 60, after: time.Second, sent: 60},
		"the end is here": {flood: 500, after: time.Second, sent: 100, drops: 1}, // in three seconds; the last is broken off
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &eventAPI{refuse: c.refuse}
				e := newEvents(api, logr.Discard(), Scheme())
				for i := range c.flood {
					e.Eventf(web(), nil, corev1.EventTypeNormal, "Allocated", "Allocate", "%s", fmt.Sprint(i))
				}
				ctx, cancel := context.WithTimeout(t.Context(), c.after-5*time.Millisecond)
				defer cancel()
				if err := e.Start(ctx); err != nil {
					t.Fatal(err)
				}
				if len(api.events) != c.sent || e.Dropped() != c.drops {
					t.Errorf("%d sent, %d dropped; want %d, %d", len(api.events), e.Dropped(), c.sent, c.drops)
				}
				for i, event := range api.events {
					if event.Note != fmt.Sprint(i) || event.Regarding.Name != "web" || event.Regarding.Kind != "Service" || event.Reason != "Allocated" {
						t.Fatalf("Event %d: %+v", i, event)
					}
				}
			})
		})
	}
}

func TestEventNoteIsCut(t *testing.T) {
	e := newEvents(&eventAPI{}, logr.Discard(), Scheme())
	e.Eventf(web(), nil, corev1.EventTypeNormal, "Allocated", "Allocate", "%s", strings.Repeat("x", 2000))
	if got := (<-e.queue).Note; len(got) != maxNote || !strings.HasSuffix(got, "x...") {
		t.Errorf("a note of %d bytes", len(got))
	}
}
