package kube

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/election/keyring"
)

func keeper(t *testing.T, live client.Reader, w client.Writer) *GossipKeeper {
	t.Helper()
	k, err := NewGossipKeeper(live, w, Options{Namespace: home}, keyring.Policy{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func gossipSecret(t *testing.T, c client.Reader) *corev1.Secret {
	t.Helper()
	var s corev1.Secret
	if err := c.Get(t.Context(), types.NamespacedName{Namespace: home, Name: GossipSecret}, &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

func keep(t *testing.T, k *GossipKeeper, now time.Time) {
	t.Helper()
	if err := k.Keep(t.Context(), now); err != nil {
		t.Fatal(err)
	}
}

func TestGossipKeyIsMadeOnce(t *testing.T) {
	c, now := newFake(), time.Unix(1_000_000, 0)
	if _, err := GossipKeys(t.Context(), c, home); err == nil || !strings.Contains(err.Error(), GossipSecret) {
		t.Errorf("reading what is not there: %v", err)
	}
	k := keeper(t, c, c)
	keep(t, k, now)
	keys, err := GossipKeys(t.Context(), c, home)
	if err != nil || len(keys) != 1 {
		t.Fatalf("%v, %v", keys, err)
	}
	keep(t, k, now.Add(time.Hour))
	keep(t, keeper(t, newFake(), c), now) // another replica, which has lost the race
	if again, err := GossipKeys(t.Context(), c, home); err != nil || !slices.Equal(again, keys) {
		t.Errorf("the key was overwritten: %v, %v", again, err)
	}
}

func TestGossipKeyRotates(t *testing.T) {
	c, now := newFake(), time.Unix(1_000_000, 0)
	k := keeper(t, c, c)
	keep(t, k, now)
	first, _ := GossipKeys(t.Context(), c, home)
	s := gossipSecret(t, c)
	s.Annotations[AnnotationRotate] = "true"
	if err := c.Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after   time.Duration
		entries string
		newer   bool // the new key is the one to use
	}{
		{10 * time.Second, "key next", false},
		{10 * time.Second, "key next", false},
		{keyring.DefaultInstallWait, "key previous", true},
		{time.Hour, "key previous", true},
		{keyring.DefaultRetireWait, "key", true},
		{100 * keyring.DefaultRetireWait, "key", true}, // asked for once, done once
	} {
		now = now.Add(step.after)
		keep(t, k, now)
		s := gossipSecret(t, c)
		if got := strings.Join(slices.Sorted(maps.Keys(s.Data)), " "); got != step.entries {
			t.Fatalf("at %s: entries %q, want %q", now, got, step.entries)
		}
		keys, err := GossipKeys(t.Context(), c, home)
		if err != nil || (keys[0] != first[0]) != step.newer || s.Annotations[AnnotationRotate] != "" {
			t.Errorf("at %s: keys %v after %v, annotations %v, %v", now, keys, first, s.Annotations, err)
		}
	}
}

func TestWrongGossipSecretIsLeftAlone(t *testing.T) {
	c := newFake()
	k := keeper(t, c, c)
	keep(t, k, time.Unix(1_000_000, 0))
	s := gossipSecret(t, c)
	s.Data[keyring.EntryNext] = []byte("truncated")
	s.Annotations[AnnotationRotate] = "true"
	if err := c.Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := k.Keep(t.Context(), time.Unix(2_000_000, 0)); !errors.Is(err, keyring.ErrEntry) || !strings.Contains(err.Error(), "remove the entry") {
		t.Errorf("%v", err)
	}
	if got := gossipSecret(t, c); string(got.Data[keyring.EntryNext]) != "truncated" || got.ResourceVersion != s.ResourceVersion {
		t.Errorf("it was touched: %v", got)
	}
	if keys, err := GossipKeys(t.Context(), c, home); len(keys) != 1 || !errors.Is(err, keyring.ErrEntry) {
		t.Errorf("a speaker that starts gets %v, %v", keys, err)
	}
}

// away is an API server that does not answer at first.
type away struct {
	client.Client
	times int
}

// Get implements client.Reader.
func (a *away) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if a.times--; a.times >= 0 {
		return errors.New("connection refused")
	}
	return a.Client.Get(ctx, key, obj, opts...)
}

func TestKeeperKeepsTrying(t *testing.T) {
	c := newFake()
	k := keeper(t, &away{c, 1}, c)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Start(ctx) }()
	for {
		var s corev1.Secret
		if c.Get(ctx, types.NamespacedName{Namespace: home, Name: GossipSecret}, &s) == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
