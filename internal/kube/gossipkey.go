package kube

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// GossipSecret is the name of the Secret that holds the key of the speakers' gossip, GossipSecretKey the entry in it, and
// GossipKeySize the key's size in bytes (AES-256).
const (
	GossipSecret    = "fairlead-gossip"
	GossipSecretKey = "key"
	GossipKeySize   = 32
)

// EnsureGossipKey creates the Secret with a fresh random key where there is none. One that exists is never touched, also
// not a wrong one: the speakers report it.
func EnsureGossipKey(ctx context.Context, live client.Reader, w client.Writer, namespace string) error {
	name := types.NamespacedName{Namespace: namespace, Name: GossipSecret}
	err := live.Get(ctx, name, &corev1.Secret{})
	if err == nil {
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("getting secret %s: %w", name, err)
	}
	key := make([]byte, GossipKeySize)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("generating the gossip key: %w", err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: GossipSecret},
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{GossipSecretKey: key},
	}
	if err := w.Create(ctx, secret); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating secret %s: %w", name, err)
	}
	return nil
}

// GossipKey returns the key in the Secret. Where the Secret does not exist yet, or the API server does not answer, it asks
// again every second until ctx ends. A key of the wrong size is an error at once.
func GossipKey(ctx context.Context, live client.Reader, namespace string) ([]byte, error) {
	name := types.NamespacedName{Namespace: namespace, Name: GossipSecret}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		var secret corev1.Secret
		err := live.Get(ctx, name, &secret)
		if err == nil {
			return parseGossipKey(secret.Data[GossipSecretKey])
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for secret %s: %w; last answer: %w", name, context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// parseGossipKey accepts the raw bytes, and also their base64, which is what people put into a Secret's stringData.
func parseGossipKey(data []byte) ([]byte, error) {
	if len(data) == GossipKeySize {
		return data, nil
	}
	if key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(data))); err == nil && len(key) == GossipKeySize {
		return key, nil
	}
	return nil, fmt.Errorf("reading secret %s: entry %q has %d bytes, want %d random bytes or their base64; delete the Secret and the controller makes a new one",
		GossipSecret, GossipSecretKey, len(data), GossipKeySize)
}
