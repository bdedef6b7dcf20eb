package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// WebhookSecret is the name of the Secret that holds the webhook's certificates; package pki names its entries.
const WebhookSecret = "fairlead-webhook"

// WebhookStore reads and writes, past the cache, where the webhook's certificates live: the Secret, and the configuration in
// which the API server finds whom to trust. Every write fails with a conflict, for which [IsConflict] is true, if
// somebody else has written since the read that it builds on.
type WebhookStore struct {
	live   client.Reader
	writer client.Client
	events events.EventRecorder
	secret client.ObjectKey
	name   string // of the ValidatingWebhookConfiguration
}

// NewWebhookStore returns the store for the ValidatingWebhookConfiguration called name.
func NewWebhookStore(mgr manager.Manager, opts Options, name string) *WebhookStore {
	return &WebhookStore{
		live: mgr.GetAPIReader(), writer: mgr.GetClient(), events: mgr.GetEventRecorder(FieldOwner),
		secret: client.ObjectKey{Namespace: opts.Namespace, Name: WebhookSecret}, name: name,
	}
}

// WebhookConfig is the part of the configuration that is ours.
type WebhookConfig struct {
	Version string   // metadata.resourceVersion
	Bundles [][]byte // of each webhook in it, in PEM
}

// Trusts reports whether every webhook of the configuration has the bundle.
func (c WebhookConfig) Trusts(bundle []byte) bool {
	for _, have := range c.Bundles {
		if !bytes.Equal(have, bundle) {
			return false
		}
	}
	return true
}

// Config reads the configuration.
func (s *WebhookStore) Config(ctx context.Context) (WebhookConfig, error) {
	var c admissionregistrationv1.ValidatingWebhookConfiguration
	if err := s.live.Get(ctx, client.ObjectKey{Name: s.name}, &c); err != nil {
		return WebhookConfig{}, fmt.Errorf("getting ValidatingWebhookConfiguration %s: %w", s.name, err)
	}
	out := WebhookConfig{Version: c.ResourceVersion}
	for _, w := range c.Webhooks {
		out.Bundles = append(out.Bundles, w.ClientConfig.CABundle)
	}
	return out, nil
}

// WriteBundle puts the bundle into every webhook of the configuration that c was read from.
func (s *WebhookStore) WriteBundle(ctx context.Context, c WebhookConfig, bundle []byte) error {
	patch := []map[string]any{{"op": "replace", "path": "/metadata/resourceVersion", "value": c.Version}}
	for i := range c.Bundles {
		patch = append(patch, map[string]any{"op": "add", "path": fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), "value": bundle})
	}
	body, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encoding the bundle: %w", err)
	}
	target := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: s.name}}
	if err := s.writer.Patch(ctx, target, client.RawPatch(types.JSONPatchType, body), client.FieldOwner(FieldOwner)); err != nil {
		return fmt.Errorf("writing the bundle to ValidatingWebhookConfiguration %s: %w", s.name, err)
	}
	return nil
}

// Secret returns the Secret's data and its version, none and "" if there is no Secret.
func (s *WebhookStore) Secret(ctx context.Context) (data map[string][]byte, version string, err error) {
	var secret corev1.Secret
	err = s.live.Get(ctx, s.secret, &secret)
	if apierrors.IsNotFound(err) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("getting secret %s: %w", s.secret, err)
	}
	return secret.Data, secret.ResourceVersion, nil
}

// WriteSecret replaces the Secret's data, which was read at version; entries of old that data lacks are taken away.
func (s *WebhookStore) WriteSecret(ctx context.Context, version string, old, data map[string][]byte) error {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.secret.Namespace, Name: s.secret.Name}, Type: corev1.SecretTypeOpaque, Data: data}
	if version == "" {
		if err := s.writer.Create(ctx, secret, client.FieldOwner(FieldOwner)); err != nil {
			return fmt.Errorf("creating secret %s: %w", s.secret, err)
		}
		return nil
	}
	entries := map[string]any{}
	for name := range old {
		entries[name] = nil
	}
	for name, value := range data {
		entries[name] = value
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": version}, "data": entries})
	if err != nil {
		return fmt.Errorf("encoding secret %s: %w", s.secret, err)
	}
	if err := s.writer.Patch(ctx, secret, client.RawPatch(types.MergePatchType, body), client.FieldOwner(FieldOwner)); err != nil {
		return fmt.Errorf("writing secret %s: %w", s.secret, err)
	}
	return nil
}

// Warn records an Event on the configuration, if there is one.
func (s *WebhookStore) Warn(ctx context.Context, message string) {
	var c admissionregistrationv1.ValidatingWebhookConfiguration
	if err := s.live.Get(ctx, client.ObjectKey{Name: s.name}, &c); err == nil {
		s.events.Eventf(&c, nil, corev1.EventTypeWarning, "WebhookNotReady", "Certify", "%s", message)
	}
}

// IsConflict reports whether somebody else wrote first.
func IsConflict(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err)
}
